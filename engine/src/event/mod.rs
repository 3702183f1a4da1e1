//! The typed life of a message, and the log writer.

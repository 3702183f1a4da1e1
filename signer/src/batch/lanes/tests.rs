//! The lanes.

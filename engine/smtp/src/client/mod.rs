//! A client session as a pure state machine.

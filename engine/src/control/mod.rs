//! The control runtime: local control socket, reload, password hashing, signing keys, off the data
//! threads.
//!
//! It asks the shards by channel and never touches what they own.

pub mod client;
pub mod dns;
mod file;
pub mod keys;
mod runtime;
pub mod socket;

pub use runtime::{Control, ControlOptions, Reload};

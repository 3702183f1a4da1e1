//! The relay engine. A message walks through these rooms in order; `docs/architecture.md` has the
//! picture and the rules.

#![deny(unsafe_code)]

pub mod access;
pub mod command;
pub mod config;
pub mod control;
pub mod deliver;
pub mod event;
pub mod intake;
pub mod io;
pub mod order;
pub mod queue;
pub mod route;
pub mod shard;
pub mod signing;
pub mod spool;

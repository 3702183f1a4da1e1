//! One arriving message: chunks, trace fields, findings, verdict.
//!
//! Invariants: a chunk is read in place and copied once; memory is bounded by the draft's blocks,
//! the filters' state and one partial header line; a message that must be refused is taken to its
//! true end and nothing of it is kept.

pub mod header;
pub mod incoming;
pub mod meta;
pub mod trace;

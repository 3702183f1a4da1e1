//! The relay as its users see it: an application's mail in, a next hop's mail out.

mod access;
mod content;
mod cutoff;
mod delivery;
mod demo;
mod keys;
mod lifecycle;
mod memory;
mod queue;
mod signing;
mod space;

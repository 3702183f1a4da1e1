//! What measurements are made with: a relay, loads on it, and the CPU time of both.

pub mod cpu;
pub mod load;
pub mod place;
pub mod relay;
pub mod sink;

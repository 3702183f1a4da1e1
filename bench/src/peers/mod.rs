//! Servers to compare with. Each is private: own configuration, own folders, loopback only.
//!
//! What they need beside code lies in `bench/peers/`.

pub mod postfix;
pub mod tokio_uring;

//! Figures of Postern, each beside a peer's in the same run.
//!
//! `postern-bench ratios` measures whole relays and whole rooms, ours and the peer's in turns, and
//! prints one line a case. The criterion benches in `benches/` time the small parts for whoever
//! works on one of them; both take their inputs from [`input`].
//!
//! - [`subjects`]: one file a subject, and the list of them. A new subject is a file there and its
//!   line in the list.
//! - [`case`]: what a case prints.
//! - [`rounds`]: how ours and the peer take turns, and the median of it.
//! - [`rig`]: relays, loads, and the CPU time of processes.
//! - [`peers`]: servers to compare with.
//! - [`leakage`]: whether the time of a signature tells anything; a finding, not a ratio.
//!
//! # How to read a figure
//! CPU time of the *server*, of all its threads and children, per message: it is steadier than a
//! rate on a machine that does other work too, and it is what a machine costs. Nothing is compared
//! across runs: only the ratio of two figures of one run is a finding, and one within a tenth of 1
//! is none.
//!
//! # Must never
//! Use the network beyond loopback; touch an installed server's own files; leave a process behind.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod case;
pub mod command;
pub mod input;
pub mod leakage;
pub mod peers;
pub mod rig;
pub mod rounds;
pub mod subjects;

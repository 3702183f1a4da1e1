//! Load for a mail relay, and proof of what came out of it.
//!
//! [`source`] plays applications that hand messages in; [`sink`] plays the next hop that takes them.
//! Each message carries an id and a hash of its body, so the sink knows every message again and sees
//! any change; both sides keep a [`ledger`], and [`verify`] compares the two: lost, duplicated,
//! corrupted, or delivered though refused.
//!
//! The wire code here ([`wire`]) is deliberately not that of the relay: a relay and a tester that
//! share one parser share its mistakes, and would agree on them.
//!
//! What fails and how: a summary counts what the network and the other side did; only our own faults
//! (a ledger that cannot be written, an address that cannot be bound) are errors.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod command;
pub mod histogram;
pub mod ledger;
pub mod message;
pub mod sink;
pub mod source;
pub mod transport;
pub mod verify;
pub mod wire;

//! SMTP as pure state machines.
//!
//! Grammar, replies, data framing, and both ends of a session (RFC 5321 and its extensions), with
//! no socket, no clock, no thread and no async: bytes and a `now` come in, replies, events and the
//! next deadline come out. The relay, the load generator, the fuzz targets and the benches all
//! drive the same code.
//!
//! # Rooms
//! - [`address`]: mailboxes and paths, parsed in place over the received bytes.
//! - [`param`]: ESMTP parameters of MAIL and RCPT, and xtext.
//! - [`reply`]: replies and enhanced status codes, written and read.
//! - [`data`]: where a message ends, and the one form in which content is handed on.
//! - [`server`], [`client`]: the two sessions.
//! - [`fuzz`]: bodies for fuzz targets, also replayed by the tests.
//!
//! # Invariants
//! - Content handed out is always in wire form: CRLF line ends, dot-stuffed, no bare CR, no bare
//!   LF, no NUL. Only CRLF.CRLF ends DATA.
//! - However the byte stream is cut into reads, the events and the replies are the same.
//! - Every buffer has a named bound; an idle session owns no buffer at all.
//!
//! # Security
//! Past faults of the field and where they are met here: end-of-data smuggling in [`data`],
//! command and response injection around STARTTLS in [`server`] and [`client`], command floods in
//! [`server::ServerOptions`], control characters in addresses and parameters in [`address`] and
//! [`param`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod client;
mod command;
pub mod data;
pub mod fuzz;
pub mod param;
pub mod reply;
pub mod server;
#[cfg(test)]
mod tests;

//! The harness of the whole-system tests: it sees Postern only from outside.
//!
//! A test starts the real `postern` binary in a folder of its own, speaks SMTP to it over sockets,
//! and lets it deliver to a sink, or to Postfix, that keeps what arrives byte for byte. Everything
//! listens on loopback; a relay, a sink and a helper process end with the value that owns them.

pub mod address;
pub mod binary;
pub mod client;
pub mod dns;
pub mod ledger;
pub mod message;
pub mod mount;
pub mod postfix;
pub mod relay;
pub mod sink;
pub mod source;
pub mod tls;
pub mod tool;
pub mod verifier;

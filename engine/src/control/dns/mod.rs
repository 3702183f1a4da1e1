//! DNS for signing keys: looks at what servers have, and publishes by dynamic update or zone file.
//!
//! - [`Looker`] asks every authoritative server of a name, and every resolver it was given, and
//!   says for each what it has: a [`Sighting`]. It decides nothing: how many sightings are proof is
//!   the key lifecycle's.
//! - [`Updater`] adds, replaces and withdraws one TXT record (RFC 2136), signed with TSIG
//!   (RFC 8945), and only where it finds what it knows: a second writer is noticed, not overwritten.
//! - [`write_zone_file`] writes the same records as text that a zone can `$INCLUDE`.
//!
//! Every question has a time limit and a bound on attempts, every answer is matched with its
//! question, and every server is asked at the same time as the others. Nothing here blocks, but
//! the files, which are small.
//!
//! Security: answers are not validated with DNSSEC here; a resolver that validates says SERVFAIL
//! for what is bogus. A sighting only ever makes a key wait or go on to sign, so that a forged one
//! costs mail that does not verify; the authoritative servers are asked directly for that reason.
//! The TSIG secret has no `Debug`, and no error shows it.

mod exchange;
mod look;
mod sighting;
mod tsig;
mod update;
mod zone;

#[cfg(test)]
mod tests;

pub use look::{LookOptions, Looker, system_resolvers};
pub use sighting::{Look, Role, Server, ServerSighting, Sighting};
pub use tsig::{TsigAlgorithm, TsigKey, TsigKeyError};
pub use update::{Change, Done, UpdateError, UpdateOptions, Updater};
pub use zone::write_zone_file;

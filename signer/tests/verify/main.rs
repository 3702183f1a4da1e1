//! Signed messages before other people's verifiers: mail-auth, dkimpy, OpenDKIM.
//!
//! Each verifier gets every message of the corpus in all four pairs of canonicalisation, and must
//! refuse each once a byte of it has changed. Programs that are not installed are skipped with a
//! line that says so; where `POSTERN_REQUIRE` names one, or says `all`, that is a failure.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests stand outside the signer: they run programs and write files for them"
)]

mod corpus;
mod mail_auth_verifier;
#[path = "../common/skip.rs"]
mod skip;
mod tools;

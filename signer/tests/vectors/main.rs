//! RSA against published vectors and against `ring`: Wycheproof, NIST CAVP, and many signatures.

#![allow(clippy::print_stdout, reason = "tests say what they did and what they skip")]
#![allow(clippy::disallowed_methods, reason = "how much is tested is set by the environment")]

mod cavp;
mod many;
mod rfc6376;
#[path = "../common/skip.rs"]
mod skip;
mod wycheproof;

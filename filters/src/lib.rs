//! Outbound mail filtering over chunks as they arrive.
//!
//! A [`Scan`] is fed the plain form of one message (header section and body, dot-unstuffed) in
//! chunks of any size, in place, while the message is still being received. It walks the MIME
//! structure, undoes the transfer encoding and the charset of text parts, and shows the text to
//! the detectors. At the end of data [`Scan::finish`] gives the [`Finding`]s and the policy's
//! [`Verdict`] over them.
//!
//! ```
//! use std::sync::Arc;
//! use postern_filters::{Config, Filters, Scan, Verdict};
//!
//! let filters = Arc::new(Filters::new(Config::default())?);
//! let mut scan = Scan::new(&filters);
//! scan.feed(b"Subject: order\r\n\r\nPlease charge 4111 1111 ");
//! scan.feed(b"1111 1111, thank you\r\n");
//! let outcome = scan.finish();
//! let Verdict::Reject(rejection) = &outcome.verdict else { panic!("a card number passed") };
//! assert_eq!(rejection.to_string(), "credit_card part=1 count=1 rule=dlp.credit_card");
//! # Ok::<(), postern_filters::ConfigError>(())
//! ```
//!
//! # Invariants
//! - The outcome depends on the message only, never on how it was cut into chunks.
//! - State per open message is at most [`SCAN_BYTES_MAX`]; an untouched `Scan` holds no heap memory.
//! - What could not be looked into is a finding (`unscannable.<why>`), never a silent pass.
//! - Time is linear in the message for any input.
//!
//! # What it must never do
//! Do I/O, read a clock, start a thread; put message content into a finding, a verdict or a log.
//!
//! # Security
//! Every byte comes from a source that may be hostile. There is no `unsafe` here, no recursion,
//! and every buffer, nesting and list has a named bound with a finding at the bound.
//!
//! # Failures
//! Only [`Filters::new`] can fail, on a configuration that could never work. Scanning cannot.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod detect;
#[doc(hidden)]
pub mod fuzz;
mod limits;
mod mime;
mod policy;
mod scan;
pub mod validate;

pub use detect::{Confidence, DISTINCT_MAX, Detector, Finding, NumberKind};
pub use limits::{DEPTH_LIMIT, HEADER_BYTES_LIMIT, Limits, PARTS_LIMIT};
pub use mime::PartPath;
pub use policy::{Action, Config, ConfigError, Rejection, Rule, Verdict};
pub use scan::{Filters, Outcome, SCAN_BYTES_MAX, Scan};

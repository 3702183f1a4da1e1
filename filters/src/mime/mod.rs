//! The MIME structure of a message (RFC 2045 to 2049), taken apart while it arrives.
//!
//! [`Walk`] cuts the message at boundaries and header ends and hands the text of each part, with
//! transfer encoding (`transfer`) and charset (`charset`) undone, to the detectors.

mod charset;
mod field;
mod path;
mod transfer;
mod walk;

pub use path::PartPath;
pub(crate) use walk::{Context, Walk};

//! The MIME structure of a message, taken apart while it arrives.

mod path;

pub use path::PartPath;

//! How deep, how wide and how long a message may be before the walk stops taking it apart.
//!
//! A breach is a finding, and the bytes behind it are still looked at as plain text. The hard
//! limits exist so that no configuration can raise the state of an open message above
//! [`SCAN_BYTES_MAX`](crate::SCAN_BYTES_MAX).

/// Deepest nesting that can be configured.
pub const DEPTH_LIMIT: usize = 16;

/// Most parts that can be configured.
pub const PARTS_LIMIT: usize = 10_000;

/// Longest header section that can be configured, bytes.
pub const HEADER_BYTES_LIMIT: usize = 4 << 20;

/// Longest boundary followed, bytes. RFC 2046 5.1.1 allows 70; some mailers write more.
pub(crate) const BOUNDARY_BYTES_MAX: usize = 200;

/// Longest piece of one unfolded header field kept at a time, bytes. Longer fields are scanned in
/// pieces cut at white space; the structured ones (`Content-Type` ...) count as breached.
pub(crate) const FIELD_BYTES_MAX: usize = 2048;

/// Bounds on taking one message apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nested multiparts and messages (`unscannable.depth`), 1 to [`DEPTH_LIMIT`].
    pub depth_max: usize,
    /// MIME parts, leaves and containers together (`unscannable.parts`), 1 to [`PARTS_LIMIT`].
    pub parts_max: usize,
    /// Bytes of one header section, of the message or of a part (`unscannable.header`),
    /// 1,024 to [`HEADER_BYTES_LIMIT`].
    pub header_bytes_max: usize,
}

impl Default for Limits {
    /// 10 deep, 200 parts, 256 KiB of header: above any honest message we know of.
    fn default() -> Self {
        Self { depth_max: 10, parts_max: 200, header_bytes_max: 256 << 10 }
    }
}

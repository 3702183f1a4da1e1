//! Bodies of fuzz targets: what must hold for any bytes. A target is a call of one of these;
//! `cargo test` replays the corpus and random bytes through them.
//!
//! # Failures
//! A panic is a bug of ours.

use std::sync::Arc;

use crate::{Config, Filters, SCAN_BYTES_MAX, Scan};

/// Scans `data` as a message, whole and in pieces. The first bytes choose the pieces and limits, so
/// that a fuzzer reaches the limits with short messages.
///
/// # Panics
/// If the cuts change the outcome, or the state of the open message leaves its bound.
pub fn message(data: &[u8]) {
    let [first, second, message @ ..] = data else { return };
    let mut config = Config::default();
    config.limits.depth_max = 1 + usize::from(first >> 4);
    config.limits.parts_max = 1 + usize::from(first & 0x0F);
    config.limits.header_bytes_max = 1024;
    let filters = Arc::new(Filters::new(config).expect("limits are in range"));
    let whole = filters.scan(message);
    let mut scan = Scan::new(&filters);
    let mut cut = u32::from(*second) + 1;
    let mut rest = message;
    while !rest.is_empty() {
        // Any sequence does; this one mixes pieces of 1 to 128 bytes.
        cut = cut.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F);
        let bytes = 1 + usize::try_from(cut >> (25 + cut % 4)).expect("seven bits");
        let (piece, later) = rest.split_at(bytes.min(rest.len()));
        scan.feed(piece);
        assert!(scan.state_bytes() <= SCAN_BYTES_MAX, "{} bytes of state", scan.state_bytes());
        rest = later;
    }
    let cut = scan.finish();
    assert_eq!(whole, cut, "the cuts changed the outcome");
    for finding in &whole.findings {
        assert!(finding.count <= finding.occurrences, "{finding:?}");
        assert!(finding.part.numbers().len() <= filters.config().limits.depth_max + 1);
    }
}

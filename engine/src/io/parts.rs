//! What is left of a vectored send. Used by both drivers.

use std::io;

use bytes::Bytes;

/// Most slices the kernel takes in one call (`UIO_MAXIOV`).
pub(super) const SLICES_MAX: usize = 1024;

/// The unsent rest of a vector of bytes; never holds an empty part.
#[derive(Debug)]
pub(super) struct Parts {
    parts: Vec<Bytes>,
    /// Parts before this one are sent, and released.
    next: usize,
}

impl Parts {
    pub(super) fn new(mut parts: Vec<Bytes>) -> Self {
        parts.retain(|part| !part.is_empty());
        Self { parts, next: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next == self.parts.len()
    }

    /// At most [`SLICES_MAX`] slices, in order.
    pub(super) fn slices(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.parts[self.next..].iter().take(SLICES_MAX).map(|part| &part[..])
    }

    /// Notes that the first `sent` bytes are gone.
    pub(super) fn advance(&mut self, mut sent: usize) {
        while sent > 0 {
            let part = &mut self.parts[self.next];
            if sent < part.len() {
                bytes::Buf::advance(part, sent);
                return;
            }
            sent -= part.len();
            *part = Bytes::new();
            self.next += 1;
        }
    }
}

/// The error of a send after one that was dropped, or failed, half way.
pub(super) fn torn() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "an earlier send on this stream was not finished")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_is_seen_once_in_order(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..30),
            steps in prop::collection::vec(1..50_usize, 1..400),
        ) {
            let whole = parts.concat();
            let mut rest = Parts::new(parts.into_iter().map(Bytes::from).collect());
            let mut seen = Vec::new();
            for step in steps {
                let ready: Vec<u8> = rest.slices().flatten().copied().collect();
                prop_assert!(rest.slices().all(|slice| !slice.is_empty()));
                prop_assert_eq!(rest.is_empty(), ready.is_empty());
                let sent = step.min(ready.len());
                seen.extend_from_slice(&ready[..sent]);
                rest.advance(sent);
            }
            seen.extend(rest.slices().flatten());
            prop_assert_eq!(seen, whole);
        }
    }
}

//! The life of a multishot receive: armed, paused, starved, ended. Book-keeping only.
//!
//! Received chunks of one stream form a chain through a table with one link per buffer, so that a
//! stream's queue costs four bytes while it is empty.

use std::io;
use std::task::Waker;

use super::operation::Target;

const NONE: u16 = u16::MAX;

/// One stream's receiving side. Small: there is one per connection.
pub(super) struct Receive {
    pub(super) target: Target,
    pub(super) waker: Option<Waker>,
    chain: Chain,
    end: Option<End>,
    /// The kernel holds our multishot receive.
    pub(super) armed: bool,
    /// We have called it back.
    pub(super) cancelling: bool,
    /// It waits in line for a buffer.
    pub(super) starved: bool,
    /// It is noted as having too many chunks.
    pub(super) overfull: bool,
    /// The stream is gone; the slot only waits for the kernel.
    pub(super) orphaned: bool,
}

/// How receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer closed its side.
    Closed,
    /// The connection failed with this errno.
    Failed(i32),
}

impl Receive {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            waker: None,
            chain: Chain { first: NONE, last: NONE, length: 0 },
            end: None,
            armed: false,
            cancelling: false,
            starved: false,
            overfull: false,
            orphaned: false,
        }
    }

    /// Chunks that wait to be taken.
    pub(super) fn queued(&self) -> u16 {
        self.chain.length
    }

    /// Whether the kernel should be asked (again).
    pub(super) fn wants_arming(&self) -> bool {
        !self.armed
            && !self.starved
            && !self.orphaned
            && self.end.is_none()
            && self.chain.length == 0
    }

    /// What there is for the consumer, chunks before the end.
    pub(super) fn next(&mut self, chunks: &mut Chunks) -> Option<Next> {
        match chunks.pop(&mut self.chain) {
            Some((index, length)) => Some(Next::Chunk { index, length }),
            None => self.end.map(|end| match end {
                End::Closed => Next::Closed,
                End::Failed(errno) => Next::Failed(io::Error::from_raw_os_error(errno)),
            }),
        }
    }

    /// Whether [`Self::next`] has something.
    pub(super) fn has_next(&self) -> bool {
        self.chain.length > 0 || self.end.is_some()
    }

    /// Takes the next chunk's buffer, unseen.
    pub(super) fn drop_next(&mut self, chunks: &mut Chunks) -> Option<u16> {
        chunks.pop(&mut self.chain).map(|(index, _)| index)
    }

    /// Adds a filled buffer.
    pub(super) fn append(&mut self, chunks: &mut Chunks, index: u16, length: u32) {
        chunks.push(&mut self.chain, index, length);
    }

    /// Notes the end; the first one stands.
    pub(super) fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }
}

/// The consumer's next event.
pub(super) enum Next {
    Chunk { index: u16, length: u32 },
    Closed,
    Failed(io::Error),
}

struct Chain {
    first: u16,
    last: u16,
    length: u16,
}

#[derive(Clone, Copy)]
struct Link {
    next: u16,
    length: u32,
}

/// One link per receive buffer.
pub(super) struct Chunks {
    links: Vec<Link>,
}

impl Chunks {
    pub(super) fn new(buffer_count: u16) -> Self {
        Self { links: vec![Link { next: NONE, length: 0 }; usize::from(buffer_count)] }
    }

    fn push(&mut self, chain: &mut Chain, index: u16, length: u32) {
        self.links[usize::from(index)] = Link { next: NONE, length };
        if chain.length == 0 {
            chain.first = index;
        } else {
            self.links[usize::from(chain.last)].next = index;
        }
        chain.last = index;
        chain.length += 1;
    }

    fn pop(&mut self, chain: &mut Chain) -> Option<(u16, u32)> {
        if chain.length == 0 {
            return None;
        }
        let index = chain.first;
        let Link { next, length } = self.links[usize::from(index)];
        chain.first = next;
        chain.length -= 1;
        Some((index, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_share_one_table_and_keep_their_order() {
        let mut chunks = Chunks::new(8);
        let (mut a, mut b) = (Receive::new(Target::Direct(0)), Receive::new(Target::Direct(1)));
        for (index, receive) in [(3, 0), (1, 1), (7, 0), (2, 0), (0, 1)] {
            let receive = if receive == 0 { &mut a } else { &mut b };
            receive.append(&mut chunks, index, u32::from(index) + 100);
        }
        let drain = |receive: &mut Receive, chunks: &mut Chunks| {
            let mut seen = Vec::new();
            while let Some(Next::Chunk { index, length }) = receive.next(chunks) {
                seen.push((index, length));
            }
            seen
        };
        a.finish(End::Closed);
        a.finish(End::Failed(5));
        assert_eq!(drain(&mut a, &mut chunks), [(3, 103), (7, 107), (2, 102)]);
        assert_eq!(drain(&mut b, &mut chunks), [(1, 101), (0, 100)]);
        assert!(matches!(a.next(&mut chunks), Some(Next::Closed)));
        assert!(b.next(&mut chunks).is_none() && b.wants_arming() && !a.wants_arming());
    }

    #[test]
    fn the_state_per_stream_is_small() {
        assert!(size_of::<Receive>() <= 64, "{}", size_of::<Receive>());
    }
}

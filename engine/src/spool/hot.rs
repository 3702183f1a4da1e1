//! Committed content that is still in memory, so that its delivery needs no read.
//!
//! A commit leaves its blocks here as they went to disk (sealed); the first delivery that asks opens
//! them in place and they become [`Bytes`]. Nothing is copied on the way.
//!
//! Bounds: `hot_bytes`; at the bound, and when the block pool runs dry, the least recently used
//! content is let go. It can always be read again from disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use super::MessageId;
use super::hash::NumberMap;
use super::log::Pool;
use super::record::{HEADER_BYTES, Header, Invalid};
use super::seal::Sealer;
use crate::io::{Block, BlockPool};

/// One record's content.
pub(super) enum HotPart {
    /// As it lies on disk; the sealer is the one of its segment.
    Closed(Block, Option<Rc<Sealer>>),
    /// Opened.
    Open(Bytes),
}

struct HotEntry {
    parts: Vec<HotPart>,
    bytes: usize,
    used: u64,
}

/// The cache. See the module's head.
pub(super) struct Hot {
    bound_bytes: usize,
    bytes: usize,
    clock: u64,
    entries: NumberMap<MessageId, HotEntry>,
    by_use: BTreeMap<u64, MessageId>,
}

impl Hot {
    pub(super) fn new(bound_bytes: usize) -> Self {
        Self {
            bound_bytes,
            bytes: 0,
            clock: 0,
            entries: NumberMap::default(),
            by_use: BTreeMap::new(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps content; what is larger than the whole bound is not kept.
    pub(super) fn insert(&mut self, id: MessageId, parts: Vec<HotPart>) {
        self.remove(id);
        let bytes = parts.iter().map(HotPart::bytes).sum();
        if bytes > self.bound_bytes {
            return;
        }
        while self.bytes + bytes > self.bound_bytes && self.evict() {}
        self.clock += 1;
        self.bytes += bytes;
        self.by_use.insert(self.clock, id);
        self.entries.insert(id, HotEntry { parts, bytes, used: self.clock });
    }

    /// The content, opened in place the first time. `None`: not here.
    pub(super) fn content(&mut self, id: MessageId) -> Option<Result<Vec<Bytes>, Invalid>> {
        let entry = self.entries.get_mut(&id)?;
        self.by_use.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.by_use.insert(self.clock, id);
        let opened: Result<Vec<HotPart>, Invalid> =
            std::mem::take(&mut entry.parts).into_iter().map(HotPart::open).collect();
        match opened {
            Ok(parts) => {
                entry.parts = parts;
                let pieces = entry.parts.iter().filter_map(HotPart::piece).collect();
                Some(Ok(pieces))
            }
            Err(invalid) => {
                self.remove(id);
                Some(Err(invalid))
            }
        }
    }

    pub(super) fn remove(&mut self, id: MessageId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }

    /// Lets the least recently used content go; `false` if there is none.
    pub(super) fn evict(&mut self) -> bool {
        let Some((_, id)) = self.by_use.first_key_value() else { return false };
        let id = *id;
        self.remove(id);
        true
    }
}

impl HotPart {
    fn bytes(&self) -> usize {
        match self {
            Self::Closed(block, _) => block.len(),
            Self::Open(bytes) => bytes.len() + HEADER_BYTES,
        }
    }

    fn open(self) -> Result<Self, Invalid> {
        match self {
            Self::Closed(mut block, sealer) => {
                let header = Header::decode(&block)?;
                header.open(sealer.as_deref(), &mut block)?;
                Ok(Self::Open(content_of(&header, block)))
            }
            Self::Open(bytes) => Ok(Self::Open(bytes)),
        }
    }

    fn piece(&self) -> Option<Bytes> {
        match self {
            Self::Open(bytes) if !bytes.is_empty() => Some(bytes.clone()),
            Self::Open(_) | Self::Closed(..) => None,
        }
    }
}

/// The content of an opened record, without a copy.
pub(super) fn content_of(header: &Header, block: Block) -> Bytes {
    block.freeze().slice(HEADER_BYTES..HEADER_BYTES + header.content())
}

/// The block pool, backed by what the hot cache can give up.
#[derive(Clone)]
pub(super) struct Blocks {
    pub(super) pool: BlockPool,
    pub(super) hot: Rc<RefCell<Hot>>,
}

impl Pool for Blocks {
    type Block = Block;

    fn take(&mut self, bytes_min: usize) -> Option<Block> {
        loop {
            if let Some(block) = self.pool.take(bytes_min) {
                return Some(block);
            }
            if !self.hot.borrow_mut().evict() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(pool: &BlockPool, mark: u8) -> Vec<HotPart> {
        let mut block = pool.take(4096).expect("memory");
        block.fill(mark);
        vec![HotPart::Open(block.freeze().slice(HEADER_BYTES..4096))]
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_bound_holds() {
        let pool = BlockPool::new(1 << 20).expect("mapped");
        let mut hot = Hot::new(3 * 4096);
        let id = MessageId::from_u128;
        for number in 1..=3 {
            hot.insert(id(number), open(&pool, 1));
        }
        assert!(hot.content(id(1)).is_some());
        hot.insert(id(4), open(&pool, 4));
        assert!(hot.content(id(2)).is_none());
        assert!(hot.content(id(1)).is_some() && hot.content(id(3)).is_some());
        assert_eq!(hot.bytes(), 3 * 4096);
        hot.remove(id(1));
        hot.remove(id(1));
        assert_eq!(hot.bytes(), 2 * 4096);
    }

    #[test]
    fn a_dry_pool_takes_back_what_is_hot() {
        let pool = BlockPool::new(1).expect("mapped");
        let hot = Rc::new(RefCell::new(Hot::new(1 << 20)));
        let mut blocks = Blocks { pool: pool.clone(), hot: Rc::clone(&hot) };
        let block = blocks.take(pool.capacity_bytes()).expect("all of it");
        hot.borrow_mut().insert(MessageId::from_u128(1), vec![HotPart::Open(block.freeze())]);
        assert!(pool.take(1).is_none());
        let again = blocks.take(4096).expect("evicted");
        assert!(blocks.take(pool.capacity_bytes()).is_none());
        drop(again);
        assert_eq!(pool.free_bytes(), pool.capacity_bytes());
    }
}

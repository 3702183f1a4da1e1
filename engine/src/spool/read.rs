//! Content on its way out: whole where that is cheap, else piece by piece.
//!
//! What is hot, and what is short and fits the free memory, is given whole. Everything else is read
//! while it is sent, through a [`Window`]: a few blocks that are taken together at first, go round
//! between disk and next hop, and are given back together at the end.
//!
//! Invariants: every piece was verified and opened before it is given away; a reader waits for memory
//! only while it holds none, so readers never wait for one another in a circle, and one window is
//! set aside for them, so that one of them always gets on whatever arriving mail takes.
//! Bounds: [`WINDOW_BLOCKS`] blocks a reader; readers up to a share of the block memory
//! ([`READERS_SHARE`]), in the order in which they came; at the bound a reader waits
//! [`WINDOW_WAIT`] at most.
//! Failures: damage behind the first piece is found after that piece was given away. Whoever sends
//! must not end the message before [`Reader::next`] said `None`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::driver::Shared;
use super::forward::open_record;
use super::hot::{Blocks, HotPart, content_of};
use super::log::Pool;
use super::record::{HEADER_BYTES, Header, RECORD_BYTES_MAX, page_bytes};
use super::segment::Place;
use super::{MessageId, Spool, SpoolError};
use crate::io::Block;

/// A message's content in wire form, without meta.
pub struct Content {
    /// Its beginning, or all of it. Never empty pieces.
    pub head: Vec<Bytes>,
    /// Reads what follows; none where `head` is all.
    pub rest: Option<Reader>,
    /// Length of it all.
    pub bytes: u64,
}

/// Reads the pieces of a message in order, one ahead of its caller. Pieces must be let go for the
/// reading to go on: of the last two that were given, one at most may be kept.
pub struct Reader {
    pieces: UnboundedReceiver<Result<Bytes, SpoolError>>,
    /// Records that are still to come.
    left: usize,
    shared: Rc<Shared>,
    is_head_held: bool,
}

impl Content {
    fn whole(head: Vec<Bytes>) -> Self {
        let bytes = head.iter().map(|piece| piece.len() as u64).sum();
        Self { head, rest: None, bytes }
    }

    /// Moves one more piece from `rest` into `head`; `false` if there is none.
    ///
    /// The first one lies where it was read. Further ones are copied, so that the reading never
    /// waits for what its caller keeps; only a header section that was written out in several parts
    /// needs that.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn extend_head(&mut self) -> Result<bool, SpoolError> {
        let Some(reader) = &mut self.rest else { return Ok(false) };
        let Some(piece) = reader.next().await? else { return Ok(false) };
        if std::mem::replace(&mut reader.is_head_held, true) {
            reader.shared.count_copied(piece.len());
            self.head.push(Bytes::copy_from_slice(&piece));
        } else {
            self.head.push(piece);
        }
        Ok(true)
    }
}

impl Reader {
    /// The next piece; `None` once all of the content was given and has verified.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`], [`SpoolError::NotFound`] (settled meanwhile), [`SpoolError::Io`],
    /// [`SpoolError::Closed`]: the message must not be ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        while self.left > 0 {
            // A reading task that is gone before its time must not look like the end.
            let piece = self.pieces.recv().await.unwrap_or(Err(SpoolError::Closed))?;
            self.left -= 1;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// Whether the last piece was given.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }
}

impl Spool {
    /// The content of a message: from memory while it is hot, else read, verified and opened; whole
    /// if it is short and there is memory for it, else as a stream with its first piece in `head`.
    ///
    /// # Errors
    /// [`SpoolError::NotFound`], [`SpoolError::Damaged`], [`SpoolError::Io`] (the medium),
    /// [`SpoolError::Memory`] (too many other messages are being read for too long).
    pub async fn content(&self, id: MessageId) -> Result<Content, SpoolError> {
        let shared = &self.handle.shared;
        if shared.log.borrow().places(id).is_none() {
            return Err(SpoolError::NotFound);
        }
        if let Some(Ok(pieces)) = shared.hot.borrow_mut().content(id) {
            return Ok(Content::whole(pieces));
        }
        let places = shared.places(id)?;
        match shared.blocks_for(&places) {
            Some(blocks) => shared.read_whole(id, places, blocks).await,
            None => shared.read_on(id, places).await,
        }
    }
}

impl Shared {
    fn places(&self, id: MessageId) -> Result<Vec<Place>, SpoolError> {
        let log = self.log.borrow();
        log.places(id).map(<[Place]>::to_vec).ok_or(SpoolError::NotFound)
    }

    /// Blocks for a short message, if they are to be had at once.
    fn blocks_for(&self, places: &[Place]) -> Option<Vec<Block>> {
        let bytes: usize = places.iter().map(|place| page_bytes(place.pages)).sum();
        if bytes > WHOLE_BYTES_MAX {
            return None;
        }
        let mut blocks = self.blocks();
        places.iter().map(|place| blocks.take(page_bytes(place.pages))).collect()
    }

    async fn read_whole(
        self: &Rc<Self>,
        id: MessageId,
        mut places: Vec<Place>,
        blocks: Vec<Block>,
    ) -> Result<Content, SpoolError> {
        let mut pieces = Vec::with_capacity(blocks.len());
        for (index, block) in blocks.into_iter().enumerate() {
            let (header, block) = self.read_record(id, &mut places, index, block).await;
            pieces.push(content_of(&header?, block));
        }
        pieces.retain(|piece| !piece.is_empty());
        let parts = pieces.iter().cloned().map(HotPart::Open).collect();
        self.hot.borrow_mut().insert(id, parts);
        Ok(Content::whole(pieces))
    }

    /// Reads on in a task of its own, so that the disk works while the network does.
    async fn read_on(
        self: &Rc<Self>,
        id: MessageId,
        places: Vec<Place>,
    ) -> Result<Content, SpoolError> {
        let block_bytes = places.iter().map(|place| page_bytes(place.pages)).max().unwrap_or(0);
        let window = self.take_window(block_bytes).await?;
        let (answers, pieces) = mpsc::unbounded_channel();
        let left = places.len();
        let bytes = places.iter().map(|place| u64::from(place.content_bytes)).sum();
        tokio::task::spawn_local(read_ahead(Rc::clone(self), id, places, window, answers));
        let shared = Rc::clone(self);
        let reader = Reader { pieces, left, shared, is_head_held: false };
        let mut content = Content { head: Vec::with_capacity(1), rest: Some(reader), bytes };
        content.extend_head().await?;
        Ok(content)
    }

    /// Reads one record of a message into `block`, verifies and opens it there. `places` follows the
    /// message if it was copied forward meanwhile.
    async fn read_record(
        self: &Rc<Self>,
        id: MessageId,
        places: &mut Vec<Place>,
        index: usize,
        mut block: Block,
    ) -> (Result<Header, SpoolError>, Block) {
        loop {
            let place = places[index];
            let (result, back) = self.read(place, block).await;
            block = back;
            let opened = result
                .map_err(|_| SpoolError::Io)
                .and_then(|()| self.open_read(place, &mut block[..page_bytes(place.pages)]));
            let error = match opened {
                Ok(header) => return (Ok(header), block),
                Err(error) => error,
            };
            match self.places(id) {
                Err(gone) => return (Err(gone), block),
                // Copied forward meanwhile: the new place is the one to read.
                Ok(now_at) if is_elsewhere(&now_at, places, index, block.len()) => *places = now_at,
                Ok(_) => {
                    if matches!(error, SpoolError::Damaged) {
                        self.report_damage(place);
                    }
                    return (Err(error), block);
                }
            }
        }
    }

    fn open_read(&self, place: Place, record: &mut [u8]) -> Result<Header, SpoolError> {
        let (salt, sealer) = {
            let log = self.log.borrow();
            (log.salt(place.epoch).ok_or(SpoolError::NotFound)?, log.sealer(place.epoch))
        };
        open_record(place, salt, sealer.as_deref(), record).map_err(|_| SpoolError::Damaged)
    }

    async fn take_window(self: &Rc<Self>, block_bytes: usize) -> Result<Window, SpoolError> {
        let windows = &self.windows;
        let taking = async {
            let turn = Arc::clone(&windows.turns).acquire_owned().await;
            let turn = turn.map_err(|_| SpoolError::Closed)?;
            loop {
                // Listening begins before the try, so that what comes back in between is not missed.
                let returned = windows.returned.notified();
                if let Some((blocks, is_set_aside)) = self.window_blocks(block_bytes) {
                    return Ok(Window::new(Rc::clone(self), blocks, is_set_aside, turn));
                }
                self.is_short();
                tokio::select! {
                    () = returned => {}
                    () = windows.blocks.pool.freed() => {}
                }
            }
        };
        timeout(WINDOW_WAIT, taking).await.unwrap_or(Err(SpoolError::Memory))
    }

    /// All blocks of a window or none, and whether they are those set aside.
    fn window_blocks(&self, block_bytes: usize) -> Option<(Vec<Block>, bool)> {
        if let Some(blocks) = self.windows.set_aside.borrow_mut().take() {
            return Some((blocks, true));
        }
        Some((take_blocks(&self.windows.blocks, block_bytes)?, false))
    }
}

/// Whether `index` was moved, to where `block_bytes` suffice.
fn is_elsewhere(now_at: &[Place], before: &[Place], index: usize, block_bytes: usize) -> bool {
    now_at.len() == before.len()
        && now_at[index] != before[index]
        && page_bytes(now_at[index].pages) <= block_bytes
}

fn take_blocks(blocks: &Blocks, block_bytes: usize) -> Option<Vec<Block>> {
    let mut blocks = blocks.clone();
    (0..WINDOW_BLOCKS).map(|_| blocks.take(block_bytes)).collect()
}

/// Reads all records of a message, each into the block that came back first.
async fn read_ahead(
    shared: Rc<Shared>,
    id: MessageId,
    mut places: Vec<Place>,
    mut window: Window,
    answers: UnboundedSender<Result<Bytes, SpoolError>>,
) {
    for index in 0..places.len() {
        let block = window.block().await;
        if answers.is_closed() {
            window.put(block);
            break;
        }
        let (header, block) = shared.read_record(id, &mut places, index, block).await;
        let piece = match header {
            Ok(header) => Ok(window.lend(&header, block)),
            Err(error) => {
                window.put(block);
                Err(error)
            }
        };
        let is_last = piece.is_err();
        if answers.send(piece).is_err() || is_last {
            break;
        }
    }
    drop(answers);
    window.gather().await;
}

/// What readers of one log share.
pub(super) struct Windows {
    /// One a reader, handed out in order.
    turns: Arc<Semaphore>,
    /// The blocks that arriving mail cannot take.
    set_aside: RefCell<Option<Vec<Block>>>,
    returned: Notify,
    blocks: Blocks,
}

impl Windows {
    pub(super) fn new(blocks: &Blocks) -> Self {
        let share = blocks.pool.capacity_bytes() / READERS_SHARE;
        // A pool too small to set some aside has its readers wait for their turn only.
        let set_aside =
            (share >= WINDOW_BYTES).then(|| take_blocks(blocks, RECORD_BYTES_MAX)).flatten();
        Self {
            turns: Arc::new(Semaphore::new((share / WINDOW_BYTES).max(1))),
            set_aside: RefCell::new(set_aside),
            returned: Notify::new(),
            blocks: blocks.clone(),
        }
    }
}

/// The blocks of one reader. They come home over a channel, since whoever sends a piece may drop it
/// on any thread.
struct Window {
    shared: Rc<Shared>,
    at_home: Vec<Block>,
    coming: UnboundedReceiver<Block>,
    home: UnboundedSender<Block>,
    is_set_aside: bool,
    _turn: OwnedSemaphorePermit,
}

impl Window {
    fn new(
        shared: Rc<Shared>,
        at_home: Vec<Block>,
        is_set_aside: bool,
        turn: OwnedSemaphorePermit,
    ) -> Self {
        let (home, coming) = mpsc::unbounded_channel();
        Self { shared, at_home, coming, home, is_set_aside, _turn: turn }
    }

    /// A block to read into, once one is there.
    async fn block(&mut self) -> Block {
        match self.at_home.pop() {
            Some(block) => block,
            None => self.coming.recv().await.expect("the window holds a sender itself"),
        }
    }

    fn put(&mut self, block: Block) {
        self.at_home.push(block);
    }

    /// The content of an opened record, without a copy; its block comes home with the last clone.
    fn lend(&self, header: &Header, block: Block) -> Bytes {
        let lent = Lent { block: Some(block), home: self.home.clone() };
        Bytes::from_owner(lent).slice(HEADER_BYTES..HEADER_BYTES + header.content())
    }

    /// Waits for the blocks that are still lent, and gives all back.
    async fn gather(mut self) {
        while self.at_home.len() < WINDOW_BLOCKS {
            let block = self.coming.recv().await.expect("the window holds a sender itself");
            self.put(block);
        }
        let windows = &self.shared.windows;
        if self.is_set_aside {
            windows.set_aside.replace(Some(std::mem::take(&mut self.at_home)));
        }
        windows.returned.notify_one();
    }
}

/// A block of a window inside [`Bytes`].
struct Lent {
    block: Option<Block>,
    home: UnboundedSender<Block>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.block.as_deref().unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            // Where the window is gone the block goes back to the pool.
            drop(self.home.send(block));
        }
    }
}

/// One piece with the next hop, one with the disk.
const WINDOW_BLOCKS: usize = 2;
/// The most memory a window takes.
const WINDOW_BYTES: usize = WINDOW_BLOCKS * RECORD_BYTES_MAX;
/// Longer records, together, are not read whole.
const WHOLE_BYTES_MAX: usize = WINDOW_BYTES;
/// This part of the block memory is the most that windows take together; but there is always one.
const READERS_SHARE: usize = 4;
/// As long as a session waits for memory.
const WINDOW_WAIT: Duration = Duration::from_secs(30);

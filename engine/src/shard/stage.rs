//! The one copy: from the receive buffer into the blocks that will be written.
//!
//! When the block memory is full, the session first lets the spool write out what it has staged,
//! then waits for other messages to finish, and for those whose clients pause to be written out;
//! while it waits it takes no bytes from its client, who feels back-pressure. After [`MEMORY_WAIT`] the message is put off with `452`.

use std::time::Duration;

use postern_smtp::reply::{Enhanced, Reply};
use tokio::time::timeout;

use super::Shard;
use super::counters::add;
use super::desk::spool_refusal;
use crate::spool::Draft;

impl Shard {
    /// Copies a slice of content into a draft.
    ///
    /// # Errors
    /// The reply that puts the message off.
    pub(super) async fn stage(&self, draft: &mut Draft, wire: &[u8]) -> Result<(), Reply> {
        let mut rest = wire;
        loop {
            match draft.write(rest) {
                Ok(()) => return Ok(()),
                Err(full) => {
                    rest = &rest[full.taken..];
                    self.make_room(draft).await?;
                }
            }
        }
    }

    async fn make_room(&self, draft: &mut Draft) -> Result<(), Reply> {
        if draft.held_bytes() > 0 {
            return self.spool.spill(draft).await.map_err(|error| spool_refusal(&error));
        }
        add(&self.counters.memory_pauses, 1);
        timeout(MEMORY_WAIT, self.io.blocks().freed()).await.map_err(|_| NO_MEMORY)
    }
}

const NO_MEMORY: Reply =
    Reply::fixed(452, Enhanced::new(4, 3, 1), "Too many messages at once, try again later");
const MEMORY_WAIT: Duration = Duration::from_secs(30);

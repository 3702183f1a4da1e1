//! File operations on tokio's blocking threads.
//!
//! Blocks move into the blocking call and come back with its result, so a dropped future cannot free
//! memory that a write still reads.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::{future, panic};

use rustix::fs;
use tokio::task::{self, JoinError};

use super::EpollDriver;
use crate::io::arena::PAGE_BYTES;
use crate::io::block::Block;
use crate::io::file::stopped_short;
use crate::io::parts::SLICES_MAX;

#[derive(Debug)]
pub(in crate::io) struct EpollFile {
    driver: Rc<EpollDriver>,
    descriptor: Arc<OwnedFd>,
}

impl EpollFile {
    pub(super) fn new(driver: Rc<EpollDriver>, descriptor: OwnedFd) -> Self {
        Self { driver, descriptor: Arc::new(descriptor) }
    }

    pub(in crate::io) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    pub(in crate::io) async fn write(
        &self,
        offset: u64,
        blocks: Vec<Block>,
    ) -> (io::Result<()>, Vec<Block>) {
        let descriptor = Arc::clone(&self.descriptor);
        let call = move || (write_all(&descriptor, offset, &blocks), blocks);
        self.run(call).await
    }

    pub(in crate::io) async fn flush(&self) -> io::Result<()> {
        let descriptor = Arc::clone(&self.descriptor);
        self.run(move || Ok(fs::fdatasync(&*descriptor)?)).await
    }

    pub(in crate::io) async fn read(
        &self,
        offset: u64,
        mut block: Block,
        bytes: usize,
    ) -> (io::Result<usize>, Block) {
        let descriptor = Arc::clone(&self.descriptor);
        self.run(move || (read_full(&descriptor, offset, &mut block, bytes), block)).await
    }

    async fn run<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> T {
        self.driver.count(|stats| {
            stats.system_calls += 1;
            stats.submissions += 1;
        });
        let outcome = task::spawn_blocking(call).await;
        self.driver.count(|stats| stats.completions += 1);
        match outcome.map_err(JoinError::try_into_panic) {
            Ok(value) => value,
            Err(Ok(panic)) => panic::resume_unwind(panic),
            // The call was not run because the runtime is shutting down, which ends this task too.
            Err(Err(_cancelled)) => future::pending().await,
        }
    }
}

fn write_all(descriptor: &OwnedFd, mut offset: u64, blocks: &[Block]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = blocks.iter().map(|block| IoSlice::new(block)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let now = rest.len().min(SLICES_MAX);
        let written = retry(|| Ok(rustix::io::pwritev(descriptor, &rest[..now], offset)?))?;
        if written == 0 {
            return Err(stopped_short());
        }
        IoSlice::advance_slices(&mut rest, written);
        offset += written as u64;
    }
    Ok(())
}

fn read_full(
    descriptor: &OwnedFd,
    offset: u64,
    block: &mut Block,
    bytes: usize,
) -> io::Result<usize> {
    // Direct reads take whole pages only, and every block has room for them.
    let wanted = bytes.next_multiple_of(PAGE_BYTES);
    let mut read = 0;
    while read < wanted {
        let rest = &mut block[read..wanted];
        let position = offset + read as u64;
        let now = retry(|| Ok(rustix::io::pread(descriptor, &mut *rest, position)?))?;
        read += now;
        if now == 0 || !now.is_multiple_of(PAGE_BYTES) {
            break;
        }
    }
    Ok(read)
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

//! Files on the ring.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::Ring;
use super::operation::{Job, ReadJob, WriteJob, outcome};
use crate::io::arena::PAGE_BYTES;
use crate::io::block::Block;
use crate::io::file::stopped_short;

/// An open file; operations under way keep it open.
#[derive(Debug)]
pub(in crate::io) struct UringFile {
    ring: Rc<Ring>,
    descriptor: Rc<OwnedFd>,
}

impl UringFile {
    pub(in crate::io) fn new(ring: &Rc<Ring>, descriptor: OwnedFd) -> Self {
        Self { ring: Rc::clone(ring), descriptor: Rc::new(descriptor) }
    }

    pub(in crate::io) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    pub(in crate::io) async fn write(
        &self,
        offset: u64,
        blocks: Vec<Block>,
    ) -> (io::Result<()>, Vec<Block>) {
        let (descriptor, pool) = (Rc::clone(&self.descriptor), self.ring.blocks.clone());
        let mut job = WriteJob::new(descriptor, offset, blocks, pool);
        let whole = job.bytes();
        while job.written < whole {
            let (result, done) = self.ring.fly(Job::Write(job)).await;
            let Job::Write(done) = done else { unreachable!("jobs keep their kind") };
            job = done;
            match outcome(result) {
                Ok(0) => return (Err(stopped_short()), job.blocks),
                Ok(written) => job.written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), job.blocks),
            }
        }
        (Ok(()), job.blocks)
    }

    pub(in crate::io) async fn flush(&self) -> io::Result<()> {
        let (result, _job) = self.ring.fly(Job::Flush(Rc::clone(&self.descriptor))).await;
        outcome(result).map(drop)
    }

    pub(in crate::io) async fn read(
        &self,
        offset: u64,
        block: Block,
        bytes: usize,
    ) -> (io::Result<usize>, Block) {
        let (descriptor, pool) = (Rc::clone(&self.descriptor), self.ring.blocks.clone());
        let mut job = ReadJob::new(descriptor, offset, block, bytes, pool);
        while job.read < job.wanted {
            let (result, done) = self.ring.fly(Job::Read(job)).await;
            let Job::Read(done) = done else { unreachable!("jobs keep their kind") };
            job = done;
            match outcome(result) {
                Ok(now) => {
                    job.read += now;
                    // Short of a page: the end of the file.
                    if now == 0 || !now.is_multiple_of(PAGE_BYTES) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), job.block),
            }
        }
        (Ok(job.read), job.block)
    }
}

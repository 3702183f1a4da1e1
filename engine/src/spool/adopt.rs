//! Taking over the logs of shards that are no more, after the number of cores was lowered.
//!
//! Every live message of `core-j` is appended to our own log, with its newest note, until all is
//! durable; only then is the old directory removed. A crash in between leaves both: at the next start
//! what is in our log already counts and is not taken twice.
//!
//! Invariants: runs at start, before mail is taken or delivered, and blocks; the old log is locked
//! meanwhile. Failures: any error ends the start and leaves the old directory as it was.

use std::io;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::forward::open_record;
use super::hot::Blocks;
use super::log::{Append, Clock, Completion, Fault, Last, Log, Operation, Outcome, Pool};
use super::record::{Kind, page_bytes};
use super::recover::{Recovered, RecoveryReport, Settings, recover};
use super::seal::SALT_BYTES;
use super::segment::{Place, Segment};
use super::store::{self, Directory, Storage, SystemClock, fault_of, segment_name};
use super::{MessageId, SpoolError, SpoolOptions, refused, start};

/// Messages appended before their group is awaited.
const BATCH_MESSAGES: usize = 64;

/// Name of a shard's log directory.
pub(super) fn folder(shard: usize) -> String {
    format!("core-{shard}")
}

/// Fresh random salts from the system.
pub(super) fn random_salts() -> impl FnMut() -> Option<[u8; SALT_BYTES]> {
    let random = SystemRandom::new();
    move || {
        let mut salt = [0; SALT_BYTES];
        random.fill(&mut salt).ok().map(|()| salt)
    }
}

/// Our own log while it takes others over, driven by blocking calls.
pub(super) struct Adopting {
    pub(super) log: Log<Blocks>,
    pub(super) directory: Directory,
    pub(super) clock: SystemClock,
}

/// Directories of shards that are no more and fall to `shard`.
pub(super) fn orphans(
    root: &Path,
    shard: usize,
    shards: usize,
) -> Result<Vec<PathBuf>, SpoolError> {
    let mut found = Vec::new();
    for entry in start("list", root, std::fs::read_dir(root))? {
        let entry = start("list", root, entry)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("core-"));
        let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) else { continue };
        let is_canonical = name.to_str() == Some(folder(number).as_str());
        if is_canonical && number >= shards.max(1) && number % shards.max(1) == shard {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Takes over one log and removes it.
pub(super) fn adopt(
    ours: &mut Adopting,
    options: &SpoolOptions,
    path: &Path,
    messages: &mut Vec<Recovered>,
    report: &mut RecoveryReport,
) -> Result<(), SpoolError> {
    let mut theirs = start("open", path, Directory::open(path))?;
    let _lock = start("lock", path, theirs.lock())?
        .map_err(|process| SpoolError::InUse { path: path.to_owned(), process })?;
    let settings = Settings { key: options.key.as_ref(), segment_bytes: options.segment_bytes };
    let recovery = recover(&mut theirs, &settings).map_err(|error| refused(error, path))?;

    let mut batch = Vec::new();
    for message in recovery.messages {
        if ours.log.knows(message.id) {
            continue;
        }
        let id = message.id;
        let entry = recovery.restored.index.get(&id);
        let places = entry.map(|entry| entry.places.as_slice()).unwrap_or_default();
        ours.append(&mut theirs, &recovery.restored.segments, id, places, path)?;
        batch.push(message);
        if batch.len() >= BATCH_MESSAGES {
            ours.finish(path, &mut batch, messages, report)?;
        }
    }
    ours.finish(path, &mut batch, messages, report)?;
    add(report, recovery.report, path);
    start("remove adopted", path, theirs.remove_all())
}

fn add(report: &mut RecoveryReport, theirs: RecoveryReport, path: &Path) {
    let folder = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let folder = folder.unwrap_or_default();
    report.segments += theirs.segments;
    report.scanned_bytes += theirs.scanned_bytes;
    report.torn_tail_bytes += theirs.torn_tail_bytes;
    report.damaged.extend(theirs.damaged.into_iter().map(|mut range| {
        range.file = format!("../{folder}/{}", range.file);
        range
    }));
    report.damaged_messages.extend(theirs.damaged_messages);
}

impl Adopting {
    /// Appends one message, record by record.
    fn append(
        &mut self,
        theirs: &mut Directory,
        segments: &std::collections::BTreeMap<u64, Segment>,
        id: MessageId,
        places: &[Place],
        path: &Path,
    ) -> Result<(), SpoolError> {
        let draft = self.log.draft();
        for place in places {
            let Some(segment) = segments.get(&place.epoch) else { return Err(SpoolError::Damaged) };
            let mut block = self.take(page_bytes(place.pages), path)?;
            let name = segment_name(place.epoch, &segment.salt);
            let read = theirs.read(&name, page_bytes(place.page) as u64, &mut block);
            start("read adopted", path, read)?;
            let header = open_record(*place, segment.salt, segment.sealer.as_deref(), &mut block)
                .map_err(|_| SpoolError::Damaged)?;
            let last = (header.kind == Kind::Message).then(|| Last {
                id,
                parts: header.parts_count(),
                meta_bytes: header.meta(),
            });
            let content_bytes = header.content();
            self.log.append(Append { draft, block, content_bytes, last });
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize, path: &Path) -> Result<crate::io::Block, SpoolError> {
        if let Some(block) = self.log.pool.take(bytes) {
            return Ok(block);
        }
        // What waits holds the memory: write it.
        self.run(path)?;
        self.log.pool.take(bytes).ok_or(SpoolError::Memory)
    }

    /// Makes the batch durable, with its notes.
    fn finish(
        &mut self,
        path: &Path,
        batch: &mut Vec<Recovered>,
        messages: &mut Vec<Recovered>,
        report: &mut RecoveryReport,
    ) -> Result<(), SpoolError> {
        self.run(path)?;
        for message in batch.iter() {
            if let Some(note) = &message.note {
                self.log.note(self.clock.now(), message.id, note.clone(), true);
            }
        }
        self.run(path)?;
        report.adopted += batch.len();
        report.messages += batch.len();
        report.content_bytes += batch.iter().map(|message| message.content_bytes).sum::<u64>();
        messages.append(batch);
        Ok(())
    }

    /// Carries out operations until none is left; the first failure ends the start.
    fn run(&mut self, path: &Path) -> Result<(), SpoolError> {
        let bytes = page_bytes(self.log.limits.segment_pages) as u64;
        while let Some(operation) = self.log.poll_operation(self.clock.now()) {
            let completion = carry_out(&mut self.log, &mut self.directory, bytes, operation);
            self.log.complete(self.clock.now(), completion);
        }
        while let Some(Outcome { result, .. }) = self.log.poll_outcome() {
            result.map_err(|fault| SpoolError::Start {
                what: format!("cannot adopt spool {}", path.display()),
                cause: match fault {
                    Fault::Full => io::ErrorKind::StorageFull.into(),
                    Fault::Io => io::Error::other("a write or flush failed"),
                },
            })?;
        }
        Ok(())
    }
}

/// Carries one operation out with blocking calls.
pub(super) fn carry_out<P: Pool>(
    log: &mut Log<P>,
    storage: &mut dyn Storage,
    segment_bytes: u64,
    operation: Operation<P::Block>,
) -> Completion<P::Block> {
    let name = |log: &Log<P>, epoch| segment_name(epoch, &log.salt(epoch).unwrap_or_default());
    let faulty = |result: io::Result<()>| result.map_err(|error| fault_of(&error));
    match operation {
        Operation::Prepare { epoch, salt, spare } => {
            let name = segment_name(epoch, &salt);
            let result = faulty(store::prepare(storage, &name, spare, segment_bytes));
            Completion::Prepared { epoch, result }
        }
        Operation::Write { epoch, mut offset, blocks } => {
            let name = name(log, epoch);
            let result = blocks.iter().try_for_each(|block| {
                let at = offset;
                offset += block.len() as u64;
                storage.write(&name, at, block)
            });
            Completion::Written { result: faulty(result), blocks }
        }
        Operation::Flush { epoch } => {
            let name = name(log, epoch);
            Completion::Flushed { result: faulty(storage.flush(&name)) }
        }
        Operation::Read { place, mut block } => {
            let name = name(log, place.epoch);
            let bytes = page_bytes(place.pages);
            let offset = page_bytes(place.page) as u64;
            let read = storage.read(&name, offset, &mut block[..bytes]);
            let result = read.and_then(|read| match read == bytes {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            });
            Completion::Read { place, result: faulty(result), block }
        }
        Operation::Free { epoch, salt, spare } => {
            let result = faulty(store::free(storage, &segment_name(epoch, &salt), spare));
            Completion::Freed { epoch, spare, result }
        }
    }
}

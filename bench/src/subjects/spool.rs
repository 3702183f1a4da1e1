//! Durable appends: messages of 4 KiB committed in groups of 64 by as many tasks, as sessions do.
//!
//! CPU time of the shard's thread and of the kernel's workers for it. The peer writes a file a
//! message and syncs it, as mail servers do that keep one: it too gives the message back durable.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

use postern::io::{Choice, Io, IoOptions};
use postern::spool::{self, IdSource, MessageId, Spool, SpoolKey, SpoolOptions};
use tokio::task::{JoinSet, LocalSet};

use super::{Report, Subject};
use crate::case::{Case, Unit};
use crate::input;
use crate::rig::cpu::{own_cpu_ns, thread_cost_ns};
use crate::rig::place;
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "spool", about: "durable appends in groups of 64", run };

/// Microseconds of CPU time an append.
const GOAL_US: f64 = 3.0;
/// Messages committed at a time.
pub const GROUP: usize = 64;
const GROUPS: u64 = 1_000;
/// Files, each with its sync, take longer.
const PEER_MESSAGES: u64 = 2_000;
/// Content and meta that fill one record of a page, and 4 KiB of content that need two.
const INPUTS: &[(&str, usize)] = &[("record of 4 KiB", 3_800), ("content of 4 KiB", 4_096)];
const META: &[u8] = &[7; 120];

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    place::volatile_note().into_iter().for_each(|note| report.note(&note));
    for (what, bytes) in INPUTS {
        for (seal, is_sealed) in [("unsealed", false), ("sealed", true)] {
            let content = input::text(*bytes);
            let mut ours = || append(&content, is_sealed, effort.messages(GROUPS));
            let mut theirs = || files(&content, effort.messages(PEER_MESSAGES));
            let medians = effort.medians(&mut [&mut ours, &mut theirs])?;
            let input = format!("{what}, groups of {GROUP}, {seal}");
            let case = Case::new(SUBJECT.name, input, medians[0], Unit::MicrosPerMessage);
            report.case(case.beside("file + fsync", Some(medians[1])).goal(GOAL_US));
        }
    }
    Ok(())
}

/// A shard's runtime with a spool in it, for this bench and the one in `benches/`.
pub struct Bench {
    runtime: tokio::runtime::Runtime,
    local: LocalSet,
    spool: Spool,
    ids: IdSource,
    content: Rc<[u8]>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// Opens a spool in a temporary folder.
    ///
    /// # Errors
    /// What the spool says.
    pub fn open(content: &[u8], is_sealed: bool) -> io::Result<Self> {
        let folder = place::folder("spool")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        let mut options = SpoolOptions::new(folder.path());
        options.allow_volatile = true;
        if is_sealed {
            let key = SpoolKey::from_bytes(&[9; spool::KEY_BYTES_MIN]).map_err(other)?;
            options.key = Some(key);
        }
        let opening = local.run_until(async {
            let io = Io::start(&IoOptions { choice: Choice::Auto, ..IoOptions::default() });
            spool::open(&io.map_err(other)?, &options, 0, 1).map_err(other)
        });
        let (spool, ..) = runtime.block_on(opening)?;
        let ids = IdSource::new();
        Ok(Self { runtime, local, spool, ids, content: content.into(), _folder: folder })
    }

    /// Commits one group, each message from a task of its own, and settles the one before.
    ///
    /// # Errors
    /// What the spool says.
    pub fn group(&mut self, before: &mut Vec<MessageId>) -> io::Result<()> {
        let Self { runtime, local, spool, ids, content, .. } = self;
        runtime.block_on(local.run_until(async {
            before.drain(..).for_each(|id| spool.settle(id));
            let mut commits = JoinSet::new();
            for _ in 0..GROUP {
                let id = ids.next(unix_ms()).map_err(|_| io::Error::other("no random bytes"))?;
                commits.spawn_local(commit(spool.clone(), Rc::clone(content), id));
            }
            while let Some(done) = commits.join_next().await {
                before.push(done.map_err(other)??);
            }
            Ok(())
        }))
    }
}

async fn commit(spool: Spool, content: Rc<[u8]>, id: MessageId) -> io::Result<MessageId> {
    let mut draft = spool.draft(Some(content.len() as u64));
    draft.write(&content).map_err(|_| io::Error::other("the draft is full"))?;
    spool.commit(draft, id, META).await.map_err(other)?;
    Ok(id)
}

/// Microseconds of CPU time an append, on a thread of its own.
fn append(content: &[u8], is_sealed: bool, groups: u64) -> io::Result<f64> {
    let content = content.to_vec();
    let measuring = move || {
        place::pin(place::SERVER_CORE);
        let mut bench = Bench::open(&content, is_sealed)?;
        let mut before = Vec::with_capacity(GROUP);
        for _ in 0..groups.div_ceil(10) {
            bench.group(&mut before)?;
        }
        let start_ns = own_cpu_ns();
        for _ in 0..groups {
            bench.group(&mut before)?;
        }
        #[allow(clippy::cast_precision_loss, reason = "a figure for people, far below 2^52")]
        let used_ns = own_cpu_ns().saturating_sub(start_ns) as f64;
        Ok(super::micros_each(used_ns, groups * GROUP as u64))
    };
    let thread = std::thread::spawn(measuring);
    thread.join().map_err(|_| io::Error::other("the spool's thread panicked"))?
}

/// Microseconds of CPU time a file that is written and synced.
fn files(content: &[u8], count: u64) -> io::Result<f64> {
    let folder = place::folder("files")?;
    let mut outcome = Ok(());
    let cost_ns = thread_cost_ns(|| {
        outcome = (0..count).try_for_each(|number| write_file(folder.path(), number, content));
    });
    outcome?;
    Ok(super::micros_each(cost_ns, count))
}

/// Makes one message durable the way of mail servers that keep a file for each.
///
/// # Errors
/// What the system says.
pub fn write_file(folder: &Path, number: u64, content: &[u8]) -> io::Result<()> {
    let path = folder.join(format!("{number:016x}"));
    let mut file = File::create_new(&path)?;
    file.write_all(META)?;
    file.write_all(content)?;
    file.sync_data()?;
    // The message is done: ours are settled, too.
    fs::remove_file(path)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn other(error: impl std::error::Error) -> io::Error {
    io::Error::other(error.to_string())
}

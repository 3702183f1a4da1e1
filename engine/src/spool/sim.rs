//! The seeded simulation: the log core and recovery over a disk that loses, tears and refuses.
//!
//! One seed is one history: several lives of the log, each a random mix of commits (of one and of
//! several parts), notes, settles, drafts that are given up and the passing of time, over
//! [`SimDisk`], ended by a crash at a random point. After each crash the log is recovered and held
//! against a model that knows what was acknowledged. `POSTERN_SIM_SEED=n` runs one seed,
//! `POSTERN_SIM_SEEDS=n` so many.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use super::MessageId;
use super::adopt::carry_out;
use super::forward::open_record;
use super::log::{
    Append, DraftKey, Last, Limits, Log, Now, Operation, Outcome, Pool, State, Ticket,
};
use super::record::{HEADER_BYTES, PAGE_BYTES, PART_BYTES, page_bytes};
use super::recover::{RecoverError, Recovery, Settings, recover};
use super::seal::{SALT_BYTES, SpoolKey};
use super::store::{Name, Storage};

/// Histories in `cargo test`.
const SEEDS: u64 = 1000;
/// Lives of the log in one history.
const LIVES: u32 = 4;
/// Turns of one life at most.
const TURNS: u64 = 160;
const SECTOR_BYTES: usize = 512;
const SEGMENT_PAGES: u32 = 64;
/// The longest record of the simulation, in pages.
const RECORD_PAGES: u64 = 8;

/// xorshift64*: small, seeded, and the same everywhere.
#[derive(Clone)]
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a length")
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// What survives of writes that were not flushed.
#[derive(Clone, Copy)]
enum Tear {
    Nothing,
    Everything,
    /// The first sectors, in order.
    Prefix,
    /// Any sectors.
    Sectors,
    /// Any pages.
    Pages,
}

impl Tear {
    fn draw(chance: &mut Chance) -> Self {
        [Self::Nothing, Self::Everything, Self::Prefix, Self::Sectors, Self::Pages][chance.index(5)]
    }

    /// Chooses among `sectors`.
    fn survivors(self, chance: &mut Chance, sectors: &BTreeSet<usize>) -> Vec<usize> {
        let prefix = chance.index(sectors.len() + 1);
        let page_key = chance.next();
        let mut survivors = Vec::new();
        for (position, sector) in sectors.iter().copied().enumerate() {
            let survives = match self {
                Self::Nothing => false,
                Self::Everything => true,
                Self::Prefix => position < prefix,
                Self::Sectors => chance.percent(50),
                Self::Pages => {
                    let page = (sector * SECTOR_BYTES / PAGE_BYTES) as u64;
                    Chance::new(page_key ^ page).percent(50)
                }
            };
            if survives {
                survivors.push(sector);
            }
        }
        survivors
    }
}

#[derive(Clone, Default)]
struct SimFile {
    /// What reads see.
    seen: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// Sectors written since the last flush.
    dirty: BTreeSet<usize>,
}

impl SimFile {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.seen[offset..offset + bytes.len()].copy_from_slice(bytes);
        let sectors = offset / SECTOR_BYTES..(offset + bytes.len()).div_ceil(SECTOR_BYTES);
        self.dirty.extend(sectors);
    }

    fn persist(&mut self, sectors: impl IntoIterator<Item = usize>) {
        self.durable.resize(self.seen.len(), 0);
        for sector in sectors {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(self.seen.len());
            if from < to {
                self.durable[from..to].copy_from_slice(&self.seen[from..to]);
            }
        }
    }
}

/// A change of the directory that no sync has made durable.
#[derive(Clone)]
enum Change {
    Name(String, usize),
    Rename(String, String),
    Remove(String),
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    match change {
        Change::Name(name, file) => {
            names.insert(name.clone(), *file);
        }
        Change::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Change::Remove(name) => {
            names.remove(name);
        }
    }
}

/// A disk in memory.
struct SimDisk {
    chance: Chance,
    files: Vec<SimFile>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    preserved: BTreeSet<String>,
    /// Chance of a failure of one operation, in percent.
    fault_percent: u64,
    /// Operations until the power goes.
    fuse: Option<u64>,
}

impl SimDisk {
    fn new(seed: u64) -> Self {
        Self {
            chance: Chance::new(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            preserved: BTreeSet::new(),
            fault_percent: 0,
            fuse: None,
        }
    }

    fn is_out(&self) -> bool {
        self.fuse == Some(0)
    }

    /// Whether this operation fails, and how. With the power gone everything does.
    fn fault(&mut self) -> Option<io::Error> {
        if let Some(fuse) = &mut self.fuse {
            *fuse = fuse.saturating_sub(1);
            if *fuse == 0 {
                return Some(io::Error::other("power cut"));
            }
        }
        if !self.chance.percent(self.fault_percent) {
            return None;
        }
        Some(match self.chance.below(3) {
            0 => io::ErrorKind::StorageFull.into(),
            1 => io::ErrorKind::WriteZero.into(),
            _ => io::Error::other("injected EIO"),
        })
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn apply_changes(&mut self, count: usize) {
        for change in self.changes.drain(..count) {
            apply(&mut self.durable_names, &change);
        }
    }

    /// The power goes, or (`kill`) only the process.
    fn crash(&mut self, kill: bool) {
        self.fuse = None;
        self.fault_percent = 0;
        if kill {
            for file in &mut self.files {
                // What a failed flush lost may leave the page cache at any time.
                let clean: Vec<usize> = (0..file.seen.len() / SECTOR_BYTES)
                    .filter(|sector| !file.dirty.contains(sector))
                    .collect();
                file.durable.resize(file.seen.len(), 0);
                for sector in clean {
                    let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                    file.seen[range.clone()].copy_from_slice(&file.durable[range]);
                }
            }
            return;
        }
        let kept = self.chance.index(self.changes.len() + 1);
        self.apply_changes(kept);
        self.changes.clear();
        self.names = self.durable_names.clone();
        for file in &mut self.files {
            let tear = Tear::draw(&mut self.chance);
            let dirty = std::mem::take(&mut file.dirty);
            let survivors = tear.survivors(&mut self.chance, &dirty);
            file.persist(survivors);
            file.seen = file.durable.clone();
        }
    }
}

impl Storage for SimDisk {
    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().cloned().collect())
    }

    fn length(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.files[self.file(name)?].seen.len() as u64)
    }

    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.fault() {
            return Err(error);
        }
        let file = &self.files[self.file(name)?];
        let from = usize::try_from(offset).expect("small").min(file.seen.len());
        let bytes = buffer.len().min(file.seen.len() - from);
        buffer[..bytes].copy_from_slice(&file.seen[from..from + bytes]);
        Ok(bytes)
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fault = self.fault();
        let file = self.file(name)?;
        let offset = usize::try_from(offset).expect("small");
        if let Some(error) = fault {
            // Some of it arrived all the same.
            let short = self.chance.index(bytes.len() + 1);
            self.files[file].put(offset, &bytes[..short]);
            return Err(error);
        }
        self.files[file].put(offset, bytes);
        Ok(())
    }

    fn flush(&mut self, name: &str) -> io::Result<()> {
        let fault = self.fault();
        let is_out = self.is_out();
        let file = self.file(name)?;
        let file = &mut self.files[file];
        match fault {
            None => {
                let dirty = std::mem::take(&mut file.dirty);
                file.persist(dirty);
                Ok(())
            }
            Some(error) if is_out => Err(error),
            Some(error) => {
                // The kernel reports once and forgets: lost pages are clean from now on.
                let dirty = std::mem::take(&mut file.dirty);
                let survivors = Tear::draw(&mut self.chance).survivors(&mut self.chance, &dirty);
                file.persist(survivors);
                Err(error)
            }
        }
    }

    fn create(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        let fault = self.fault();
        let bytes = usize::try_from(bytes).expect("small");
        let mut file = SimFile { seen: vec![0; bytes], ..SimFile::default() };
        if let Some(error) = fault {
            file.seen.truncate(self.chance.index(bytes / PAGE_BYTES + 1) * PAGE_BYTES);
            file.durable = file.seen.clone();
            self.files.push(file);
            self.change(Change::Name(name.to_owned(), self.files.len() - 1));
            return Err(error);
        }
        file.durable = file.seen.clone();
        self.files.push(file);
        self.change(Change::Name(name.to_owned(), self.files.len() - 1));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.file(from)?;
        let fault = self.fault();
        if fault.is_none() || self.chance.percent(50) {
            self.change(Change::Rename(from.to_owned(), to.to_owned()));
        }
        fault.map_or(Ok(()), Err)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let fault = self.fault();
        if fault.is_none() || self.chance.percent(50) {
            self.change(Change::Remove(name.to_owned()));
        }
        fault.map_or(Ok(()), Err)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        match self.fault() {
            None => {
                self.apply_changes(self.changes.len());
                Ok(())
            }
            Some(error) => {
                let some = self.chance.index(self.changes.len() + 1);
                self.apply_changes(some);
                Err(error)
            }
        }
    }

    fn preserve(&mut self, name: &str) -> io::Result<()> {
        self.preserved.insert(name.to_owned());
        Ok(())
    }
}

/// Blocks of plain memory, bounded by a count of pages.
#[derive(Clone)]
struct SimPool {
    free_pages: Rc<RefCell<usize>>,
}

struct SimBlock {
    bytes: Vec<u8>,
    free_pages: Rc<RefCell<usize>>,
}

impl SimPool {
    fn new(pages: usize) -> Self {
        Self { free_pages: Rc::new(RefCell::new(pages)) }
    }
}

impl Pool for SimPool {
    type Block = SimBlock;

    fn take(&mut self, bytes_min: usize) -> Option<SimBlock> {
        let pages = bytes_min.div_ceil(PAGE_BYTES).max(1).next_power_of_two();
        let mut free = self.free_pages.borrow_mut();
        *free = free.checked_sub(pages)?;
        // Stale bytes of another owner.
        let bytes = vec![0xDD; pages * PAGE_BYTES];
        Some(SimBlock { bytes, free_pages: Rc::clone(&self.free_pages) })
    }
}

impl Drop for SimBlock {
    fn drop(&mut self) {
        *self.free_pages.borrow_mut() += self.bytes.len() / PAGE_BYTES;
    }
}

impl std::ops::Deref for SimBlock {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::DerefMut for SimBlock {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// What the model knows of a message.
struct Known {
    pieces: Vec<usize>,
    meta_bytes: usize,
    fate: Fate,
    /// Notes in the order in which they were given; the text is the number.
    notes: u32,
    /// All notes before this one may no longer show.
    durable_note: Option<u32>,
    is_settled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Commit under way when the power went: either is right.
    Open,
    /// Refused; until a later segment states it durably, either is right.
    Refused,
    /// Must be there.
    Acknowledged,
    /// Must not be there: refused and since then stated so durably, settled durably, or gone once.
    Gone(&'static str),
}

impl Known {
    fn content(&self, id: MessageId) -> Vec<u8> {
        let bytes: usize = self.pieces.iter().sum();
        pattern(id, bytes)
    }

    fn meta(&self, id: MessageId) -> Vec<u8> {
        pattern(MessageId::from_u128(id.as_u128() + 7), self.meta_bytes)
    }
}

fn pattern(id: MessageId, bytes: usize) -> Vec<u8> {
    let salt = u64::try_from(id.as_u128()).expect("small");
    let mut out = vec![0; bytes];
    for (at, word) in (0..).zip(out.chunks_mut(16)) {
        let value = (u64::wrapping_add(at, salt << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let length = word.len().min(8);
        word[..length].copy_from_slice(&value.to_le_bytes()[..length]);
    }
    out
}

/// What waits for an outcome.
enum Awaited {
    Part,
    Message(MessageId),
    Note(MessageId, u32),
    Settle(MessageId),
}

/// One history.
struct World {
    seed: u64,
    chance: Chance,
    disk: SimDisk,
    key: Option<SpoolKey>,
    known: BTreeMap<MessageId, Known>,
    next_id: u128,
    now: Now,
    seen: Seen,
}

/// What the seeds reached, so that the test can say it was not idle.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    acknowledged: u64,
    refused: u64,
    recovered: u64,
    torn: u64,
    moved: u64,
    freed: u64,
    failed_groups: u64,
    notes: u64,
}

/// One life of the log.
struct Life<'w> {
    world: &'w mut World,
    log: Log<SimPool>,
    operations: Vec<Operation<SimBlock>>,
    awaited: BTreeMap<Ticket, Awaited>,
    drafts: Vec<DraftKey>,
}

fn limits(chance: &mut Chance) -> Limits {
    Limits {
        segment_pages: SEGMENT_PAGES,
        segments_max: 4 + chance.index(20),
        spares_max: chance.index(3),
        group_pages_max: 8 + u32::try_from(chance.below(40)).expect("small"),
        group_records_max: 2 + chance.index(14),
        linger_ms: chance.below(20),
        survivor_age_ms: 2000 * chance.below(3),
        survivor_percent: 50,
        grave_age_ms: 1500,
        retry_ms: 1000,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let key = chance.percent(50).then(|| SpoolKey::from_bytes(&[7; 32]).expect("32 bytes"));
        Self {
            seed,
            disk: SimDisk::new(chance.next()),
            chance,
            key,
            known: BTreeMap::new(),
            next_id: 1,
            now: Now { monotonic_ms: 1, unix_ms: 1_700_000_000_000 },
            seen: Seen::default(),
        }
    }

    fn pass_time(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.unix_ms += ms;
    }

    /// Recovers, perhaps crashing on the way, and checks what came back.
    fn start(&mut self) -> Recovery {
        for attempt in 0.. {
            if attempt < 2 && self.chance.percent(20) {
                self.disk.fuse = Some(1 + self.chance.below(30));
            }
            let key = self.key.clone();
            let segment_bytes = page_bytes(SEGMENT_PAGES) as u64;
            let settings = Settings { key: key.as_ref(), segment_bytes };
            let recovery = recover(&mut self.disk, &settings);
            let was_cut = self.disk.is_out();
            match recovery {
                Ok(recovery) if !was_cut => {
                    self.disk.fuse = None;
                    self.check(&recovery);
                    return recovery;
                }
                Err(RecoverError::Io(_)) | Ok(_) => self.disk.crash(false),
                Err(RecoverError::WrongKey | RecoverError::NoKey) => {
                    panic!("seed {}: the key is right", self.seed)
                }
            }
        }
        unreachable!("the third attempt meets no fault")
    }

    fn check(&mut self, recovery: &Recovery) {
        let seed = self.seed;
        let report = &recovery.report;
        assert!(report.damaged.is_empty(), "seed {seed}: crashes do no damage: {report:?}");
        assert!(report.damaged_messages.is_empty(), "seed {seed}: {report:?}");
        self.seen.torn += u64::from(report.torn_tail_bytes > 0);
        let mut present = BTreeSet::new();
        for message in &recovery.messages {
            let id = message.id;
            present.insert(id);
            let known = self.known.get(&id).unwrap_or_else(|| panic!("seed {seed}: {id} is ours"));
            if let Fate::Gone(why) = known.fate {
                panic!("seed {seed}: {id} came back: {why}");
            }
            assert!(message.meta == known.meta(id), "seed {seed}: meta of {id}");
            let content = read_all(&mut self.disk, recovery, id, seed);
            assert!(content == known.content(id), "seed {seed}: content of {id}");
            let note = message.note.as_ref().map(|note| parse_note(note));
            let newest = note.map_or(-1, i64::from);
            let oldest_allowed = known.durable_note.map_or(-1, i64::from);
            assert!(newest >= oldest_allowed, "seed {seed}: note of {id}: {newest}");
            assert!(newest < i64::from(known.notes), "seed {seed}: note of {id}: {newest}");
        }
        for (id, known) in &mut self.known {
            let is_here = present.contains(id);
            let is_lost = known.fate == Fate::Acknowledged && !known.is_settled && !is_here;
            assert!(!is_lost, "seed {seed}: {id} was acknowledged and is lost");
            known.fate = match known.fate {
                _ if is_here => Fate::Acknowledged,
                Fate::Gone(why) => Fate::Gone(why),
                Fate::Open | Fate::Refused | Fate::Acknowledged => {
                    Fate::Gone("it was not there once")
                }
            };
            known.is_settled = false;
        }
        for message in &recovery.messages {
            let known = self.known.get_mut(&message.id).expect("seen above");
            known.durable_note = message.note.as_ref().map(|note| parse_note(note));
        }
        self.seen.recovered += present.len() as u64;
    }

    fn live(&mut self) {
        let recovery = self.start();
        let limits = limits(&mut self.chance);
        let mut salts = Chance::new(self.chance.next());
        let salts = move || {
            let mut salt = [0; SALT_BYTES];
            salt[..8].copy_from_slice(&salts.next().to_le_bytes());
            Some(salt)
        };
        let pool = SimPool::new(40 + self.chance.index(100));
        let key = self.key.clone();
        let log = Log::new(limits, key, pool, Box::new(salts), recovery.restored)
            .expect("the pool is not that small");
        self.disk.fault_percent = [0, 0, 2, 5, 15][self.chance.index(5)];
        let turns = 20 + self.chance.below(TURNS);
        let mut life = Life {
            world: self,
            log,
            operations: Vec::new(),
            awaited: BTreeMap::new(),
            drafts: Vec::new(),
        };
        for _ in 0..turns {
            life.turn();
        }
        let is_clean = life.world.chance.percent(20);
        if is_clean {
            life.settle_down();
        }
        life.end();
    }
}

fn parse_note(note: &[u8]) -> u32 {
    let text = std::str::from_utf8(note).expect("a number").trim_end_matches('.');
    text.parse().expect("a number")
}

fn read_all(disk: &mut SimDisk, recovery: &Recovery, id: MessageId, seed: u64) -> Vec<u8> {
    let mut content = Vec::new();
    for place in recovery.restored.index[&id].places.as_slice() {
        let segment = &recovery.restored.segments[&place.epoch];
        let name = super::store::segment_name(place.epoch, &segment.salt);
        let mut record = vec![0; page_bytes(place.pages)];
        disk.read(&name, page_bytes(place.page) as u64, &mut record).expect("no faults now");
        let header = open_record(*place, segment.salt, segment.sealer.as_deref(), &mut record)
            .unwrap_or_else(|invalid| panic!("seed {seed}: {id} does not verify: {invalid:?}"));
        content.extend_from_slice(&record[HEADER_BYTES..HEADER_BYTES + header.content()]);
    }
    content
}

impl Life<'_> {
    fn turn(&mut self) {
        match self.world.chance.below(100) {
            0..35 => self.commit(),
            35..50 => self.note(),
            50..66 => self.settle(),
            66..70 => self.give_up_a_draft(),
            70..80 => {
                let ms = self.world.chance.below(30);
                self.world.pass_time(ms);
            }
            80..84 => {
                let ms = self.world.chance.below(3000);
                self.world.pass_time(ms);
            }
            84..86 => self.log.low_space = self.world.chance.percent(30),
            _ => {}
        }
        for _ in 0..self.world.chance.below(4) {
            self.step();
        }
    }

    /// Takes operations out, carries one out, looks at outcomes.
    fn step(&mut self) {
        while let Some(operation) = self.log.poll_operation(self.world.now) {
            self.operations.push(operation);
        }
        if !self.operations.is_empty() {
            let chosen = self.world.chance.index(self.operations.len());
            let operation = self.operations.swap_remove(chosen);
            let bytes = page_bytes(SEGMENT_PAGES) as u64;
            let completion = carry_out(&mut self.log, &mut self.world.disk, bytes, operation);
            self.log.complete(self.world.now, completion);
        }
        self.take_outcomes();
    }

    fn take_outcomes(&mut self) {
        while let Some(Outcome { ticket, result }) = self.log.poll_outcome() {
            let is_ok = result.is_ok();
            match self.awaited.remove(&ticket).expect("each ticket has one outcome") {
                Awaited::Part => {}
                Awaited::Message(id) => self.commit_ended(id, is_ok),
                Awaited::Note(id, number) if is_ok => {
                    let known = self.world.known.get_mut(&id).expect("noted");
                    known.durable_note = known.durable_note.max(Some(number));
                    self.world.seen.notes += 1;
                }
                Awaited::Settle(id) if is_ok => {
                    let known = self.world.known.get_mut(&id).expect("settled");
                    known.fate = Fate::Gone("its settle was acknowledged");
                }
                Awaited::Note(..) | Awaited::Settle(_) => {}
            }
        }
    }

    fn commit_ended(&mut self, id: MessageId, is_ok: bool) {
        let known = self.world.known.get_mut(&id).expect("committed");
        if !is_ok {
            known.fate = Fate::Refused;
            self.world.seen.refused += 1;
            return;
        }
        known.fate = Fate::Acknowledged;
        self.world.seen.acknowledged += 1;
        assert!(self.log.places(id).is_some(), "an acknowledged message is served");
        // What was refused before lies in a segment that the one just written to states as closed.
        for known in self.world.known.values_mut().filter(|known| known.fate == Fate::Refused) {
            known.fate = Fate::Gone("it was refused, and a later segment says so");
        }
    }

    fn commit(&mut self) {
        let chance = &mut self.world.chance;
        let parts = if chance.percent(75) { 1 } else { 1 + chance.index(4) };
        let pieces: Vec<usize> = (0..parts).map(|_| draw_bytes(chance)).collect();
        let meta_bytes = chance.index(300);
        let id = MessageId::from_u128(self.world.next_id);
        self.world.next_id += 1;
        let known = Known {
            pieces,
            meta_bytes,
            fate: Fate::Open,
            notes: 0,
            durable_note: None,
            is_settled: false,
        };
        let (content, meta) = (known.content(id), known.meta(id));
        let pieces = known.pieces.clone();
        self.world.known.insert(id, known);
        let draft = self.log.draft();
        let mut from = 0;
        for (index, bytes) in pieces.iter().copied().enumerate() {
            let piece = &content[from..from + bytes];
            from += bytes;
            let is_last = index + 1 == pieces.len();
            if !self.append(draft, piece, is_last.then_some((id, index, &meta[..]))) {
                // No memory: the session gives its draft up.
                self.log.abandon(draft);
                self.world.known.get_mut(&id).expect("just made").fate =
                    Fate::Gone("never written");
                return;
            }
            if self.world.chance.percent(30) {
                self.step();
            }
        }
    }

    fn append(
        &mut self,
        draft: DraftKey,
        piece: &[u8],
        last: Option<(MessageId, usize, &[u8])>,
    ) -> bool {
        let closing = last.map_or(0, |(_, parts, meta)| parts * PART_BYTES + meta.len());
        let bytes = HEADER_BYTES + piece.len() + closing;
        let Some(mut block) = self.log.pool.take(bytes) else { return false };
        block[HEADER_BYTES..HEADER_BYTES + piece.len()].copy_from_slice(piece);
        let last = last.map(|(id, parts, meta)| {
            let at = HEADER_BYTES + piece.len() + parts * PART_BYTES;
            block[at..at + meta.len()].copy_from_slice(meta);
            (id, Last { id, parts, meta_bytes: meta.len() })
        });
        let awaited = last.as_ref().map_or(Awaited::Part, |(id, _)| Awaited::Message(*id));
        let last = last.map(|(_, last)| last);
        let ticket = self.log.append(Append { draft, block, content_bytes: piece.len(), last });
        self.awaited.insert(ticket, awaited);
        true
    }

    fn give_up_a_draft(&mut self) {
        if let Some(draft) = self.drafts.pop() {
            self.log.abandon(draft);
            return;
        }
        let draft = self.log.draft();
        let bytes = draw_bytes(&mut self.world.chance);
        if self.append(draft, &vec![0x55; bytes], None) {
            self.drafts.push(draft);
        } else {
            self.log.abandon(draft);
        }
    }

    fn pick(&mut self) -> Option<MessageId> {
        let live: Vec<MessageId> = self
            .world
            .known
            .iter()
            .filter(|(_, known)| known.fate == Fate::Acknowledged && !known.is_settled)
            .map(|(id, _)| *id)
            .collect();
        // Mostly old ones, so that some segments die and some messages stay for long.
        let window = if self.world.chance.percent(60) { live.len().min(6) } else { live.len() };
        if live.is_empty() { None } else { Some(live[self.world.chance.index(window)]) }
    }

    fn note(&mut self) {
        let Some(id) = self.pick() else { return };
        let is_durable = self.world.chance.percent(50);
        let most = if self.world.chance.percent(5) { 5000 } else { 40 };
        let filler = self.world.chance.index(most);
        let known = self.world.known.get_mut(&id).expect("picked");
        let number = known.notes;
        known.notes += 1;
        let mut text = number.to_string().into_bytes();
        text.extend(std::iter::repeat_n(b'.', filler));
        let ticket = self.log.note(self.world.now, id, text, is_durable);
        let ticket = ticket.expect("a live message takes notes");
        if is_durable {
            self.awaited.insert(ticket, Awaited::Note(id, number));
        }
    }

    fn settle(&mut self) {
        let Some(id) = self.pick() else { return };
        self.world.known.get_mut(&id).expect("picked").is_settled = true;
        let is_durable = self.world.chance.percent(30);
        let ticket = self.log.settle(self.world.now, id, is_durable);
        if is_durable {
            self.awaited.insert(ticket.expect("a live message settles"), Awaited::Settle(id));
        }
    }

    /// Lets everything come to rest, without faults: the log must get there.
    fn settle_down(&mut self) {
        self.world.disk.fault_percent = 0;
        self.log.low_space = false;
        self.log.limits.segments_max = usize::MAX;
        for _ in 0..3000 {
            self.step();
            if self.log.is_idle() && self.operations.is_empty() && self.awaited.is_empty() {
                return;
            }
            if self.operations.is_empty() {
                self.world.pass_time(50);
            }
        }
        panic!("seed {}: the log does not come to rest", self.world.seed);
    }

    /// The crash, perhaps in the middle of what is under way.
    fn end(mut self) {
        if self.world.chance.percent(60) {
            self.world.disk.fuse = Some(1 + self.world.chance.below(12));
            for _ in 0..20 {
                if self.world.disk.is_out() {
                    break;
                }
                self.step_in_the_dark();
            }
        }
        self.close_books();
        let counters = self.log.counters;
        self.world.seen.moved += counters.moved;
        self.world.seen.freed += counters.freed;
        self.world.seen.failed_groups += counters.failed_groups;
        let kill = self.world.chance.percent(25);
        self.world.disk.crash(kill);
    }

    /// As [`Self::step`], but what completes after the power went tells nobody anything.
    fn step_in_the_dark(&mut self) {
        while let Some(operation) = self.log.poll_operation(self.world.now) {
            self.operations.push(operation);
        }
        if self.operations.is_empty() {
            self.world.pass_time(20);
            self.commit();
            return;
        }
        let chosen = self.world.chance.index(self.operations.len());
        let operation = self.operations.swap_remove(chosen);
        let bytes = page_bytes(SEGMENT_PAGES) as u64;
        let completion = carry_out(&mut self.log, &mut self.world.disk, bytes, operation);
        if !self.world.disk.is_out() {
            self.log.complete(self.world.now, completion);
            self.take_outcomes();
        }
    }

    /// Settles that are durable must hold.
    fn close_books(&mut self) {
        for (id, known) in &mut self.world.known {
            if !known.is_settled || known.fate != Fate::Acknowledged {
                continue;
            }
            let is_durable = match self.log.index.get(id).map(|entry| &entry.state) {
                None => true,
                Some(State::Settled { at, .. }) => at.is_some(),
                Some(State::Live { .. }) => false,
            };
            if is_durable {
                known.fate = Fate::Gone("its settle was durable");
            }
        }
    }
}

fn draw_bytes(chance: &mut Chance) -> usize {
    let pages = if chance.percent(80) { 1 } else { 1 + chance.below(RECORD_PAGES - 1) };
    let most = usize::try_from(pages).expect("small") * PAGE_BYTES - 1024;
    chance.index(most)
}

fn run(seed: u64) -> Seen {
    let mut world = World::new(seed);
    for _ in 0..LIVES {
        world.live();
    }
    world.start();
    world.seen
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_acknowledged_is_lost_over_a_thousand_seeds() {
    if let Some(seed) = number_from("POSTERN_SIM_SEED") {
        run(seed);
        return;
    }
    let mut total = Seen::default();
    for seed in 0..number_from("POSTERN_SIM_SEEDS").unwrap_or(SEEDS) {
        let seen = run(seed);
        total.acknowledged += seen.acknowledged;
        total.refused += seen.refused;
        total.recovered += seen.recovered;
        total.torn += seen.torn;
        total.moved += seen.moved;
        total.freed += seen.freed;
        total.failed_groups += seen.failed_groups;
        total.notes += seen.notes;
    }
    // The seeds must reach what they are for.
    for (what, count) in [
        ("acknowledged", total.acknowledged),
        ("refused", total.refused),
        ("recovered", total.recovered),
        ("torn", total.torn),
        ("moved", total.moved),
        ("freed", total.freed),
        ("failed groups", total.failed_groups),
        ("notes", total.notes),
    ] {
        assert!(count > 100, "{what} happened only {count} times: {total:?}");
    }
}

/// Damage that is not a torn tail is reported and kept, and nothing damaged is served.
#[test]
fn damage_is_reported_and_never_served() {
    let mut reported = 0;
    for seed in 0..150 {
        reported += u64::from(run_with_damage(seed));
    }
    assert!(reported > 75, "damage was reported only {reported} times");
}

fn run_with_damage(seed: u64) -> bool {
    let mut world = World::new(seed.wrapping_add(1 << 40));
    world.live();
    let before = world.start();
    // Spoil one record's page in what recovery just called whole.
    let names: Vec<String> = world
        .disk
        .names
        .keys()
        .filter(|name| matches!(Name::parse(name), Some(Name::Segment { .. })))
        .cloned()
        .collect();
    if names.is_empty() {
        return false;
    }
    let name = names[world.chance.index(names.len())].clone();
    let Some(Name::Segment { epoch, .. }) = Name::parse(&name) else { return false };
    let used = before.restored.segments[&epoch].next_page;
    // Records are short: spoil a page's front, where there is something to spoil.
    let page = page_bytes(u32::try_from(world.chance.below(u64::from(used))).expect("small"));
    let at = page + world.chance.index(SECTOR_BYTES);
    let file = world.disk.names[&name];
    let sector = at / SECTOR_BYTES * SECTOR_BYTES;
    match world.chance.below(2) {
        0 => world.disk.files[file].seen[at] ^= 0x40,
        _ => world.disk.files[file].seen[sector..sector + SECTOR_BYTES].fill(0),
    }
    let key = world.key.clone();
    let segment_bytes = page_bytes(SEGMENT_PAGES) as u64;
    let settings = Settings { key: key.as_ref(), segment_bytes };
    let Ok(after) = recover(&mut world.disk, &settings) else {
        panic!("seed {seed}: one spoiled page does not stop the start")
    };
    let report = &after.report;
    assert!(report.damaged.is_empty() || world.disk.preserved.contains(&name), "seed {seed}");
    let here: BTreeSet<MessageId> = after.messages.iter().map(|message| message.id).collect();
    for message in &after.messages {
        let known = &world.known[&message.id];
        let content = read_all(&mut world.disk, &after, message.id, seed);
        assert!(content == known.content(message.id), "seed {seed}: {} is not whole", message.id);
    }
    let lost = before.messages.iter().filter(|message| !here.contains(&message.id)).count();
    let is_reported = !report.damaged.is_empty()
        || !report.damaged_messages.is_empty()
        || report.torn_tail_bytes > 0;
    // A last group that was never followed by another cannot be told from a torn one if its very
    // header is gone.
    let is_last_group = epoch == *before.restored.segments.keys().next_back().expect("not empty");
    assert!(lost == 0 || is_reported || is_last_group, "seed {seed}: {lost} lost in silence");
    !report.damaged.is_empty()
}

/// Where the fuzz target's corpus lies.
fn corpus_folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/spool_recovery")
}

/// A small log as it lies on disk: messages of one and of several parts, notes, a settle.
fn small_log(key: Option<SpoolKey>) -> Vec<u8> {
    let mut world = World::new(1);
    world.key = key.clone();
    let limits = Limits { linger_ms: 0, ..limits(&mut Chance::new(1)) };
    let salts = Box::new(|| Some([0x11; SALT_BYTES]));
    let log = Log::new(limits, key, SimPool::new(100), salts, super::log::Restored::default())
        .expect("memory");
    let (operations, awaited, drafts) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut life = Life { world: &mut world, log, operations, awaited, drafts };
    let meta = [b'm'; 40];
    let id = MessageId::from_u128;
    let store = |life: &mut Life<'_>, number: u128, parts: usize| {
        let draft = life.log.draft();
        for part in 0..parts {
            assert!(life.append(draft, &[b'p'; 600], None), "part {part}");
        }
        let known = Known {
            pieces: vec![],
            meta_bytes: 0,
            fate: Fate::Open,
            notes: 0,
            durable_note: None,
            is_settled: false,
        };
        life.world.known.insert(id(number), known);
        assert!(life.append(draft, &[b'c'; 900], Some((id(number), parts, &meta[..]))));
        for _ in 0..20 {
            life.step();
            life.world.pass_time(1);
        }
    };
    store(&mut life, 1, 0);
    store(&mut life, 2, 2);
    for number in [1, 2] {
        life.log.note(life.world.now, id(number), b"deferred".to_vec(), false);
    }
    life.log.settle(life.world.now, id(1), false);
    store(&mut life, 3, 0);
    let used = life.log.segments[&1].next_page;
    let file = life.world.disk.names.values().next().expect("a segment");
    let file = &life.world.disk.files[*file];
    file.seen[..page_bytes(used + 1)].to_vec()
}

#[test]
#[ignore = "writes the corpus anew: for a change of the format"]
fn write_corpus() {
    let key = SpoolKey::from_bytes(&[7; 32]).ok();
    let clear = small_log(None);
    let sealed = small_log(key);
    let mut torn = clear.clone();
    let last = torn.len() - 2 * PAGE_BYTES;
    torn[last + 600] ^= 1;
    let mut damaged = clear.clone();
    damaged[PAGE_BYTES + 600] ^= 1;
    for (name, choice, file) in [
        ("clear", 0, &clear),
        ("clear-mended", 2, &clear),
        ("sealed", 1, &sealed),
        ("sealed-without-key", 0, &sealed),
        ("torn-tail", 0, &torn),
        ("damaged", 0, &damaged),
    ] {
        let bytes = [&[choice], &file[..]].concat();
        std::fs::write(corpus_folder().join(name), bytes).expect("written");
    }
}

/// What the corpus means stays what it means, and no mutation of it gets through as mail.
#[test]
fn the_corpus_of_recovery_is_replayed_and_mutated() {
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(corpus_folder()).expect("the corpus") {
        inputs.push(std::fs::read(entry.expect("an entry").path()).expect("a file"));
    }
    assert!(inputs.len() >= 6, "the corpus has {} inputs", inputs.len());
    inputs.iter().for_each(|input| super::fuzz_recover(input));
    let mut chance = Chance::new(3);
    for _ in 0..2000 {
        let mut input = inputs[chance.index(inputs.len())].clone();
        input[0] = u8::try_from(chance.below(4)).expect("small");
        for _ in 0..1 + chance.below(4) {
            // Where the fields are: headers, and the lists behind short contents.
            let page = chance.index(input.len().div_ceil(PAGE_BYTES)) * PAGE_BYTES;
            let at = (page + 1 + chance.index(160)).min(input.len() - 1);
            input[at] = [0, 1, 0xFF, input[at] ^ 4][chance.index(4)];
        }
        if chance.percent(10) {
            input.truncate(chance.index(input.len()));
        }
        super::fuzz_recover(&input);
    }
}

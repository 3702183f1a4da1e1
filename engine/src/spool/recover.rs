//! Start-up: scan every segment, cut a torn tail, find damage, rebuild the index.
//!
//! The scan walks a segment page by page and believes what carries this segment's epoch and secret
//! salt and is whole. What it does not believe is sorted by one rule: every group was flushed before
//! the next was written, so anything before the last group (or before the page that a later segment
//! states as durable) must be whole, and is **damage** if it is not; anything after is the **torn
//! tail** of a group that was never acknowledged, and is cut.
//!
//! Invariants: nothing damaged is served or skipped in silence; a segment with damage is kept in
//! quarantine under the same name before anything else happens; records that were refused to their
//! senders (after a failed flush) are not taken back.
//! Security: the bytes are hostile until proven otherwise (a stolen or tampered disk): no length is
//! trusted, nothing panics, memory is bounded by one window beside the index. [`fuzz_recover`] is
//! the fuzz body.
//! Failures: [`RecoverError`] ends the start; damage does not, it is reported.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::rc::Rc;

use super::MessageId;
use super::forward::open_record;
use super::log::{Copies, Entry, Note, Restored, State};
use super::record::{
    BatchEntry, Closed, HEADER_BYTES, Header, Invalid, Kind, PAGE_BYTES, RECORD_BYTES_MAX,
    batch_entries, mend_checksums, page_bytes, read_closed, read_meta, read_parts,
};
use super::seal::{SALT_BYTES, Sealer, SpoolKey};
use super::segment::{Epoch, Place, Places, Segment, Stage};
use super::store::{Name, Storage, segment_name, spare_name};

/// Bytes read at a time.
const WINDOW_BYTES: usize = 1 << 20;
/// A failing read is tried this often before its page counts as damaged.
const READ_TRIES: usize = 3;
/// Sequences and epochs beyond this were not made by us (it is 2^62: four billion a second for 34
/// years).
const COUNT_MAX: u64 = 1 << 62;

/// A message found at start.
#[derive(Debug)]
pub struct Recovered {
    /// Its id.
    pub id: MessageId,
    /// What `commit` was given.
    pub meta: Vec<u8>,
    /// The last durable note.
    pub note: Option<Vec<u8>>,
    /// Length of the content in wire form.
    pub content_bytes: u64,
}

/// A range that should have held whole records and did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// Segment file, relative to the log's directory; a copy is in its `quarantine/`.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
}

/// What the start found, to be logged and shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments read.
    pub segments: usize,
    /// Messages that are still to be delivered.
    pub messages: usize,
    /// Their content.
    pub content_bytes: u64,
    /// Bytes read.
    pub scanned_bytes: u64,
    /// Bytes of unfinished, never acknowledged groups that were cut off.
    pub torn_tail_bytes: u64,
    /// Damage elsewhere than in a tail.
    pub damaged: Vec<DamagedRange>,
    /// Messages that were acknowledged and cannot be served whole.
    pub damaged_messages: Vec<MessageId>,
    /// Messages taken over from logs of shards that are no more.
    pub adopted: usize,
    /// Wall time of the recovery.
    pub took: std::time::Duration,
}

/// Why a log cannot be opened.
#[derive(Debug)]
pub(super) enum RecoverError {
    Io(io::Error),
    /// No record of some segment opens with the configured key.
    WrongKey,
    /// Records are sealed and no key is configured.
    NoKey,
}

impl From<io::Error> for RecoverError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The outcome of [`recover`].
pub(super) struct Recovery {
    pub(super) restored: Restored,
    pub(super) messages: Vec<Recovered>,
    pub(super) report: RecoveryReport,
}

/// What recovery is told.
pub(super) struct Settings<'a> {
    pub(super) key: Option<&'a SpoolKey>,
    /// Spares of another length are removed.
    pub(super) segment_bytes: u64,
}

/// Scans a log and rebuilds its state. Clears away files that hold nothing.
pub(super) fn recover(
    storage: &mut dyn Storage,
    settings: &Settings<'_>,
) -> Result<Recovery, RecoverError> {
    let mut scans = BTreeMap::new();
    let mut spares = Vec::new();
    let mut report = RecoveryReport::default();
    let mut window = Window::new();
    for name in storage.list()? {
        match Name::parse(&name) {
            Some(Name::Segment { epoch, salt }) if epoch < COUNT_MAX => {
                let scan = scan_segment(storage, &mut window, settings, (name, epoch, salt))?;
                report.scanned_bytes += scan.bytes;
                scans.insert(epoch, scan);
            }
            Some(Name::Spare(number)) if number < COUNT_MAX => spares.push(number),
            Some(_) | None => {}
        }
    }
    let statements = collect_statements(&scans);
    let next_epoch = scans.keys().next_back().map_or(1, |last| last + 1);
    for (epoch, scan) in &mut scans {
        scan.judge(statements.get(epoch), &mut report);
    }
    keep_damaged(storage, &mut scans)?;
    clear_away(storage, settings, &mut scans, &mut spares)?;
    make_durable(storage, &scans, &statements)?;
    report.segments = scans.len();
    let mut recovery = Index::build(&scans).resolve(storage, scans, report)?;
    recovery.restored.spares = spares;
    recovery.restored.next_epoch = recovery.restored.next_epoch.max(next_epoch);
    Ok(recovery)
}

/// A whole record, without its payload.
struct Found {
    place: Place,
    kind: Kind,
    id: MessageId,
    group_page: u32,
    entries: Vec<Said>,
}

/// An entry of a batch record.
enum Said {
    Note(MessageId, Rc<[u8]>),
    Settle(MessageId),
}

/// One segment, read.
struct Scan {
    name: String,
    epoch: Epoch,
    salt: [u8; SALT_BYTES],
    sealer: Option<Rc<Sealer>>,
    capacity_pages: u32,
    bytes: u64,
    found: Vec<Found>,
    closed: Vec<Closed>,
    /// Ranges that are not whole records: first page, pages, and whether a read failed there.
    holes: Vec<(u32, u32, bool)>,
    /// End of the last range in which a record of this segment had begun.
    begun_pages: u32,
    durable_pages: u32,
    kept_pages: u32,
    has_damage: bool,
}

fn scan_segment(
    storage: &mut dyn Storage,
    window: &mut Window,
    settings: &Settings<'_>,
    (name, epoch, salt): (String, Epoch, [u8; SALT_BYTES]),
) -> Result<Scan, RecoverError> {
    let length = storage.length(&name)?;
    let capacity_pages = u32::try_from(length / PAGE_BYTES as u64).unwrap_or(u32::MAX);
    let sealer = settings.key.map(|key| Rc::new(Sealer::for_segment(key, &salt, epoch)));
    let mut scan = Scan {
        name,
        epoch,
        salt,
        sealer,
        capacity_pages,
        bytes: length,
        found: Vec::new(),
        closed: Vec::new(),
        holes: Vec::new(),
        begun_pages: 0,
        durable_pages: 0,
        kept_pages: u32::MAX,
        has_damage: false,
    };
    window.valid = 0;
    scan.walk(storage, window)?;
    Ok(scan)
}

/// What stands at a page.
enum At {
    Record(Header),
    /// Nothing usable, for this many pages; whether a record had begun there.
    Nothing {
        pages: u32,
        begun: bool,
        unreadable: bool,
    },
}

impl Scan {
    fn walk(&mut self, storage: &mut dyn Storage, window: &mut Window) -> Result<(), RecoverError> {
        let (mut page, mut refused, mut opened) = (0, 0_u32, 0_u32);
        while page < self.capacity_pages {
            let at = self.look(storage, window, page);
            let pages = match at {
                At::Record(header) => match self.take(&header, page, window) {
                    Ok(()) => {
                        opened += u32::from(matches!(header.kind, Kind::Segment | Kind::Batch));
                        header.pages
                    }
                    Err(Invalid::NoKey) => return Err(RecoverError::NoKey),
                    Err(_not_authentic) => {
                        refused += 1;
                        self.hole(page, header.pages, true, false);
                        header.pages
                    }
                },
                At::Nothing { pages, begun, unreadable } => {
                    self.hole(page, pages, begun, unreadable);
                    pages
                }
            };
            page = page.saturating_add(pages);
        }
        if refused > 0 && opened == 0 { Err(RecoverError::WrongKey) } else { Ok(()) }
    }

    fn look(&self, storage: &mut dyn Storage, window: &mut Window, page: u32) -> At {
        let nothing = |pages, begun, unreadable| At::Nothing { pages, begun, unreadable };
        let Some(first) = window.at(storage, &self.name, page, 1) else {
            return nothing(1, false, true);
        };
        let Ok(header) = Header::decode(first) else { return nothing(1, false, false) };
        let after = self.found.last().map_or(0, |last| last.place.sequence);
        let is_ours = header.epoch == self.epoch
            && header.salt == self.salt
            && header.sequence > after
            && header.sequence < COUNT_MAX
            && header.group_page <= page;
        if !is_ours {
            return nothing(1, false, false);
        }
        if page.saturating_add(header.pages) > self.capacity_pages {
            return nothing(1, true, false);
        }
        let Some(record) = window.at(storage, &self.name, page, header.pages) else {
            return nothing(header.pages, true, true);
        };
        match header.verify(record) {
            Ok(()) => At::Record(header),
            Err(_torn) => nothing(header.pages, true, false),
        }
    }

    /// Keeps a whole record; opens those that tell something about others.
    fn take(&mut self, header: &Header, page: u32, window: &mut Window) -> Result<(), Invalid> {
        if header.sealed && self.sealer.is_none() {
            return Err(Invalid::NoKey);
        }
        let mut entries = Vec::new();
        if matches!(header.kind, Kind::Segment | Kind::Batch) {
            let record = window.held(page, header.pages).ok_or(Invalid::Payload)?;
            header.open(self.sealer.as_deref(), record)?;
            let meta = read_meta(header, record);
            match header.kind {
                Kind::Segment => self.closed.extend(read_closed(meta)),
                _ => entries.extend(batch_entries(meta).map(Said::from)),
            }
        }
        self.begun_pages = page + header.pages;
        self.found.push(Found {
            place: Place {
                epoch: self.epoch,
                page,
                pages: header.pages,
                sequence: header.sequence,
                content_bytes: header.content_bytes,
            },
            kind: header.kind,
            id: header.id,
            group_page: header.group_page,
            entries,
        });
        Ok(())
    }

    fn hole(&mut self, page: u32, pages: u32, begun: bool, unreadable: bool) {
        if begun {
            self.begun_pages = page.saturating_add(pages).min(self.capacity_pages);
        }
        match self.holes.last_mut() {
            Some((from, length, bad)) if *from + *length == page && *bad == unreadable => {
                *length += pages;
            }
            _ => self.holes.push((page, pages, unreadable)),
        }
    }

    fn end_of_found(&self) -> u32 {
        self.found.last().map_or(0, |last| last.place.page + last.place.pages)
    }

    /// Sorts what is not whole into damage and torn tail, and drops what was refused.
    fn judge(&mut self, stated: Option<&Closed>, report: &mut RecoveryReport) {
        let last_group = self.found.last().map_or(0, |last| last.group_page);
        let must_be_whole = stated.map_or(last_group, |stated| stated.durable_pages);
        self.kept_pages = stated.map_or(u32::MAX, |stated| stated.kept_pages);
        let kept = self.kept_pages;
        self.found.retain(|found| found.place.page < kept);
        let end = self.end_of_found();

        let mut damaged: Vec<(u32, u32)> = Vec::new();
        let mut torn_pages = 0;
        let mut first_torn = None;
        for (from, pages, unreadable) in self.holes.iter().copied() {
            let to = from.saturating_add(pages);
            if unreadable && from < kept {
                damaged.push((from, to));
            } else if from < must_be_whole {
                damaged.push((from, to.min(must_be_whole)));
            } else if from < self.begun_pages && stated.is_none() {
                torn_pages += to.min(self.begun_pages) - from;
                first_torn = first_torn.or(Some(from));
            }
        }
        if self.capacity_pages < must_be_whole {
            damaged.push((self.capacity_pages, must_be_whole));
        }
        report.torn_tail_bytes += page_bytes(torn_pages) as u64;
        self.has_damage = !damaged.is_empty();
        report.damaged.extend(damaged.into_iter().map(|(from, to)| DamagedRange {
            file: self.name.clone(),
            offset: page_bytes(from) as u64,
            bytes: page_bytes(to - from) as u64,
        }));
        match stated {
            Some(stated) => self.durable_pages = stated.durable_pages,
            None => {
                self.durable_pages = first_torn.map_or(end, |torn| torn.min(end));
                self.kept_pages = end;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.found.is_empty() && !self.has_damage
    }
}

impl From<BatchEntry<'_>> for Said {
    fn from(entry: BatchEntry<'_>) -> Self {
        match entry {
            BatchEntry::Note(id, bytes) => Self::Note(id, bytes.into()),
            BatchEntry::Settle(id) => Self::Settle(id),
        }
    }
}

/// A piece of a segment in memory.
struct Window {
    bytes: Vec<u8>,
    /// How much of `bytes` is what was read.
    valid: usize,
    start_page: u32,
}

impl Window {
    fn new() -> Self {
        Self { bytes: vec![0; WINDOW_BYTES], valid: 0, start_page: 0 }
    }

    /// The pages asked for, read if need be. `None` if they cannot be read.
    fn at(
        &mut self,
        storage: &mut dyn Storage,
        name: &str,
        page: u32,
        pages: u32,
    ) -> Option<&mut [u8]> {
        if self.held(page, pages).is_none() {
            self.fill(storage, name, page, WINDOW_BYTES);
        }
        if self.held(page, pages).is_none() {
            // The window may reach into an unreadable page: take no more than is needed.
            self.fill(storage, name, page, page_bytes(pages));
        }
        self.held(page, pages)
    }

    fn held(&mut self, page: u32, pages: u32) -> Option<&mut [u8]> {
        let from = page_bytes(page.checked_sub(self.start_page)?);
        self.bytes[..self.valid].get_mut(from..from.checked_add(page_bytes(pages))?)
    }

    fn fill(&mut self, storage: &mut dyn Storage, name: &str, page: u32, bytes: usize) {
        self.start_page = page;
        self.valid = 0;
        let wanted = &mut self.bytes[..bytes];
        for _ in 0..READ_TRIES {
            if let Ok(read) = storage.read(name, page_bytes(page) as u64, wanted) {
                self.valid = read;
                return;
            }
        }
    }
}

/// The newest statement about each segment.
fn collect_statements(scans: &BTreeMap<Epoch, Scan>) -> HashMap<Epoch, Closed> {
    // Later segments know better, and come later here.
    scans.values().flat_map(|scan| &scan.closed).map(|closed| (closed.epoch, *closed)).collect()
}

fn keep_damaged(
    storage: &mut dyn Storage,
    scans: &mut BTreeMap<Epoch, Scan>,
) -> Result<(), RecoverError> {
    for scan in scans.values().filter(|scan| scan.has_damage) {
        storage.preserve(&scan.name)?;
    }
    Ok(())
}

/// Segments that were prepared and never used, and spares of another length.
fn clear_away(
    storage: &mut dyn Storage,
    settings: &Settings<'_>,
    scans: &mut BTreeMap<Epoch, Scan>,
    spares: &mut Vec<u64>,
) -> Result<(), RecoverError> {
    let mut has_changed = false;
    let mut next_spare = spares.iter().max().map_or(0, |last| last + 1);
    let empty: Vec<Epoch> =
        scans.iter().filter(|(_, scan)| scan.is_empty()).map(|(epoch, _)| *epoch).collect();
    for scan in empty.into_iter().filter_map(|epoch| scans.remove(&epoch)) {
        has_changed = true;
        if scan.bytes == settings.segment_bytes {
            storage.rename(&scan.name, &spare_name(next_spare))?;
            spares.push(next_spare);
            next_spare += 1;
        } else {
            storage.remove(&scan.name)?;
        }
    }
    let mut kept = Vec::new();
    for spare in spares.drain(..) {
        let name = spare_name(spare);
        if storage.length(&name)? == settings.segment_bytes {
            kept.push(spare);
        } else {
            storage.remove(&name)?;
            has_changed = true;
        }
    }
    *spares = kept;
    if has_changed {
        storage.sync_directory()?;
    }
    Ok(())
}

/// What was read may have come from the page cache of a killed process: make it durable before it is
/// stated as such.
fn make_durable(
    storage: &mut dyn Storage,
    scans: &BTreeMap<Epoch, Scan>,
    statements: &HashMap<Epoch, Closed>,
) -> Result<(), RecoverError> {
    for scan in scans.values().filter(|scan| !statements.contains_key(&scan.epoch)) {
        storage.flush(&scan.name)?;
    }
    Ok(())
}

/// What all segments together say.
#[derive(Default)]
struct Index {
    /// Part records by sequence.
    parts: HashMap<u64, Place>,
    /// Message records by id, in order of sequence.
    messages: BTreeMap<MessageId, Vec<Place>>,
    /// Newest note by id: sequence, segment, bytes.
    notes: HashMap<MessageId, (u64, Epoch, Rc<[u8]>)>,
    /// Segment of the newest settle by id.
    settles: HashMap<MessageId, Epoch>,
    last_sequence: u64,
}

/// A message record read again and taken apart.
struct Resolved {
    places: Places,
    meta: Vec<u8>,
}

impl Index {
    fn build(scans: &BTreeMap<Epoch, Scan>) -> Self {
        let mut index = Self::default();
        for found in scans.values().flat_map(|scan| &scan.found) {
            index.add(found);
        }
        for places in index.messages.values_mut() {
            places.sort_by_key(|place| place.sequence);
        }
        index
    }

    fn add(&mut self, found: &Found) {
        let sequence = found.place.sequence;
        self.last_sequence = self.last_sequence.max(sequence);
        match found.kind {
            Kind::Part => {
                self.parts.insert(sequence, found.place);
            }
            Kind::Message => self.messages.entry(found.id).or_default().push(found.place),
            Kind::Segment | Kind::Batch => {}
        }
        for said in &found.entries {
            match said {
                Said::Settle(id) => {
                    let at = self.settles.entry(*id).or_insert(found.place.epoch);
                    *at = found.place.epoch.max(*at);
                }
                Said::Note(id, bytes) => {
                    let newest = self.notes.get(id).map_or(0, |(newest, _, _)| *newest);
                    if sequence > newest {
                        let note = (sequence, found.place.epoch, Rc::clone(bytes));
                        self.notes.insert(*id, note);
                    }
                }
            }
        }
    }

    /// Reads the live messages again and sets the log up.
    fn resolve(
        mut self,
        storage: &mut dyn Storage,
        scans: BTreeMap<Epoch, Scan>,
        mut report: RecoveryReport,
    ) -> Result<Recovery, RecoverError> {
        let mut restored = Restored {
            next_sequence: self.last_sequence.saturating_add(1),
            next_epoch: 1,
            ..Restored::default()
        };
        for (epoch, scan) in &scans {
            restored.segments.insert(*epoch, scan.to_segment());
        }
        let mut messages = Vec::new();
        let mut window = Window::new();
        for (id, found) in std::mem::take(&mut self.messages) {
            let copies = note_copies(&mut restored, id, &found);
            if let Some(at) = self.settles.get(&id) {
                self.restore_settled(&mut restored, id, *at, &found, copies);
                continue;
            }
            let resolved = found
                .iter()
                .rev()
                .find_map(|place| self.resolve_one(storage, &scans, &mut window, *place));
            match resolved {
                Some(resolved) => {
                    let message = self.restore_live(&mut restored, id, resolved, copies);
                    report.content_bytes += message.content_bytes;
                    messages.push(message);
                }
                None if found.iter().any(|place| scans[&place.epoch].was_durable(*place)) => {
                    for place in &found {
                        storage.preserve(&scans[&place.epoch].name)?;
                        if let Some(segment) = restored.segments.get_mut(&place.epoch) {
                            segment.preserved = true;
                        }
                    }
                    report.damaged_messages.push(id);
                }
                // Its group was torn: it was never acknowledged.
                None => {}
            }
        }
        report.messages = messages.len();
        Ok(Recovery { restored, messages, report })
    }

    fn resolve_one(
        &self,
        storage: &mut dyn Storage,
        scans: &BTreeMap<Epoch, Scan>,
        window: &mut Window,
        place: Place,
    ) -> Option<Resolved> {
        let scan = scans.get(&place.epoch)?;
        window.fill(storage, &scan.name, place.page, page_bytes(place.pages));
        let record = window.held(place.page, place.pages)?;
        let header = open_record(place, scan.salt, scan.sealer.as_deref(), record).ok()?;
        let earlier: Option<Vec<Place>> = read_parts(&header, record)
            .iter()
            .map(|sequence| self.parts.get(sequence).copied())
            .collect();
        let meta = read_meta(&header, record).to_vec();
        Some(Resolved { places: Places::new(earlier?, place), meta })
    }

    fn restore_settled(
        &self,
        restored: &mut Restored,
        id: MessageId,
        at: Epoch,
        found: &[Place],
        copies: Copies,
    ) {
        let Some(last) = found.last() else { return };
        let state = State::Settled { at: Some(at), dirty: false, held: None };
        let entry = Entry { places: Places::One(*last), copies, state, queued: false };
        restored.index.insert(id, entry);
        if let Some(segment) = restored.segments.get_mut(&at) {
            segment.settles.push(id);
        }
    }

    fn restore_live(
        &self,
        restored: &mut Restored,
        id: MessageId,
        resolved: Resolved,
        copies: Copies,
    ) -> Recovered {
        for place in resolved.places.as_slice() {
            if let Some(segment) = restored.segments.get_mut(&place.epoch) {
                segment.add_record(place.pages);
            }
        }
        let note = self.notes.get(&id);
        if let Some((_, at, _)) = note
            && let Some(segment) = restored.segments.get_mut(at)
        {
            segment.add_record(0);
            segment.notes.push(id);
        }
        let kept = note.map(|(_, at, bytes)| Note {
            bytes: Rc::clone(bytes),
            at: Some(*at),
            in_flight: false,
        });
        let state = State::Live { note: kept, dirty: false };
        let content_bytes = resolved.places.content_bytes();
        let entry = Entry { places: resolved.places, copies, state, queued: false };
        restored.index.insert(id, entry);
        let note = note.map(|(_, _, bytes)| bytes.to_vec());
        Recovered { id, meta: resolved.meta, note, content_bytes }
    }
}

fn note_copies(restored: &mut Restored, id: MessageId, found: &[Place]) -> Copies {
    let mut copies = Copies::default();
    for place in found {
        copies.add(place.epoch);
        if let Some(segment) = restored.segments.get_mut(&place.epoch) {
            segment.holds.push(id);
        }
    }
    copies
}

impl Scan {
    fn to_segment(&self) -> Segment {
        let mut segment =
            Segment::new(Stage::Closed, self.salt, self.sealer.clone(), self.capacity_pages);
        segment.next_page = self.end_of_found();
        segment.durable_pages = self.durable_pages;
        segment.kept_pages = self.kept_pages;
        segment.preserved = self.has_damage;
        segment.failed = self.begun_pages > self.kept_pages;
        segment
    }

    fn was_durable(&self, place: Place) -> bool {
        place.page < self.durable_pages
    }
}

/// Runs recovery over hostile bytes: `data` is a choice byte and a whole segment file. Bit 0 of the
/// choice configures a key, bit 1 makes all checksums right first. Must neither panic nor run out of
/// memory, and what it recovers must be whole. The body of the fuzz target; the corpus is replayed
/// by `cargo test`.
pub fn fuzz_recover(data: &[u8]) {
    let Some((choice, file)) = data.split_first() else { return };
    let key = SpoolKey::from_bytes(&[7; 32]).ok().filter(|_| choice & 1 == 1);
    let salt = [0x11; SALT_BYTES];
    let mut file = file.to_vec();
    if choice & 2 != 0 {
        mend_checksums(&mut file);
    }
    let name = segment_name(1, &salt);
    let mut storage = OneFile { name, bytes: file.clone(), preserved: false };
    let settings = Settings { key: key.as_ref(), segment_bytes: file.len() as u64 };
    let Ok(recovery) = recover(&mut storage, &settings) else { return };
    assert!(recovery.report.damaged.is_empty() || storage.preserved, "damage is kept aside");
    assert_eq!(recovery.messages.len(), recovery.report.messages);
    for message in &recovery.messages {
        let entry = &recovery.restored.index[&message.id];
        assert_eq!(entry.places.content_bytes(), message.content_bytes);
        for place in entry.places.as_slice() {
            let from = page_bytes(place.page);
            let mut record = file[from..from + page_bytes(place.pages)].to_vec();
            let sealer = recovery.restored.segments[&place.epoch].sealer.clone();
            let opened = open_record(*place, salt, sealer.as_deref(), &mut record);
            assert!(record.len() <= RECORD_BYTES_MAX && record.len() > HEADER_BYTES);
            // A part is only checked against its checksum until it is read.
            assert!(opened.is_ok() || opened == Err(Invalid::Seal));
        }
    }
}

/// A storage of one file in memory, for [`fuzz_recover`].
struct OneFile {
    name: String,
    bytes: Vec<u8>,
    preserved: bool,
}

impl Storage for OneFile {
    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(vec![self.name.clone()])
    }

    fn length(&mut self, _name: &str) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read(&mut self, _name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let bytes = buffer.len().min(self.bytes.len() - from);
        buffer[..bytes].copy_from_slice(&self.bytes[from..from + bytes]);
        Ok(bytes)
    }

    fn write(&mut self, _name: &str, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&mut self, _name: &str, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&mut self, _from: &str, to: &str) -> io::Result<()> {
        to.clone_into(&mut self.name);
        Ok(())
    }

    fn remove(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn preserve(&mut self, _name: &str) -> io::Result<()> {
        self.preserved = true;
        Ok(())
    }
}

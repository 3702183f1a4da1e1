//! The record format: what stands on disk, byte for byte. `docs/spool.md` has the picture.
//!
//! A segment is a row of records. Each starts on a 4 KiB page and is a 128-byte header, a payload
//! and padding of zeros up to the next page. All numbers are little-endian.
//!
//! Invariants: a header is believed only if its checksum, its segment's epoch and its segment's
//! secret salt are right, so neither a stale record of a recycled segment nor a forged one inside a
//! message's content is taken for a record; a payload is used only if its checksum (and, sealed,
//! its tag) is right; padding is always zeroed, so no byte of another message reaches the disk.
//! Must never: trust a length before it was checked against the record's page count.
//! Failures: [`Invalid`] says what was wrong; the scan decides whether that is a tail or damage.

use super::id::MessageId;
use super::seal::{SALT_BYTES, Sealer, TAG_BYTES};

/// The unit of placement, of direct I/O and of the page cache.
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 128;
/// The longest record: the largest block of the pool.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024;
/// The same in pages.
pub(super) const RECORD_PAGES_MAX: u32 = 64;

const MAGIC: [u8; 4] = *b"PSTN";
const VERSION: u8 = 1;
const FLAG_SEALED: u8 = 1;
/// Where the header's own checksum begins to cover.
const COVERED_FROM: usize = 8;
/// Bytes of one entry of a message's list of earlier parts (a sequence).
pub(super) const PART_BYTES: usize = 8;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first record of a segment: how far its predecessors are known durable.
    Segment = 1,
    /// A piece of content that a later `Message` lists.
    Part = 2,
    /// The last (often only) piece of content, the list of earlier parts and the meta bytes. Only
    /// this makes a message exist.
    Message = 3,
    /// Notes and settles, packed.
    Batch = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Segment, Self::Part, Self::Message, Self::Batch]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A record's header, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) sealed: bool,
    /// The segment's incarnation; a recycled file has a new one.
    pub(super) epoch: u64,
    /// The segment's secret salt (also in its file's name).
    pub(super) salt: [u8; SALT_BYTES],
    /// Rises by one a record over the life of the log.
    pub(super) sequence: u64,
    /// Page of the segment at which this record's group commit began: everything before it was
    /// flushed before this record was written.
    pub(super) group_page: u32,
    /// Length of the record in pages, padding included.
    pub(super) pages: u32,
    /// The message, or zero.
    pub(super) id: MessageId,
    /// Content bytes, first in the payload.
    pub(super) content_bytes: u32,
    /// Entries of the list of earlier parts, second in the payload.
    pub(super) parts: u32,
    /// Opaque bytes of the caller (or of this kind of record), last in the payload.
    pub(super) meta_bytes: u32,
    /// Wall clock of the write, Unix milliseconds.
    pub(super) written_ms: u64,
    tag: [u8; TAG_BYTES],
    payload_crc: u32,
}

/// Why bytes are not a usable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// No record of this segment starts here: empty, stale, or overwritten.
    NotARecord,
    /// The header is right, the payload is not: torn or rotten.
    Payload,
    /// All checksums are right, the seal is not: another key, or tampering.
    Seal,
    /// Sealed, and no key was configured.
    NoKey,
}

/// What a new record's header is made from.
pub(super) struct Shape {
    pub(super) kind: Kind,
    pub(super) id: MessageId,
    pub(super) content_bytes: usize,
    pub(super) parts: usize,
    pub(super) meta_bytes: usize,
}

/// Where and when a record is placed.
pub(super) struct Placement<'a> {
    pub(super) epoch: u64,
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) sequence: u64,
    pub(super) group_page: u32,
    pub(super) written_ms: u64,
    pub(super) sealer: Option<&'a Sealer>,
}

impl Shape {
    /// Bytes of the payload.
    pub(super) fn payload_bytes(&self) -> usize {
        self.content_bytes + self.parts * PART_BYTES + self.meta_bytes
    }

    /// Makes `record`, whose payload stands in place, a record: pads, seals, checks, heads it.
    ///
    /// `record` is exactly as long as its pages; a longer one is a bug of the caller.
    pub(super) fn write(&self, place: &Placement<'_>, record: &mut [u8]) {
        let pages = pages_for(record.len());
        let payload_end = HEADER_BYTES + self.payload_bytes();
        assert!(
            payload_end <= record.len() && pages <= RECORD_PAGES_MAX,
            "a record fits its block"
        );
        record[payload_end..].fill(0);
        let mut header = Header {
            kind: self.kind,
            sealed: place.sealer.is_some(),
            epoch: place.epoch,
            salt: place.salt,
            sequence: place.sequence,
            group_page: place.group_page,
            pages,
            id: self.id,
            content_bytes: narrow(self.content_bytes),
            parts: narrow(self.parts),
            meta_bytes: narrow(self.meta_bytes),
            written_ms: place.written_ms,
            tag: [0; TAG_BYTES],
            payload_crc: 0,
        };
        let payload = &mut record[HEADER_BYTES..payload_end];
        if let Some(sealer) = place.sealer {
            header.tag = sealer.seal(place.sequence, &header.bound(), payload);
        }
        header.payload_crc = crc32fast::hash(payload);
        record[..HEADER_BYTES].copy_from_slice(&header.encode());
    }
}

impl Header {
    /// Reads the header at the start of `page`.
    pub(super) fn decode(page: &[u8]) -> Result<Self, Invalid> {
        let raw = page.first_chunk::<HEADER_BYTES>().ok_or(Invalid::NotARecord)?;
        if raw[..4] != MAGIC || word(raw, 4) != crc32fast::hash(&raw[COVERED_FROM..]) {
            return Err(Invalid::NotARecord);
        }
        let kind = Kind::from_byte(raw[9]).ok_or(Invalid::NotARecord)?;
        if raw[8] != VERSION || raw[10] & !FLAG_SEALED != 0 {
            return Err(Invalid::NotARecord);
        }
        let header = Self {
            kind,
            sealed: raw[10] & FLAG_SEALED != 0,
            payload_crc: word(raw, 12),
            epoch: long(raw, 16),
            sequence: long(raw, 24),
            group_page: word(raw, 32),
            pages: word(raw, 36),
            id: MessageId::from_u128(u128::from_le_bytes(array(raw, 40))),
            salt: array(raw, 56),
            tag: array(raw, 72),
            content_bytes: word(raw, 88),
            parts: word(raw, 92),
            meta_bytes: word(raw, 96),
            written_ms: long(raw, 104),
        };
        if header.is_bounded() { Ok(header) } else { Err(Invalid::NotARecord) }
    }

    fn is_bounded(&self) -> bool {
        let bytes = HEADER_BYTES as u64 + self.payload_bytes_wide();
        self.pages >= 1
            && self.pages <= RECORD_PAGES_MAX
            && bytes <= u64::from(self.pages) * PAGE_BYTES as u64
    }

    fn payload_bytes_wide(&self) -> u64 {
        u64::from(self.content_bytes)
            + u64::from(self.parts) * PART_BYTES as u64
            + u64::from(self.meta_bytes)
    }

    /// Bytes of the payload; bounded by [`RECORD_BYTES_MAX`] since `decode` checked it.
    pub(super) fn payload_bytes(&self) -> usize {
        self.content() + self.parts_count() * PART_BYTES + self.meta()
    }

    pub(super) fn content(&self) -> usize {
        widen(self.content_bytes)
    }

    pub(super) fn parts_count(&self) -> usize {
        widen(self.parts)
    }

    pub(super) fn meta(&self) -> usize {
        widen(self.meta_bytes)
    }

    /// Checks the payload's checksum. `record` starts at the header.
    pub(super) fn verify(&self, record: &[u8]) -> Result<(), Invalid> {
        let end = HEADER_BYTES + self.payload_bytes();
        let payload = record.get(HEADER_BYTES..end).ok_or(Invalid::Payload)?;
        if crc32fast::hash(payload) == self.payload_crc { Ok(()) } else { Err(Invalid::Payload) }
    }

    /// Opens the payload in place (nothing to do if it is not sealed). `record` starts at the
    /// header, which is left as it is.
    pub(super) fn open(&self, sealer: Option<&Sealer>, record: &mut [u8]) -> Result<(), Invalid> {
        if !self.sealed {
            return Ok(());
        }
        let sealer = sealer.ok_or(Invalid::NoKey)?;
        let end = HEADER_BYTES + self.payload_bytes();
        let payload = record.get_mut(HEADER_BYTES..end).ok_or(Invalid::Payload)?;
        sealer
            .open(self.sequence, &self.bound(), self.tag, payload)
            .map_err(|_not_authentic| Invalid::Seal)
    }

    /// What the seal covers beside the payload: the whole header without tag and checksums.
    fn bound(&self) -> [u8; HEADER_BYTES] {
        Self { tag: [0; TAG_BYTES], payload_crc: 0, ..self.clone() }.encode_fields()
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut raw = self.encode_fields();
        let crc = crc32fast::hash(&raw[COVERED_FROM..]);
        raw[4..8].copy_from_slice(&crc.to_le_bytes());
        raw
    }

    fn encode_fields(&self) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        raw[..4].copy_from_slice(&MAGIC);
        raw[8] = VERSION;
        raw[9] = self.kind as u8;
        raw[10] = if self.sealed { FLAG_SEALED } else { 0 };
        raw[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        raw[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        raw[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        raw[32..36].copy_from_slice(&self.group_page.to_le_bytes());
        raw[36..40].copy_from_slice(&self.pages.to_le_bytes());
        raw[40..56].copy_from_slice(&self.id.as_u128().to_le_bytes());
        raw[56..72].copy_from_slice(&self.salt);
        raw[72..88].copy_from_slice(&self.tag);
        raw[88..92].copy_from_slice(&self.content_bytes.to_le_bytes());
        raw[92..96].copy_from_slice(&self.parts.to_le_bytes());
        raw[96..100].copy_from_slice(&self.meta_bytes.to_le_bytes());
        raw[104..112].copy_from_slice(&self.written_ms.to_le_bytes());
        raw
    }
}

/// Writes the list of earlier parts into a message record's payload.
pub(super) fn write_parts(record: &mut [u8], content_bytes: usize, sequences: &[u64]) {
    let list = &mut record[HEADER_BYTES + content_bytes..];
    for (entry, sequence) in list.chunks_exact_mut(PART_BYTES).zip(sequences) {
        entry.copy_from_slice(&sequence.to_le_bytes());
    }
}

/// Reads the list of earlier parts of an opened message record.
pub(super) fn read_parts(header: &Header, record: &[u8]) -> Vec<u64> {
    let from = HEADER_BYTES + header.content();
    let list = &record[from..from + header.parts_count() * PART_BYTES];
    list.chunks_exact(PART_BYTES).map(|entry| u64::from_le_bytes(array(entry, 0))).collect()
}

/// The meta bytes of an opened record.
pub(super) fn read_meta<'a>(header: &Header, record: &'a [u8]) -> &'a [u8] {
    let end = HEADER_BYTES + header.payload_bytes();
    &record[end - header.meta()..end]
}

/// One entry of a batch record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchEntry<'a> {
    Note(MessageId, &'a [u8]),
    Settle(MessageId),
}

const TAG_NOTE: u8 = 1;
const TAG_SETTLE: u8 = 2;
const SETTLE_ENTRY_BYTES: usize = 17;
const NOTE_ENTRY_BYTES: usize = 21;

impl BatchEntry<'_> {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Note(_, note) => NOTE_ENTRY_BYTES + note.len(),
            Self::Settle(_) => SETTLE_ENTRY_BYTES,
        }
    }

    /// Appends the entry at the front of `out` and returns what is left of it.
    pub(super) fn write<'o>(&self, out: &'o mut [u8]) -> &'o mut [u8] {
        let (tag, id) = match self {
            Self::Note(id, _) => (TAG_NOTE, id),
            Self::Settle(id) => (TAG_SETTLE, id),
        };
        let (mine, rest) = out.split_at_mut(self.bytes());
        mine[0] = tag;
        mine[1..17].copy_from_slice(&id.as_u128().to_le_bytes());
        if let Self::Note(_, note) = self {
            mine[17..21].copy_from_slice(&narrow(note.len()).to_le_bytes());
            mine[21..].copy_from_slice(note);
        }
        rest
    }
}

/// Walks the entries of an opened batch record; `None` ends it, a malformed rest ends it early
/// (it cannot come from us: checksum and seal were right).
pub(super) fn batch_entries(payload: &[u8]) -> impl Iterator<Item = BatchEntry<'_>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let (fixed, tail) = rest.split_at_checked(SETTLE_ENTRY_BYTES)?;
        let id = MessageId::from_u128(u128::from_le_bytes(array(fixed, 1)));
        match fixed[0] {
            TAG_SETTLE => {
                rest = tail;
                Some(BatchEntry::Settle(id))
            }
            TAG_NOTE => {
                let (length, tail) = tail.split_at_checked(4)?;
                let (note, tail) = tail.split_at_checked(widen(word(length, 0)))?;
                rest = tail;
                Some(BatchEntry::Note(id, note))
            }
            _ => None,
        }
    })
}

/// How far a segment is known durable, as a later segment's first record states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) epoch: u64,
    /// Pages before this one must all hold whole records: anything else there is damage.
    pub(super) durable_pages: u32,
    /// Whole records before this page count, later ones were refused to their senders.
    pub(super) kept_pages: u32,
}

const CLOSED_BYTES: usize = 16;
/// Statements that fit one page beside the header; older segments were stated before.
pub(super) const CLOSED_MAX: usize = (PAGE_BYTES - HEADER_BYTES) / CLOSED_BYTES;

/// Writes the statements as a segment record's meta bytes and returns their length.
pub(super) fn write_closed(record: &mut [u8], closed: &[Closed]) -> usize {
    let area = &mut record[HEADER_BYTES..PAGE_BYTES];
    for (entry, stated) in area.chunks_exact_mut(CLOSED_BYTES).zip(closed) {
        entry[..8].copy_from_slice(&stated.epoch.to_le_bytes());
        entry[8..12].copy_from_slice(&stated.durable_pages.to_le_bytes());
        entry[12..].copy_from_slice(&stated.kept_pages.to_le_bytes());
    }
    closed.len().min(CLOSED_MAX) * CLOSED_BYTES
}

/// Reads the statements of an opened segment record.
pub(super) fn read_closed(meta: &[u8]) -> impl Iterator<Item = Closed> {
    meta.chunks_exact(CLOSED_BYTES).map(|entry| Closed {
        epoch: long(entry, 0),
        durable_pages: word(entry, 8),
        kept_pages: word(entry, 12),
    })
}

/// Makes the checksums of whatever looks like a record right, so that a fuzzer's changes get past
/// them.
pub(super) fn mend_checksums(file: &mut [u8]) {
    for page in 0..file.len() / PAGE_BYTES {
        let record = &mut file[page * PAGE_BYTES..];
        if record[..4] != MAGIC {
            continue;
        }
        mend_header(record);
        let Ok(mut header) = Header::decode(record) else { continue };
        let end = HEADER_BYTES + header.payload_bytes();
        if let Some(payload) = record.get(HEADER_BYTES..end) {
            header.payload_crc = crc32fast::hash(payload);
            record[..HEADER_BYTES].copy_from_slice(&header.encode());
        }
    }
}

fn mend_header(record: &mut [u8]) {
    let crc = crc32fast::hash(&record[COVERED_FROM..HEADER_BYTES]);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Pages that hold `bytes`.
pub(super) fn pages_for(bytes: usize) -> u32 {
    narrow(bytes.div_ceil(PAGE_BYTES))
}

/// Bytes of `pages`.
pub(super) fn page_bytes(pages: u32) -> usize {
    widen(pages) * PAGE_BYTES
}

fn narrow(value: usize) -> u32 {
    u32::try_from(value).expect("lengths inside a record are at most 256 KiB")
}

fn widen(value: u32) -> usize {
    usize::try_from(value).expect("the relay runs on 64-bit hosts")
}

fn array<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&raw[at..at + N]);
    out
}

fn word(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(raw, at))
}

fn long(raw: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(raw, at))
}

#[cfg(test)]
mod tests {
    use super::super::seal::SpoolKey;
    use super::*;

    const SALT: [u8; SALT_BYTES] = [9; SALT_BYTES];

    fn sealer() -> Sealer {
        let key = SpoolKey::from_bytes(&[3; 32]).expect("32 bytes");
        Sealer::for_segment(&key, &SALT, 5)
    }

    fn record(sealer: Option<&Sealer>) -> Vec<u8> {
        let mut record = vec![0xEE; PAGE_BYTES];
        record[HEADER_BYTES..HEADER_BYTES + 5].copy_from_slice(b"hello");
        write_parts(&mut record, 5, &[41, 42]);
        record[HEADER_BYTES + 21..HEADER_BYTES + 25].copy_from_slice(b"meta");
        let shape = Shape {
            kind: Kind::Message,
            id: MessageId::from_u128(77),
            content_bytes: 5,
            parts: 2,
            meta_bytes: 4,
        };
        let place = Placement {
            epoch: 5,
            salt: SALT,
            sequence: 43,
            group_page: 2,
            written_ms: 1_700_000_000_000,
            sealer,
        };
        shape.write(&place, &mut record);
        record
    }

    #[test]
    fn a_record_comes_back() {
        for sealer in [None, Some(&sealer())] {
            let mut raw = record(sealer);
            assert!(raw[HEADER_BYTES + 25..].iter().all(|byte| *byte == 0), "padding is zeroed");
            assert_eq!(raw.windows(5).any(|window| window == b"hello"), sealer.is_none());
            let header = Header::decode(&raw).expect("a record");
            assert_eq!((header.sequence, header.group_page, header.pages), (43, 2, 1));
            header.verify(&raw).expect("checksum");
            header.open(sealer, &mut raw).expect("seal");
            assert_eq!(&raw[HEADER_BYTES..HEADER_BYTES + 5], b"hello");
            assert_eq!(read_parts(&header, &raw), [41, 42]);
            assert_eq!(read_meta(&header, &raw), b"meta");
        }
    }

    #[test]
    fn each_flipped_bit_is_seen() {
        let sealer = sealer();
        let raw = record(Some(&sealer));
        for bit in 0..(HEADER_BYTES + 25) * 8 {
            let mut broken = raw.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let seen = Header::decode(&broken).and_then(|header| header.verify(&broken));
            assert!(seen.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_header_with_a_right_checksum_and_wrong_lengths_is_refused() {
        let mut raw = record(None);
        for (at, value) in [(36, 0_u32), (36, 65), (88, u32::MAX), (92, u32::MAX), (96, 5000)] {
            let mut broken = raw.clone();
            broken[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let crc = crc32fast::hash(&broken[COVERED_FROM..HEADER_BYTES]);
            broken[4..8].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Header::decode(&broken), Err(Invalid::NotARecord), "{at} {value}");
        }
        raw.truncate(HEADER_BYTES - 1);
        assert_eq!(Header::decode(&raw), Err(Invalid::NotARecord));
    }

    #[test]
    fn batches_and_statements_come_back() {
        let entries = [
            BatchEntry::Note(MessageId::from_u128(1), b"deferred"),
            BatchEntry::Settle(MessageId::from_u128(2)),
            BatchEntry::Note(MessageId::from_u128(3), b""),
        ];
        let bytes: usize = entries.iter().map(BatchEntry::bytes).sum();
        let mut payload = vec![0; bytes];
        let mut rest = &mut payload[..];
        for entry in &entries {
            rest = entry.write(rest);
        }
        assert!(rest.is_empty());
        assert_eq!(batch_entries(&payload).collect::<Vec<_>>(), entries);
        for cut in 0..bytes {
            assert!(batch_entries(&payload[..cut]).count() < entries.len());
        }

        let closed = [Closed { epoch: 9, durable_pages: 3, kept_pages: 4 }; 3];
        let mut page = vec![0; PAGE_BYTES];
        let length = write_closed(&mut page, &closed);
        assert_eq!(
            read_closed(&page[HEADER_BYTES..HEADER_BYTES + length]).collect::<Vec<_>>(),
            closed
        );
    }
}

//! The walk itself: a message cut into header sections and bodies, in place.
//!
//! Two layers. The outer one looks for lines that may be a boundary delimiter (`--` at the start of
//! a line) and for nothing else, so that a part nobody reads passes at the speed of a memory search.
//! The inner one takes what lies between as header lines or as a body.
//!
//! # Invariants
//! - A line is held back only while it may still become a delimiter: at most `HELD_BYTES_MAX`.
//! - Nesting is a list, not recursion; it is at most `depth_max` long.
//! - Beyond a limit the rest is read as plain text, and a finding says so.
//!
//! # Security
//! Mail readers differ on broken structure. Where they do, the walk takes the reading that shows
//! more: delimiters still count after the closing one, a delimiter ends a header section, outer
//! boundaries are seen inside inner parts, parts without a type and text before the first and after
//! the last boundary are text. Fields that can be read in two ways are a finding.
//!
//! # Failures
//! None.

use std::mem::discriminant;

use memchr::memmem::Finder;
use memchr::{memchr, memchr2};

use crate::detect::secret::Anchors;
use crate::detect::{Detector, Findings, Readers, Sink};
use crate::limits::{BOUNDARY_BYTES_MAX, FIELD_BYTES_MAX, Limits};
use crate::mime::PartPath;
use crate::mime::charset::Charset;
use crate::mime::field::{self, Field, Kind, NAME_BYTES_MAX};
use crate::mime::transfer::Transfer;

/// Longest start of a line held back: dashes, boundary, dashes, and white space enough to show that
/// the line goes on with it. Further white space is dropped.
const HELD_BYTES_MAX: usize = BOUNDARY_BYTES_MAX + 6;

/// What the walk is given with each piece.
pub(crate) struct Context<'a> {
    pub(crate) limits: &'a Limits,
    /// Finds a line that begins with two dashes.
    pub(crate) dashes: &'a Finder<'static>,
    pub(crate) findings: &'a mut Findings,
    /// None where nobody wants to know of secrets.
    pub(crate) anchors: Option<&'a Anchors>,
}

impl Context<'_> {
    fn sink<'a>(&'a mut self, part: &'a PartPath) -> Sink<'a> {
        Sink { findings: self.findings, part, anchors: self.anchors }
    }
}

/// One message being taken apart.
pub(crate) struct Walk {
    open: Vec<Level>,
    path: PartPath,
    parts: usize,
    parts_breached: bool,
    state: State,
    header: Header,
    readers: Readers,
    line_starts: bool,
    held: Vec<u8>,
}

/// An open multipart.
struct Level {
    boundary: Box<[u8]>,
    /// Depth of its own path.
    depth: usize,
    children: u16,
    digest: bool,
}

enum State {
    Header,
    Text(Text),
    /// A body without text.
    Skip,
}

/// The text of one part on its way to the detectors.
struct Text {
    transfer: Transfer,
    charset: Charset,
}

impl Text {
    const fn plain() -> Self {
        Self { transfer: Transfer::Identity, charset: Charset::unlabelled() }
    }
}

/// A header section being read.
struct Header {
    bytes: usize,
    breached: bool,
    /// Whether it belongs to a message rather than a part.
    of_message: bool,
    place: Place,
    name: [u8; NAME_BYTES_MAX],
    name_bytes: usize,
    field: Field,
    value: Vec<u8>,
    /// A CR that may belong to the line's end.
    cr: bool,
    kind: Option<Kind>,
    /// A `Content-Type` was read, so that `kind` is not a default.
    typed: bool,
    transfer: Option<Transfer>,
    transfer_unknown: bool,
    names_text: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the start of a line.
    Start,
    /// After a CR at the start of a line.
    StartCr,
    Name,
    Value,
}

/// What a line that begins with a dash turns out to be.
enum Line {
    Delimiter {
        level: usize,
        closes: bool,
    },
    Content,
    /// Its end decides.
    Open,
}

impl Walk {
    pub(crate) fn new() -> Self {
        let mut path = PartPath::default();
        path.set_header(true);
        Self {
            open: Vec::new(),
            path,
            parts: 0,
            parts_breached: false,
            state: State::Header,
            header: Header::new(true),
            readers: Readers::new(),
            line_starts: true,
            held: Vec::new(),
        }
    }

    /// Takes the next bytes of the message.
    pub(crate) fn feed(&mut self, mut input: &[u8], context: &mut Context<'_>) {
        while !input.is_empty() {
            let mut content = 0;
            if !self.held.is_empty() || (self.line_starts && self.may_delimit(input[0])) {
                match self.delimiter(input, context) {
                    Some(taken) => {
                        input = &input[taken..];
                        continue;
                    }
                    // The line is content; the next candidate lies behind it.
                    None => content = 1,
                }
            }
            let end = content + self.content_end(&input[content..], context.dashes);
            let used = self.content(&input[..end], context);
            self.line_starts = input[used - 1] == b'\n';
            input = &input[used..];
        }
    }

    /// Ends the message.
    pub(crate) fn finish(&mut self, context: &mut Context<'_>) {
        let held = std::mem::take(&mut self.held);
        match self.line(&held, true) {
            Line::Delimiter { level, closes } => self.part_begins(level, closes, context),
            Line::Content | Line::Open => self.all_content(&held, context),
        }
        self.part_ends(context);
    }

    /// Heap memory held, bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let kind = match &self.header.kind {
            Some(Kind::Multipart { boundary, .. }) => boundary.capacity(),
            Some(Kind::Text { charset }) => charset.capacity(),
            _ => 0,
        };
        let boundaries: usize = self.open.iter().map(|level| level.boundary.len()).sum();
        let levels = self.open.capacity() * size_of::<Level>();
        let held = self.header.value.capacity() + self.held.capacity();
        boundaries + levels + kind + held + self.readers.heap_bytes()
    }

    fn may_delimit(&self, first: u8) -> bool {
        first == b'-' && !self.open.is_empty()
    }

    /// How much of `input` lies before the next line that may be a delimiter.
    fn content_end(&self, input: &[u8], dashes: &Finder<'static>) -> usize {
        if self.open.is_empty() {
            return input.len();
        }
        let mut from = 0;
        while let Some(newline) = dashes.find(&input[from..]) {
            from += newline + 1;
            // A header section may end before this line and open more boundaries.
            if matches!(self.state, State::Header) || self.may_be_delimiter(&input[from + 2..]) {
                return from;
            }
        }
        if input.ends_with(b"\n-") { input.len() - 1 } else { input.len() }
    }

    /// Whether a line that goes on with `rest` after its dashes may be a delimiter.
    fn may_be_delimiter(&self, rest: &[u8]) -> bool {
        let may =
            |level: &Level| rest.starts_with(&level.boundary) || level.boundary.starts_with(rest);
        self.open.iter().any(may)
    }

    /// Deals with a line that begins with a dash. Gives the bytes taken, or `None` if all that was
    /// held turned out content and `input` goes on with it, or begins with content.
    fn delimiter(&mut self, input: &[u8], context: &mut Context<'_>) -> Option<usize> {
        let end = memchr(b'\n', input).map(|newline| newline + 1);
        let piece = &input[..end.unwrap_or(input.len())];
        if self.held.is_empty() {
            match self.line(piece, end.is_some()) {
                Line::Open => {}
                Line::Content => return None,
                Line::Delimiter { level, closes } => {
                    self.part_begins(level, closes, context);
                    self.line_starts = true;
                    return Some(piece.len());
                }
            }
        }
        let taken = self.hold(piece);
        let goes_on = taken < piece.len();
        let line = if goes_on { Line::Content } else { self.line(&self.held, end.is_some()) };
        match line {
            Line::Open => {}
            Line::Delimiter { level, closes } => {
                self.held.clear();
                self.part_begins(level, closes, context);
                self.line_starts = true;
            }
            Line::Content => {
                let mut held = std::mem::take(&mut self.held);
                self.line_starts = held.ends_with(b"\n");
                self.all_content(&held, context);
                // The buffer is kept for the next line of this kind.
                held.clear();
                self.held = held;
            }
        }
        Some(taken)
    }

    /// Holds back `piece` of a line. Gives the bytes taken: fewer than all if the line goes on after
    /// the longest boundary with more than white space, and so is none.
    fn hold(&mut self, piece: &[u8]) -> usize {
        for (taken, byte) in piece.iter().enumerate() {
            if self.held.len() < HELD_BYTES_MAX {
                self.held.push(*byte);
            } else if *byte == b'\n' {
                self.held[HELD_BYTES_MAX - 1] = b'\n';
            } else if !byte.is_ascii_whitespace() {
                return taken;
            }
        }
        piece.len()
    }

    /// What `line` is: all of it if it `ended`, its start otherwise.
    fn line(&self, line: &[u8], ended: bool) -> Line {
        let Some(rest) = line.strip_prefix(b"--") else {
            return if !ended && line == b"-" { Line::Open } else { Line::Content };
        };
        let text = rest.trim_ascii_end();
        let mut open = false;
        for (level, Level { boundary, .. }) in self.open.iter().enumerate().rev() {
            let tail = text.strip_prefix(&**boundary);
            if ended {
                match tail {
                    Some(b"") => return Line::Delimiter { level, closes: false },
                    Some(b"--") => return Line::Delimiter { level, closes: true },
                    _ => continue,
                }
            }
            open |= matches!(tail, Some(b"" | b"-" | b"--")) || boundary.starts_with(rest);
        }
        if open { Line::Open } else { Line::Content }
    }

    /// A delimiter was seen: goes up to its level and begins the next part or the epilogue.
    fn part_begins(&mut self, level: usize, closes: bool, context: &mut Context<'_>) {
        self.part_ends(context);
        self.open.truncate(level + 1);
        let level = &mut self.open[level];
        self.path.truncate(level.depth);
        self.state = State::Text(Text::plain());
        if closes || self.parts_breached {
            return;
        }
        if self.parts == context.limits.parts_max {
            self.parts_breached = true;
            context.findings.unscannable(Detector::UnscannableParts, &self.path);
            return;
        }
        self.parts += 1;
        level.children += 1;
        let (child, digest) = (level.children, level.digest);
        let deeper = self.path.push(child);
        debug_assert!(deeper, "depth_max leaves room for a child");
        self.path.set_header(true);
        self.header.restart(false);
        if digest {
            self.header.kind = Some(Kind::Message);
        }
        self.state = State::Header;
    }

    /// The end of a body or of a header section without one.
    fn part_ends(&mut self, context: &mut Context<'_>) {
        let state = std::mem::replace(&mut self.state, State::Skip);
        let mut sink = context.sink(&self.path);
        match state {
            State::Header => self.header.field_ends(&mut self.readers, &mut sink),
            State::Skip => {}
            State::Text(Text { mut transfer, mut charset }) => {
                let readers = &mut self.readers;
                transfer.finish(|piece| charset.push(piece, |text| readers.push(text, &mut sink)));
                charset.finish(|text| readers.push(text, &mut sink));
                readers.end(&mut sink);
            }
        }
    }

    /// Takes content that holds no delimiter, whatever states it leads through.
    fn all_content(&mut self, mut input: &[u8], context: &mut Context<'_>) {
        while !input.is_empty() {
            let used = self.content(input, context);
            input = &input[used..];
        }
    }

    /// Takes content that holds no delimiter; stops behind the end of a header section, because
    /// then other boundaries may count. Gives the bytes taken, at least one.
    fn content(&mut self, input: &[u8], context: &mut Context<'_>) -> usize {
        let limits = context.limits;
        let mut sink = context.sink(&self.path);
        match &mut self.state {
            State::Skip => input.len(),
            State::Text(Text { transfer, charset }) => {
                let readers = &mut self.readers;
                transfer
                    .push(input, |piece| charset.push(piece, |text| readers.push(text, &mut sink)));
                input.len()
            }
            State::Header => {
                let readers = &mut self.readers;
                let (used, ended) = self.header.read(input, limits, readers, &mut sink);
                if ended {
                    self.body_begins(context);
                }
                used
            }
        }
    }

    /// A header section is over: what it said decides how the body is read.
    fn body_begins(&mut self, context: &mut Context<'_>) {
        self.path.set_header(false);
        let of_message = self.header.of_message;
        let transfer = self.header.transfer.take().unwrap_or(Transfer::Identity);
        match self.header.kind.take().unwrap_or(Kind::plain()) {
            Kind::Multipart { boundary, digest } => {
                self.state = State::Text(Text::plain());
                self.multipart_begins(boundary, digest, context);
            }
            kind => {
                if of_message {
                    let deeper = self.path.push(1);
                    debug_assert!(deeper, "depth_max leaves room for a body");
                }
                self.leaf_begins(kind, transfer, context);
            }
        }
    }

    fn multipart_begins(&mut self, boundary: Vec<u8>, digest: bool, context: &mut Context<'_>) {
        if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
            context.findings.unscannable(Detector::UnscannableBoundary, &self.path);
        } else if self.is_deepest(context) {
            context.findings.unscannable(Detector::UnscannableDepth, &self.path);
        } else {
            let depth = self.path.depth();
            self.open.push(Level { boundary: boundary.into(), depth, children: 0, digest });
        }
    }

    fn leaf_begins(&mut self, kind: Kind, transfer: Transfer, context: &mut Context<'_>) {
        let text = match kind {
            Kind::Message if self.is_deepest(context) => {
                context.findings.unscannable(Detector::UnscannableDepth, &self.path);
                Text { transfer, ..Text::plain() }
            }
            Kind::Message if !transfer.is_identity() => {
                // RFC 2046 5.2.1 forbids it. Read as text, its own parts stay encoded.
                context.findings.unscannable(Detector::UnscannableEncoding, &self.path);
                Text { transfer, ..Text::plain() }
            }
            Kind::Message => {
                self.path.set_header(true);
                self.header.restart(true);
                self.state = State::Header;
                return;
            }
            Kind::Other if !self.header.names_text => {
                self.state = State::Skip;
                return;
            }
            Kind::Text { charset: label } if !label.is_empty() => {
                let charset = Charset::named(&label).unwrap_or_else(|| {
                    context.findings.unscannable(Detector::UnscannableCharset, &self.path);
                    Charset::fallback()
                });
                Text { transfer, charset }
            }
            Kind::Text { .. } | Kind::Other | Kind::Multipart { .. } => {
                Text { transfer, ..Text::plain() }
            }
        };
        self.state = State::Text(text);
        if self.header.transfer_unknown {
            context.findings.unscannable(Detector::UnscannableEncoding, &self.path);
        }
    }

    fn is_deepest(&self, context: &Context<'_>) -> bool {
        self.path.depth() >= context.limits.depth_max
    }
}

impl Header {
    const fn new(of_message: bool) -> Self {
        Self {
            bytes: 0,
            breached: false,
            of_message,
            place: Place::Start,
            name: [0; NAME_BYTES_MAX],
            name_bytes: 0,
            field: Field::Text,
            value: Vec::new(),
            cr: false,
            kind: None,
            typed: false,
            transfer: None,
            transfer_unknown: false,
            names_text: false,
        }
    }

    fn restart(&mut self, of_message: bool) {
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        *self = Self { value, ..Self::new(of_message) };
    }

    /// Reads header lines. Gives the bytes taken and whether the section ended with them.
    fn read(
        &mut self,
        input: &[u8],
        limits: &Limits,
        readers: &mut Readers,
        sink: &mut Sink<'_>,
    ) -> (usize, bool) {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            let taken = match self.place {
                Place::Start | Place::StartCr if rest[0] == b'\n' => {
                    self.field_ends(readers, sink);
                    return (at + 1, true);
                }
                Place::Start => self.line_begins(rest[0], readers, sink),
                Place::StartCr => {
                    self.name_begins(readers, sink);
                    0
                }
                Place::Name => self.name(rest, readers, sink),
                Place::Value => self.value(rest, readers, sink),
            };
            at += taken;
            self.count(taken, limits, sink);
        }
        (at, false)
    }

    fn count(&mut self, bytes: usize, limits: &Limits, sink: &mut Sink<'_>) {
        self.bytes += bytes;
        if self.bytes > limits.header_bytes_max {
            self.breach(sink);
        }
    }

    /// What the section says is not to be relied on; told once a section.
    fn breach(&mut self, sink: &mut Sink<'_>) {
        if !std::mem::replace(&mut self.breached, true) {
            sink.unscannable(Detector::UnscannableHeader);
        }
    }

    fn line_begins(&mut self, first: u8, readers: &mut Readers, sink: &mut Sink<'_>) -> usize {
        match first {
            b'\r' => {
                self.place = Place::StartCr;
                1
            }
            b' ' | b'\t' => {
                self.append(b" ", readers, sink);
                self.place = Place::Value;
                1
            }
            _ => {
                self.name_begins(readers, sink);
                0
            }
        }
    }

    fn name_begins(&mut self, readers: &mut Readers, sink: &mut Sink<'_>) {
        self.field_ends(readers, sink);
        self.place = Place::Name;
        self.name_bytes = 0;
    }

    fn name(&mut self, rest: &[u8], readers: &mut Readers, sink: &mut Sink<'_>) -> usize {
        let room = NAME_BYTES_MAX - self.name_bytes;
        let window = &rest[..rest.len().min(room)];
        match memchr2(b':', b'\n', window) {
            Some(end) if window[end] == b':' => {
                self.name_append(&window[..end]);
                self.field = Field::named(self.name[..self.name_bytes].trim_ascii_end());
                self.place = Place::Value;
                end + 1
            }
            found => {
                let length = found.unwrap_or(window.len());
                self.name_append(&window[..length]);
                if found.is_some() || self.name_bytes == NAME_BYTES_MAX {
                    // No name, or none we know: the line is text from its first byte.
                    self.field = Field::Text;
                    self.place = Place::Value;
                    let name = self.name;
                    self.append(&name[..self.name_bytes], readers, sink);
                }
                length
            }
        }
    }

    fn name_append(&mut self, bytes: &[u8]) {
        self.name[self.name_bytes..self.name_bytes + bytes.len()].copy_from_slice(bytes);
        self.name_bytes += bytes.len();
    }

    fn value(&mut self, rest: &[u8], readers: &mut Readers, sink: &mut Sink<'_>) -> usize {
        let end = memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        if self.field != Field::Machine {
            if self.cr && !(line.is_empty() && end.is_some()) {
                self.append(b"\r", readers, sink);
            }
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            self.cr = text.len() < line.len();
            self.append(text, readers, sink);
        }
        match end {
            Some(end) => {
                self.cr = false;
                self.place = Place::Start;
                end + 1
            }
            None => line.len(),
        }
    }

    /// Adds to the field's value. A full buffer is cut at white space and looked at, if it is text.
    fn append(&mut self, mut bytes: &[u8], readers: &mut Readers, sink: &mut Sink<'_>) {
        if self.field == Field::Machine {
            return;
        }
        loop {
            let room = FIELD_BYTES_MAX - self.value.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.value.extend_from_slice(now);
            bytes = later;
            if bytes.is_empty() {
                return;
            }
            if self.field == Field::Text {
                self.piece_ends(readers, sink);
            } else {
                self.structured_overflows(readers, sink);
            }
        }
    }

    /// Looks at a full buffer up to its last white space and keeps what is behind.
    fn piece_ends(&mut self, readers: &mut Readers, sink: &mut Sink<'_>) {
        let space = self.value.iter().rposition(|byte| b" \t".contains(byte));
        let end = space.filter(|space| *space > FIELD_BYTES_MAX / 2).unwrap_or(self.value.len());
        look_at(&self.value[..end], readers, sink);
        self.value.drain(..end);
    }

    /// A structured value is too long to be understood: it is read for what fits, and looked at as
    /// text from there on.
    fn structured_overflows(&mut self, readers: &mut Readers, sink: &mut Sink<'_>) {
        self.breach(sink);
        self.understand(sink);
        self.field = Field::Text;
        self.piece_ends(readers, sink);
    }

    /// A field is complete.
    fn field_ends(&mut self, readers: &mut Readers, sink: &mut Sink<'_>) {
        if self.place == Place::Name {
            // The section was cut off in a name.
            self.field = Field::Text;
            let name = self.name;
            self.append(&name[..self.name_bytes], readers, sink);
        }
        self.place = Place::Start;
        self.cr = false;
        match self.field {
            Field::Machine => return,
            Field::Text => look_at_last(&self.value, readers, sink),
            Field::Disposition => {
                look_at_last(&self.value, readers, sink);
                self.understand(sink);
            }
            Field::ContentType | Field::TransferEncoding => self.understand(sink),
        }
        self.value.clear();
        self.field = Field::Machine;
    }

    /// Takes over what a structured field says. Of two that contradict, readers differ on which
    /// counts; the first does here, and a finding tells.
    fn understand(&mut self, sink: &mut Sink<'_>) {
        let mut contradicts = false;
        match self.field {
            Field::ContentType => {
                let kind = Kind::parse(&self.value);
                if self.typed {
                    contradicts = self.kind.as_ref() != Some(&kind);
                } else {
                    self.kind = Some(kind);
                    self.typed = true;
                }
            }
            Field::TransferEncoding => {
                let named = Transfer::named(field::token(&self.value));
                let unknown = named.is_none();
                let named = named.unwrap_or(Transfer::Identity);
                match &self.transfer {
                    Some(first) => contradicts = discriminant(first) != discriminant(&named),
                    None => (self.transfer, self.transfer_unknown) = (Some(named), unknown),
                }
            }
            Field::Disposition => self.names_text |= field::disposition_names_text(&self.value),
            Field::Text | Field::Machine => {}
        }
        if contradicts {
            self.breach(sink);
        }
    }
}

/// Shows a piece of a header value to the detectors, encoded words decoded.
fn look_at(value: &[u8], readers: &mut Readers, sink: &mut Sink<'_>) {
    match field::decoded_words(value) {
        Some(decoded) => readers.push(&decoded, sink),
        None => readers.push(value, sink),
    }
}

/// The same for the last piece of a value.
fn look_at_last(value: &[u8], readers: &mut Readers, sink: &mut Sink<'_>) {
    match field::decoded_words(value) {
        Some(decoded) => readers.push_last(&decoded, sink),
        None => readers.push_last(value, sink),
    }
}

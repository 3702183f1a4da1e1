//! Payment card numbers in text that arrives in pieces.
//!
//! Text is UTF-8 or close to it. Digits, ASCII or full-width, form groups; groups joined by one
//! separator each (space, hyphen, dot and their non-breaking, full-width and dash kin) form a run.
//! When a run is over, each place in it is tried as one unbroken number or as one of the groupings
//! cards are printed in ([`GROUPINGS`]); length, issuer range and check digit decide.
//!
//! Not a card: what touches a letter or underscore, what hangs on more digits or letters by hyphen
//! or dot (order numbers, decimals, file names), four-digit columns of a longer row, the groups of an IBAN.
//!
//! # Invariants
//! - Every byte advances the state machine or lies where no number can be, so that the cuts between
//!   pieces change nothing. Blocks of [`BLOCK_BYTES`] in which no number can lie or end
//!   ([`Blocks`]) are stepped over; before one in which it can, the machine starts at the last
//!   neutral byte, and so ahead of the number.
//! - State is fixed in size; a run of any length is resolved in a window.
//!
//! # Failures
//! None.

use crate::detect::{Confidence, Detector, Sink};

/// Bytes looked at together for the presence of digits.
const BLOCK_BYTES: usize = 64;

/// Digits in a block too few for half a number.
const FEW_DIGITS: u8 = 5;

/// Fewest and most digits of a number (ISO/IEC 7812-1 allows 19).
const DIGITS_MIN: usize = 12;
const DIGITS_MAX: usize = 19;

/// Shortest number in bytes.
const RUN_BYTES_MIN: u32 = 12;

/// The length that stands for every longer group.
const TOO_LONG: u8 = 20;

/// Groups kept of one run.
const GROUPS_MAX: usize = 16;

/// Groups of the widest grouping.
const WINDOW_MAX: usize = 5;

/// How cards print their number, longest first.
const GROUPINGS: [&[u8]; 9] = [
    &[4, 4, 4, 4, 3],
    &[6, 13],
    &[4, 4, 4, 4, 2],
    &[4, 4, 4, 4],
    &[8, 8],
    &[4, 6, 5],
    &[4, 6, 4],
    &[4, 4, 5],
    &[4, 4, 4],
];

/// The card detector over one text at a time.
pub(crate) struct Cards {
    state: State,
    /// Bytes of a UTF-8 sequence that may turn out to be a digit or separator.
    lead: [u8; 2],
    lead_bytes: u8,
    run: Run,
}

/// What the text so far ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing that matters to what follows.
    Clear,
    /// This many letters, 3 for more or for a token that began with something else.
    Letters(u8),
    /// Letters and then a hyphen or dot.
    LettersJoined,
    /// A digit; its group is open.
    Group,
    /// A group and one separator.
    Joined(Join),
}

/// How a group hangs on the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    Nothing,
    Space,
    Hyphen,
    Dot,
}

#[derive(Clone, Copy)]
struct Group {
    digits: [u8; DIGITS_MAX],
    /// Number of digits, or [`TOO_LONG`].
    len: u8,
    join: Join,
    /// Part of a longer token.
    token: bool,
    /// A dot and letters follow, as in a file name.
    named: bool,
    /// Part of a card already counted.
    taken: bool,
}

struct Run {
    groups: [Group; GROUPS_MAX],
    count: usize,
    /// The first group not tried yet.
    next: usize,
    iban: bool,
}

impl Cards {
    pub(crate) const fn new() -> Self {
        Self { state: State::Clear, lead: [0; 2], lead_bytes: 0, run: Run::new() }
    }

    /// Takes the next piece of a text.
    pub(crate) fn push(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        let mut done = self.step(text, 0, 0, sink);
        let mut at = done;
        let mut blocks = Blocks::default();
        while let Some(block) = text[at..].first_chunk() {
            if !blocks.may_hold(block) {
                at += BLOCK_BYTES;
                continue;
            }
            let start = neutral_before(text, done, at);
            done = self.step(text, start, at + BLOCK_BYTES, sink);
            at = done;
            blocks = Blocks::default();
        }
        let start = neutral_before(text, done, at);
        self.step(text, start, text.len(), sink);
    }

    /// Takes the rest of a text and ends it.
    pub(crate) fn push_last(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        // Most header fields are short and hold few digits.
        let digits = || text.chunks(BLOCK_BYTES).map(|block| usize::from(digits_in(block)));
        if !self.is_neutral() || digits().sum::<usize>() >= DIGITS_MIN {
            self.push(text, sink);
            self.end(sink);
        }
    }

    /// Ends the text: what follows is unrelated.
    pub(crate) fn end(&mut self, sink: &mut Sink<'_>) {
        self.other(sink);
        self.lead_bytes = 0;
    }

    /// Runs the machine from `start` over at least `end`, until it is neutral or the text is out.
    /// Gives where it stopped.
    fn step(&mut self, text: &[u8], start: usize, end: usize, sink: &mut Sink<'_>) -> usize {
        let mut at = start;
        while at < text.len() && (at < end || !self.is_neutral()) {
            let digits = if self.lead_bytes == 0 { digits_at(&text[at..]) } else { 0 };
            if digits > 0 {
                self.digits(&text[at..at + digits], sink);
                at += digits;
            } else {
                self.byte(text[at], sink);
                at += 1;
            }
        }
        at
    }

    fn is_neutral(&self) -> bool {
        self.state == State::Clear && self.lead_bytes == 0
    }

    fn byte(&mut self, byte: u8, sink: &mut Sink<'_>) {
        if byte >= 0x80 {
            return self.high(byte, sink);
        }
        if self.lead_bytes != 0 {
            self.lead_bytes = 0;
            self.other(sink);
        }
        match class(byte) {
            Class::Digit => self.digits(&[byte], sink),
            Class::Letter => self.letter(sink),
            Class::Space => self.join(Join::Space, sink),
            Class::Hyphen => self.join(Join::Hyphen, sink),
            Class::Dot => self.join(Join::Dot, sink),
            Class::Other => self.other(sink),
        }
    }

    /// A byte of a multi-byte character. Only a few characters mean something here; every other,
    /// and every malformed sequence, is like a comma.
    fn high(&mut self, byte: u8, sink: &mut Sink<'_>) {
        let [first, second] = self.lead;
        let lead_bytes = std::mem::replace(&mut self.lead_bytes, 0);
        match (lead_bytes, first, second, byte) {
            (0, ..) => {}
            (1, 0xC2, _, 0xA0) => return self.join(Join::Space, sink),
            (1, 0xE2, _, 0x80 | 0x88) | (1, 0xE3, _, 0x80 | 0x83) | (1, 0xEF, _, 0xBC | 0xBD) => {
                self.lead[1] = byte;
                self.lead_bytes = 2;
                return;
            }
            (2, 0xEF, 0xBC, 0x90..=0x99) => return self.digits(&[byte - 0x90 + b'0'], sink),
            (2, 0xEF, 0xBC, 0xA1..=0xBA) | (2, 0xEF, 0xBD, 0x81..=0x9A) => {
                return self.letter(sink);
            }
            (2, 0xEF, 0xBC, 0x8E) => return self.join(Join::Dot, sink),
            // U+2010 to U+2015, U+2212, U+30FC, U+FF0D, U+FF70
            (2, 0xE2, 0x80, 0x90..=0x95)
            | (2, 0xE2, 0x88, 0x92)
            | (2, 0xE3, 0x83, 0xBC)
            | (2, 0xEF, 0xBC, 0x8D)
            | (2, 0xEF, 0xBD, 0xB0) => return self.join(Join::Hyphen, sink),
            // U+202F, U+2007 and U+2009 (narrow and figure spaces), U+3000
            (2, 0xE2, 0x80, 0xAF | 0x87 | 0x89) | (2, 0xE3, 0x80, 0x80) => {
                return self.join(Join::Space, sink);
            }
            _ => self.other(sink),
        }
        if matches!(byte, 0xC2 | 0xE2 | 0xE3 | 0xEF) {
            self.lead[0] = byte;
            self.lead_bytes = 1;
        } else {
            self.other(sink);
        }
    }

    fn digits(&mut self, digits: &[u8], sink: &mut Sink<'_>) {
        let (join, token) = match self.state {
            State::Group => return self.run.digits(digits),
            State::Joined(join) => (join, false),
            State::Clear => (Join::Nothing, false),
            State::Letters(_) | State::LettersJoined => (Join::Nothing, true),
        };
        if self.run.count == GROUPS_MAX {
            self.run.resolve(false, sink);
        }
        self.run.begin(join, token);
        // Two letters may open an IBAN; its two check digits then end the group.
        self.run.iban |= self.state == State::Letters(2);
        self.run.digits(digits);
        self.state = State::Group;
    }

    fn letter(&mut self, sink: &mut Sink<'_>) {
        let next = match self.state {
            State::Letters(count) => State::Letters((count + 1).min(3)),
            State::Clear => State::Letters(1),
            State::LettersJoined => State::Letters(3),
            State::Joined(Join::Space) => {
                self.run.resolve(true, sink);
                State::Letters(1)
            }
            State::Joined(Join::Dot) => {
                self.run.last().named = true;
                self.run.resolve(true, sink);
                State::Letters(3)
            }
            State::Group | State::Joined(_) => {
                self.run.last().token = true;
                self.run.resolve(true, sink);
                State::Letters(3)
            }
        };
        self.state = next;
    }

    fn join(&mut self, join: Join, sink: &mut Sink<'_>) {
        match self.state {
            State::Group => {
                self.run.iban &= !(self.run.count == 1 && self.run.last().len != 2);
                self.state = State::Joined(join);
            }
            State::Letters(_) if join != Join::Space => self.state = State::LettersJoined,
            _ => self.other(sink),
        }
    }

    fn other(&mut self, sink: &mut Sink<'_>) {
        if matches!(self.state, State::Group | State::Joined(_)) {
            self.run.resolve(true, sink);
        }
        self.state = State::Clear;
    }
}

impl Run {
    const fn new() -> Self {
        let digits = [0; DIGITS_MAX];
        let group =
            Group { digits, len: 0, join: Join::Nothing, token: false, named: false, taken: false };
        Self { groups: [group; GROUPS_MAX], count: 0, next: 0, iban: false }
    }

    fn begin(&mut self, join: Join, token: bool) {
        let digits = [0; DIGITS_MAX];
        self.groups[self.count] = Group { digits, len: 0, join, token, named: false, taken: false };
        self.count += 1;
    }

    fn digits(&mut self, digits: &[u8]) {
        let group = &mut self.groups[self.count - 1];
        let len = usize::from(group.len);
        match group.digits.get_mut(len..len + digits.len()) {
            Some(free) => {
                free.copy_from_slice(digits);
                group.len += u8::try_from(digits.len()).expect("at most DIGITS_MAX");
            }
            None => group.len = TOO_LONG,
        }
    }

    fn last(&mut self) -> &mut Group {
        &mut self.groups[self.count - 1]
    }

    /// Tries every place from which all of a window is known, or all places if the run is `over`.
    fn resolve(&mut self, over: bool, sink: &mut Sink<'_>) {
        while self.next < self.count && (over || self.next + WINDOW_MAX < self.count) {
            self.next += self.try_next(sink);
        }
        if over {
            (self.count, self.next, self.iban) = (0, 0, false);
            return;
        }
        // The last group tried stays: it is the left neighbour of the next.
        let tried = self.next - 1;
        self.groups.copy_within(tried..self.count, 0);
        self.count -= tried;
        self.next = 1;
    }

    /// Tries the windows that begin at `next`; gives the number of groups dealt with.
    fn try_next(&mut self, sink: &mut Sink<'_>) -> usize {
        let first = &self.groups[self.next];
        if self.iban || first.token {
            return 1;
        }
        let widths = match first.len {
            4 | 6 | 8 => &GROUPINGS[..],
            12..=19 if first.named => return 1,
            12..=19 => return self.try_window(1, sink).map_or(1, |()| 1),
            _ => return 1,
        };
        if !self.begins_alone() {
            return 1;
        }
        let mut matching = widths.iter().filter(|grouping| self.is_grouped(grouping));
        let matching: [Option<usize>; 3] =
            std::array::from_fn(|_| matching.next().map(|grouping| grouping.len()));
        let found = matching.into_iter().flatten().find(|w| self.try_window(*w, sink).is_some());
        found.unwrap_or(1)
    }

    fn is_grouped(&self, grouping: &[u8]) -> bool {
        let end = self.next + grouping.len();
        let Some(groups) = self.groups[..self.count].get(self.next..end) else { return false };
        let same_join = groups[1..].iter().all(|group| group.join == groups[1].join);
        same_join && groups.iter().zip(grouping).all(|(group, len)| group.len == *len)
    }

    /// Counts the window of `width` groups at `next` if it is a card number on its own.
    fn try_window(&mut self, width: usize, sink: &mut Sink<'_>) -> Option<()> {
        let window = self.next..self.next + width;
        if !self.stands_alone(width) || self.groups[window.clone()].iter().any(|g| g.token) {
            return None;
        }
        let mut number = Number::default();
        for group in self.groups[window.clone()].iter().rev() {
            number.prepend(&group.digits[..usize::from(group.len)]);
        }
        let confidence = number.check()?;
        sink.value(Detector::CreditCard, confidence, number.key());
        self.groups[window].iter_mut().for_each(|group| group.taken = true);
        Some(())
    }

    /// Whether the window's neighbours leave it a number of its own.
    fn stands_alone(&self, width: usize) -> bool {
        let first = &self.groups[self.next];
        let left = match width {
            1 => !matches!(first.join, Join::Hyphen | Join::Dot),
            _ => self.begins_alone(),
        };
        let after = self.groups[..self.count].get(self.next + width);
        left && after.is_none_or(|group| group.join == Join::Space)
    }

    /// Whether a grouped number may begin at `next`: not as a column of a longer row.
    fn begins_alone(&self) -> bool {
        match self.groups[self.next].join {
            Join::Nothing => true,
            Join::Hyphen | Join::Dot => false,
            Join::Space => {
                let before = &self.groups[self.next - 1];
                before.taken || before.len != 4
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Class {
    Other,
    Digit,
    Letter,
    Space,
    Hyphen,
    Dot,
}

static CLASSES: [Class; 128] = classes();

const fn classes() -> [Class; 128] {
    let mut classes = [Class::Other; 128];
    let mut byte = 0_u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'0'..=b'9' => Class::Digit,
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => Class::Letter,
            b' ' => Class::Space,
            b'-' => Class::Hyphen,
            b'.' => Class::Dot,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
}

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte & 0x7F)]
}

/// How many ASCII digits `text` begins with.
fn digits_at(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len())
}

/// A look at one block after the other for where a number can be.
#[derive(Default)]
struct Blocks {
    /// Most bytes of digits and separators that a number can have before this block.
    tail: u32,
}

impl Blocks {
    /// Whether a number may lie in `block` or end in it.
    fn may_hold(&mut self, block: &[u8; BLOCK_BYTES]) -> bool {
        // Of a number that reaches here from a block with few digits, most are here.
        let tail = std::mem::replace(&mut self.tail, u32::from(FEW_DIGITS));
        if digits_in(block) <= FEW_DIGITS && tail + u32::from(FEW_DIGITS) < RUN_BYTES_MIN {
            return false;
        }
        if block.iter().any(|byte| *byte >= 0x80) {
            // Digits and separators may be longer than a byte.
            return true;
        }
        let digits = mask(block, |byte| byte.is_ascii_digit());
        let joins = mask(block, |byte| matches!(byte, b' ' | b'-' | b'.'));
        // A separator belongs to a run between two digits; what is outside may be one.
        let run = digits | (joins & (digits << 1 | 1) & (digits >> 1 | 1 << 63));
        self.tail = run.leading_ones();
        let twos = run & run >> 1;
        let fours = twos & twos >> 2;
        let eights = fours & fours >> 4;
        let twelves = eights & eights >> 4;
        let head = run.trailing_ones();
        twelves != 0 || (head > 0 && head + tail >= RUN_BYTES_MIN)
    }
}

/// One bit a byte, the first byte lowest.
pub(super) fn mask(block: &[u8; BLOCK_BYTES], is: impl Fn(u8) -> bool) -> u64 {
    /// Moves the lowest bits of eight bytes into the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let flags = block.map(|byte| u8::from(is(byte)));
    let (eights, _) = flags.as_chunks();
    eights
        .iter()
        .rev()
        .fold(0, |mask, eight| mask << 8 | u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56)
}

/// Digits in a block; the first byte of every full-width digit (U+FF10..) counts as one.
pub(super) fn digits_in(block: &[u8]) -> u8 {
    debug_assert!(block.len() <= BLOCK_BYTES, "the sum fits a byte");
    block.iter().map(|byte| u8::from(byte.is_ascii_digit()) + u8::from(*byte == 0xEF)).sum()
}

/// The last position in `from..=at` before which the text leaves nothing open, whatever came
/// earlier; `from` (where the machine is neutral) if there is none.
fn neutral_before(text: &[u8], from: usize, at: usize) -> usize {
    let mut position = at;
    while position > from {
        let last = text[position - 1];
        let neutral = last < 0x80
            && match class(last) {
                Class::Other => true,
                Class::Space => {
                    let before = text[from..position - 1].last().copied().unwrap_or(0xFF);
                    before < 0x80 && matches!(class(before), Class::Letter)
                }
                _ => false,
            };
        if neutral {
            return position;
        }
        position -= 1;
    }
    from
}

/// The ASCII digits of a number, right-aligned behind zeros.
struct Number {
    digits: [u8; NUMBER_BYTES],
    start: usize,
}

/// Even, so that the digits to double have even places.
const NUMBER_BYTES: usize = DIGITS_MAX + 1;

impl Default for Number {
    fn default() -> Self {
        Self { digits: [b'0'; NUMBER_BYTES], start: NUMBER_BYTES }
    }
}

impl Number {
    fn prepend(&mut self, digits: &[u8]) {
        let end = self.start;
        self.start -= digits.len();
        self.digits[self.start..end].copy_from_slice(digits);
    }

    /// Whether this is a card number, and how sure that is.
    fn check(&self) -> Option<Confidence> {
        let number = &self.digits[self.start..];
        let confidence = issuer(number)?;
        if !self.luhn() {
            return None;
        }
        // Round numbers and fillers pass the check digit, but no issuer gives them out.
        let is_round = number.ends_with(b"000000");
        let all_same = number.iter().all(|digit| *digit == number[0]);
        (!is_round && !all_same).then_some(confidence)
    }

    /// The check digit of ISO/IEC 7812-1 annex B.
    fn luhn(&self) -> bool {
        let mut sum = 0;
        for (place, digit) in self.digits.iter().enumerate() {
            let digit = digit - b'0';
            let doubled = 2 * digit - 9 * u8::from(digit > 4);
            sum += if place.is_multiple_of(2) { doubled } else { digit };
        }
        // At most 20 times 9, which fits a byte.
        sum.is_multiple_of(10)
    }

    /// The number as an integer: 19 digits fit, and no issuer begins with zero.
    fn key(&self) -> u64 {
        self.digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
    }
}

/// Issuer ranges with the lengths in use. Everything but the common lengths is less sure: 13 digits
/// are also a bar code, 17 to 19 a tracking number.
fn issuer(number: &[u8]) -> Option<Confidence> {
    use Confidence::{High, Low, Medium};
    if number.len() < DIGITS_MIN || number.len() > DIGITS_MAX {
        return None;
    }
    let prefix =
        number[..4].iter().fold(0_u16, |value, digit| value * 10 + u16::from(digit - b'0'));
    match (prefix, number.len()) {
        // Visa
        (4000..=4999, 16) => Some(High),
        (4000..=4999, 19) => Some(Medium),
        (4000..=4999, 13) => Some(Low),
        // Mastercard
        (5100..=5599 | 2221..=2720, 16) => Some(High),
        // American Express
        (3400..=3499 | 3700..=3799, 15) => Some(High),
        // Diners Club
        (3000..=3059 | 3095 | 3600..=3699 | 3800..=3999, 14) => Some(High),
        // JCB, Discover, UnionPay
        (3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 | 8100..=8171, 16) => Some(High),
        (3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 | 8100..=8171, 17..=19) => Some(Medium),
        // Maestro
        (5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761 | 6762 | 6763, 16) => Some(High),
        (5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761 | 6762 | 6763, _) => Some(Medium),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::{Finding, Findings};
    use crate::mime::PartPath;

    /// The findings in `text`, cut into pieces at `cuts`.
    fn found(text: &[u8], cuts: &[usize]) -> Vec<Finding> {
        let mut findings = Findings::default();
        let part = PartPath::default();
        let mut sink = Sink { findings: &mut findings, part: &part, anchors: None };
        let mut cards = Cards::new();
        let mut start = 0;
        for cut in cuts.iter().copied().chain([text.len()]) {
            cards.push(&text[start..cut], &mut sink);
            start = cut;
        }
        cards.end(&mut sink);
        findings.into_list()
    }

    /// Checks the numbers of distinct values and occurrences, however `text` is cut in two, and far
    /// inside other text, where blocks are stepped over.
    #[track_caller]
    fn check(text: &str, count: u32, occurrences: u32) {
        let numbers = |findings: Vec<Finding>| {
            findings.iter().fold((0, 0), |n, f| (n.0 + f.count, n.1 + f.occurrences))
        };
        let want = (count, occurrences);
        assert_eq!(numbers(found(text.as_bytes(), &[])), want, "{text}");
        for cut in 0..=text.len() {
            assert_eq!(numbers(found(text.as_bytes(), &[cut])), want, "{text} cut at {cut}");
        }
        let words = "words without any number in them, again and again; ".repeat(9);
        for shift in 0..BLOCK_BYTES {
            let inside = format!("{}\n{text}\n{words}", &words[shift..]);
            assert_eq!(numbers(found(inside.as_bytes(), &[])), want, "{text} shifted by {shift}");
        }
    }

    #[test]
    fn every_issuer_is_found() {
        for number in [
            "4111111111111111",
            "4012888888881881",
            "4000000000000000006",
            "5555555555554444",
            "2223003122003222",
            "2720990000000007",
            "378282246310005",
            "341111111111111",
            "6011111111111117",
            "6500000000000002",
            "3530111333300000",
            "30569309025904",
            "38520000023237",
            "36227206271667",
            "6200000000000005",
            "8171999927660000",
            "6759649826438453",
            "5018000000000009",
            "501800000009",
        ] {
            check(number, 1, 1);
            check(&format!("Card: {number}, thank you"), 1, 1);
        }
    }

    #[test]
    fn every_way_of_writing_is_found() {
        for text in [
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111.1111.1111.1111",
            "4111\u{a0}1111\u{a0}1111\u{a0}1111",
            "4111\u{2010}1111\u{2010}1111\u{2010}1111",
            "4111\u{2212}1111\u{2212}1111\u{2212}1111",
            "4111\u{3000}1111\u{3000}1111\u{3000}1111",
            "\u{ff14}\u{ff11}\u{ff11}\u{ff11}11111111\u{ff11}\u{ff11}\u{ff11}\u{ff11}",
            "\u{ff14}\u{ff11}\u{ff11}\u{ff11}\u{ff0d}1111\u{ff0d}1111\u{30fc}1111",
            "3782 822463 10005",
            "3056-930902-5904",
            "41111111 11111111",
            "4000 0000 0000 0000 006",
            "(4111 1111 1111 1111)",
            "4111 1111 1111 1111.Thanks",
            "4111-1111-1111-1111.png",
            "pan=4111111111111111&cvv=123",
            "\"4111111111111111\"",
            "4111 1111 1111 1111.",
            "4111111111111111 - thanks",
            "番号4111111111111111です",
            "4111 1111 1111 1111 12/27 123",
            "4111 1111 1111 1111 1227",
            "4111111111111111 123",
            "Order 12 4111 1111 1111 1111",
            "24 4111111111111111",
            "x,4111111111111111,y",
            "Card No. 4111111111111111",
            "<td>4111 1111 1111 1111</td>",
        ] {
            check(text, 1, 1);
        }
    }

    #[test]
    fn everyday_numbers_are_not() {
        for text in [
            // check digit, issuer, length
            "4111111111111112",
            "9111111111111111",
            "411111111111111",
            "41111111111111111111",
            // fillers
            "4444444444444444",
            "0000000000000000",
            "4000000000000000",
            "5555555555555555",
            // part of something longer
            "a4111111111111111",
            "4111111111111111b",
            "id_4111111111111111",
            "4111111111111111.pdf",
            "0.4111111111111111",
            "12-4111111111111111",
            "4111111111111111-7",
            "ORD-4111111111111111",
            "1234 4111 1111 1111 1111",
            "12-4111-1111-1111-1111",
            "4111-1111-1111-1111-2",
            "4111 1111-1111 1111",
            "4111  1111  1111  1111",
            // times, telephones, addresses, bank accounts, orders
            "2026-11-24T19:48:00.123456789",
            "20261124194800123456",
            "1795549680000",
            "+49 30 901820 4711",
            "090-1234-5678",
            "03 1234 5678 03 1234 5679",
            "192.168.100.200",
            "DE44 5001 0517 5407 3249 31",
            "FR76 3000 6000 0112 3456 7890 189",
            "DE44500105175407324931",
            "GB29NWBK60161331926819",
            "ISBN 978-3-16-148410-0",
            "1Z999AA10123456784",
            "550e8400-e29b-41d4-a716-446655440000",
            "000123456789",
            "2024 2025 2026 2027 2028",
            "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18",
        ] {
            check(text, 0, 0);
        }
    }

    #[test]
    fn repeats_and_neighbours() {
        check("4111111111111111 4111 1111 1111 1111", 1, 2);
        check("4111 1111 1111 1111 5555 5555 5555 4444", 2, 2);
        check("4111111111111111,5555555555554444;378282246310005", 3, 3);
        check(&"4111111111111111 ".repeat(40), 1, 40);
        check(&format!("{}4111111111111111 2", "7 ".repeat(40)), 1, 1);
        check(&format!("{}4111-1111-1111-1111", "7 ".repeat(33)), 1, 1);
    }

    #[test]
    fn surer_of_common_forms() {
        for (number, want) in [
            ("4111111111111111", Confidence::High),
            ("4000000000000000006", Confidence::Medium),
            ("4222222222222", Confidence::Low),
        ] {
            let findings = found(number.as_bytes(), &[]);
            assert_eq!(findings.iter().map(|f| f.confidence).collect::<Vec<_>>(), [want]);
        }
    }

    proptest! {
        /// Numbers, separators and noise: wherever it is cut, the findings are the same as a byte
        /// at a time, which steps over nothing.
        #[test]
        fn cuts_and_blocks_change_nothing(
            tokens in proptest::collection::vec(token(), 0..60),
            mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let text = tokens.concat();
            let mut cuts: Vec<_> = cuts.drain(..).map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let bytewise: Vec<_> = (1..text.len()).collect();
            let want = found(&text, &bytewise);
            prop_assert_eq!(&found(&text, &cuts), &want);
            prop_assert_eq!(&found(&text, &[]), &want);
        }
    }

    fn token() -> impl Strategy<Value = Vec<u8>> {
        let known = prop::sample::select(vec![
            "4111111111111111",
            "5555",
            "4444",
            "4111",
            "1111",
            "378282",
            "10005",
            " ",
            "-",
            ".",
            "\n",
            ",",
            "a",
            "DE44",
            "word ",
            "a long enough row of words to fill a block of them, ",
            "７",
            "\u{a0}",
            "\u{ff0d}",
            "\u{3000}",
            "漢字",
            "_",
            "６",
            "  ",
        ]);
        prop_oneof![
            8 => known.prop_map(|text| text.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 1..4),
            1 => (0_u8..10).prop_map(|digit| vec![b'0' + digit]),
        ]
    }
}

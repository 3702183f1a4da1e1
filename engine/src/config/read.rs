//! Reads typed values out of a TOML table and notes down everything that is wrong.
//!
//! A [`Section`] is one table of the file with its place. Its readers answer with a usable value
//! (the default, where what stands there is wrong), so that reading goes on and finds the next
//! mistake. A section that is [finished](Section::finish) has reported the keys it does not know.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::Surroundings;
use super::diagnostic::{Diagnostic, Severity};
use super::keys::{keys_of, sections_with, written};
use super::suggest::{nearest, one_of};
use super::unit;

/// A place in the file, in bytes.
pub(super) type Span = Range<usize>;

/// What one reading shares: where findings go, and what the file is checked against.
pub(super) struct Context<'a> {
    /// The directory relative paths start from.
    base: &'a Path,
    pub(super) surroundings: &'a Surroundings,
    findings: RefCell<Vec<Diagnostic>>,
    hidden: RefCell<Vec<Span>>,
    /// The text could not be read as a whole: what seems to be missing may stand in the rest.
    is_partial: Cell<bool>,
}

impl<'a> Context<'a> {
    pub(super) fn new(base: &'a Path, surroundings: &'a Surroundings) -> Self {
        Self {
            base,
            surroundings,
            findings: RefCell::default(),
            hidden: RefCell::default(),
            is_partial: Cell::new(false),
        }
    }

    /// From now on nothing is said to be missing.
    pub(super) fn set_partial(&self) {
        self.is_partial.set(true);
    }

    /// Notes a finding about what stands in the file.
    pub(super) fn push(&self, finding: Diagnostic) {
        self.findings.borrow_mut().push(finding);
    }

    /// Notes that something is missing, unless part of the file could not be read.
    pub(super) fn push_missing(&self, finding: Diagnostic) {
        if !self.is_partial.get() {
            self.push(finding);
        }
    }

    /// Keeps what stands there out of every message.
    pub(super) fn hide(&self, span: Span) {
        self.hidden.borrow_mut().push(span);
    }

    /// Whether an error has been noted.
    pub(super) fn has_errors(&self) -> bool {
        self.findings.borrow().iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All findings and all hidden places.
    pub(super) fn into_findings(self) -> (Vec<Diagnostic>, Vec<Span>) {
        (self.findings.into_inner(), self.hidden.into_inner())
    }

    /// A path as the file means it.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Warns where a secret's file can be read by everybody on the machine.
    pub(super) fn warn_if_open(&self, path: &Path, span: &Span) {
        let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o007 != 0) {
            let message = format!("everybody on this machine can read {}", path.display());
            let help = format!("chmod 600 {}", path.display());
            self.push(Diagnostic::warning(span.clone(), message).help(help));
        }
    }

    /// Reads a small file, or says why it cannot.
    pub(super) fn try_read_file(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
        read_bounded(path).map_err(|reason| format!("cannot read {}: {reason}", path.display()))
    }

    /// Reads a small file that the configuration names at `span`.
    pub(super) fn read_file(&self, path: &Path, span: &Span) -> Option<Zeroizing<Vec<u8>>> {
        self.try_read_file(path)
            .map_err(|problem| self.push(Diagnostic::error(span.clone(), problem)))
            .ok()
    }
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut content = Zeroizing::new(Vec::with_capacity(4_096));
    let mut file = file.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(content)
}

/// Keys and passwords are far smaller.
const FILE_BYTES_MAX: u64 = 65_536;

/// One table of the file.
pub(super) struct Section<'a> {
    pub(super) context: &'a Context<'a>,
    /// As in [`KEYS`](super::KEYS).
    name: &'static str,
    /// Its header, or its braces.
    pub(super) span: Span,
    table: &'a DeTable<'a>,
}

/// One value of the file with its place.
pub(super) type Field<'a> = &'a Spanned<DeValue<'a>>;

/// A text of the file with its place.
#[derive(Clone)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) span: Span,
}

impl<'a> Section<'a> {
    /// The table `name`, and complains about keys it does not have.
    pub(super) fn new(
        context: &'a Context<'a>,
        name: &'static str,
        span: Span,
        table: &'a DeTable<'a>,
    ) -> Self {
        let section = Self { context, name, span, table };
        section.report_unknown_keys();
        section
    }

    fn report_unknown_keys(&self) {
        let known = keys_of(self.name);
        for (key, value) in self.table {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            if name.contains("pass") || name.contains("secret") {
                self.context.hide(value.span());
            }
            let message = match self.name {
                "" => format!("there is no section [{name}]"),
                section => format!("{} has no key `{name}`", written(section)),
            };
            let finding = Diagnostic::error(key.span(), message).help(self.advice_for(name));
            self.context.push(finding);
        }
    }

    fn advice_for(&self, name: &str) -> String {
        if let Some((_, advice)) = ADVICE.iter().find(|(key, _)| *key == name) {
            return (*advice).to_owned();
        }
        if let Some(meant) = nearest(name, keys_of(self.name)) {
            return format!("did you mean `{meant}`?");
        }
        match sections_with(name).as_slice() {
            [] if self.name.is_empty() => {
                format!("the sections are {}", one_of(keys_of("")).replace(" or ", " and "))
            }
            [] => format!("its keys are {}", one_of(keys_of(self.name)).replace(" or ", " and ")),
            sections => format!("`{name}` is a key of {}", sections.join(", ")),
        }
    }

    fn field(&self, key: &str) -> Option<Field<'a>> {
        debug_assert!(keys_of(self.name).contains(&key), "{key} is not in KEYS of {}", self.name);
        self.table.get(key)
    }

    /// Where a key's value stands, or else where the section begins.
    pub(super) fn place(&self, key: &str) -> Span {
        self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.field(key).is_some()
    }

    /// Notes that a key must be there.
    pub(super) fn report_missing(&self, key: &str, help: &str) {
        let message = format!("{} needs `{key}`", written(self.name));
        self.context.push_missing(Diagnostic::error(self.span.clone(), message).help(help));
    }

    fn wrong_type(&self, key: &str, field: Field<'a>, expected: &str) {
        let message =
            format!("`{key}` must be {expected}, not {}", article(field.get_ref().type_str()));
        self.context.push(Diagnostic::error(field.span(), message));
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Option<Text<'a>> {
        let field = self.field(key)?;
        match field.get_ref().as_str() {
            Some(text) => Some(Text { text, span: inside_quotes(field.span()) }),
            None => {
                self.wrong_type(key, field, "a text in quotation marks");
                None
            }
        }
    }

    /// A text that must be there.
    pub(super) fn required_text(&self, key: &str, help: &str) -> Option<Text<'a>> {
        if !self.has(key) {
            self.report_missing(key, help);
        }
        self.text(key)
    }

    /// A list of texts; a single text is a list of one.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<Text<'a>>> {
        let field = self.field(key)?;
        if let Some(text) = field.get_ref().as_str() {
            return Some(vec![Text { text, span: inside_quotes(field.span()) }]);
        }
        let Some(items) = field.get_ref().as_array() else {
            self.wrong_type(key, field, "a list of texts");
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Text { text, span: inside_quotes(item.span()) }),
                None => self.wrong_type(key, item, "a list of texts"),
            }
        }
        Some(texts)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        let Some(field) = self.field(key) else { return default };
        field.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, field, "`true` or `false`");
            default
        })
    }

    /// One of some names.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(key) else { return default };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text.text) {
            return *choice;
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let message = format!("`{key}` cannot be `{}`", text.text);
        let help = match nearest(text.text, &names) {
            Some(meant) => format!("did you mean `{meant}`? It is {}", one_of(&names)),
            None => format!("it is {}", one_of(&names)),
        };
        self.context.push(Diagnostic::error(text.span, message).help(help));
        default
    }

    /// A whole number.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let field = self.field(key)?;
        let Some(integer) = field.get_ref().as_integer() else {
            self.wrong_type(key, field, "a whole number");
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
        match u64::try_from(number).ok().filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => {
                self.out_of_range(key, field.span(), number, &range);
                None
            }
        }
    }

    fn out_of_range(&self, key: &str, span: Span, number: i128, range: &RangeInclusive<u64>) {
        let message = if number == 0 {
            format!("`{key}` must not be zero")
        } else if number < i128::from(*range.start()) {
            format!("`{key}` must be at least {}", range.start())
        } else {
            format!("`{key}` must be at most {}", range.end())
        };
        self.context.push(Diagnostic::error(span, message));
    }

    /// A whole number of 32 bits, at least one.
    pub(super) fn count(&self, key: &str) -> Option<u32> {
        self.number(key, 1..=u64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok())
    }

    /// A list of whole numbers with their places, at least one; `None` for `"auto"` and where the
    /// key is absent.
    pub(super) fn auto_or_numbers(&self, key: &str) -> Option<Vec<(u64, Span)>> {
        let field = self.field(key)?;
        let expected = "\"auto\" or a list of numbers such as [0, 1]";
        if field.get_ref().as_str() == Some("auto") {
            return None;
        }
        let Some(items) = field.get_ref().as_array().filter(|items| !items.is_empty()) else {
            self.context
                .push(Diagnostic::error(field.span(), format!("`{key}` must be {expected}")));
            return None;
        };
        let mut numbers = Vec::new();
        for item in items.iter() {
            let number = item.get_ref().as_integer();
            match number.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok()) {
                Some(number) => numbers.push((number, item.span())),
                None => self.wrong_type(key, item, expected),
            }
        }
        Some(numbers)
    }

    /// A number that may have a fraction, in percent of one.
    pub(super) fn percent(&self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let field = self.field(key)?;
        let value = field.get_ref();
        let text = value.as_integer().map(|i| i.as_str()).or(value.as_float().map(|f| f.as_str()));
        let Some(text) = text else {
            self.wrong_type(key, field, "a number");
            return None;
        };
        match hundredths(text).filter(|percent| range.contains(percent)) {
            Some(percent) => Some(percent),
            None => {
                let message = format!(
                    "`{key}` must be between {} and {}",
                    shown_hundredths(*range.start()),
                    shown_hundredths(*range.end())
                );
                self.context.push(Diagnostic::error(field.span(), message));
                None
            }
        }
    }

    /// A duration such as `"5m"`, within bounds.
    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let field = self.field(key)?;
        let help = "write a number and a unit: \"500ms\", \"30s\", \"5m\", \"1h30m\", \"2d\"";
        let Some(text) = field.get_ref().as_str() else {
            let message = format!("`{key}` must be a duration with a unit");
            let help = match field.get_ref().as_integer() {
                Some(number) => format!("if seconds are meant, write \"{}s\"", number.as_str()),
                None => help.to_owned(),
            };
            self.context.push(Diagnostic::error(field.span(), message).help(help));
            return None;
        };
        let Some(duration) = unit::duration(text) else {
            let message = format!("`{text}` is not a duration");
            self.context.push(Diagnostic::error(inside_quotes(field.span()), message).help(help));
            return None;
        };
        if range.contains(&duration) {
            return Some(duration);
        }
        let (start, end) =
            (unit::shown_duration(*range.start()), unit::shown_duration(*range.end()));
        let message = if duration.is_zero() {
            format!("`{key}` must not be zero")
        } else {
            format!("`{key}` must be between {start} and {end}")
        };
        self.context.push(Diagnostic::error(inside_quotes(field.span()), message));
        None
    }

    /// A size in bytes: a number, or a text such as `"25MiB"`.
    pub(super) fn bytes(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let field = self.field(key)?;
        let Some(text) = field.get_ref().as_str() else {
            if field.get_ref().is_integer() {
                return self.number(key, range);
            }
            self.wrong_type(key, field, "a size");
            return None;
        };
        let span = inside_quotes(field.span());
        let Some(bytes) = unit::bytes(text) else {
            let help = "write a whole number and a unit: \"64KiB\", \"25MB\", \"1GiB\"";
            let message = format!("`{text}` is not a size");
            self.context.push(Diagnostic::error(span, message).help(help));
            return None;
        };
        if range.contains(&bytes) {
            return Some(bytes);
        }
        self.out_of_range(key, span, bytes.into(), &range);
        None
    }

    /// A path; relative ones start from the file's directory.
    pub(super) fn path(&self, key: &str) -> Option<(PathBuf, Span)> {
        let text = self.text(key)?;
        if text.text.is_empty() {
            self.context.push(Diagnostic::error(text.span, format!("`{key}` is empty")));
            return None;
        }
        Some((self.context.resolve(text.text), text.span))
    }

    /// The table below this one under `key`.
    pub(super) fn table(&self, key: &str, name: &'static str) -> Option<Self> {
        let field = self.field(key)?;
        match field.get_ref().as_table() {
            Some(table) => Some(Section::new(self.context, name, field.span(), table)),
            None => {
                self.wrong_type(key, field, "a table");
                None
            }
        }
    }

    /// All tables `[[key]]`.
    pub(super) fn tables(&self, key: &str, name: &'static str) -> Vec<Self> {
        let Some(field) = self.field(key) else { return Vec::new() };
        let Some(items) = field.get_ref().as_array() else {
            let finding = Diagnostic::error(
                field.span(),
                format!("`{key}` must be a list of tables, as there may be several"),
            );
            self.context.push(finding.help(format!("write [[{key}]]")));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => {
                    sections.push(Section::new(self.context, name, item.span(), table));
                }
                None => self.wrong_type(key, item, "a table"),
            }
        }
        sections
    }
}

/// What people write that belongs elsewhere or is named otherwise.
const ADVICE: &[(&str, &str)] = &[
    ("password", "use `password_hash`, made by `postern app passwd`"),
    ("listen", "use `address`"),
    ("cert", "use `certificate`"),
    ("relayhost", "use [[route]] with `next_hops`"),
    ("listeners", "write [[listener]] for each"),
    ("apps", "write [[app]] for each"),
    ("routes", "write [[route]] for each"),
];

/// The place of a text without its quotation marks. An empty place, left by a text that could not
/// be read, stays as it is.
fn inside_quotes(span: Span) -> Span {
    if span.len() >= 2 { span.start + 1..span.end - 1 } else { span }
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

/// A decimal number in hundredths; `None` where it is no plain number.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 2 {
        return None;
    }
    let fraction: u32 = format!("{fraction:0<2}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(fraction)
}

fn shown_hundredths(value: u32) -> String {
    match value % 100 {
        0 => (value / 100).to_string(),
        rest => format!("{}.{rest:02}", value / 100).trim_end_matches('0').to_owned(),
    }
}

/// From at least `min` seconds to at most `max` seconds.
pub(super) const fn seconds(min: u64, max: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(min)..=Duration::from_secs(max)
}

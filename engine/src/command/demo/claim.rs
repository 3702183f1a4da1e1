//! What the demonstration claims, and how it is told: a line each on a terminal, or JSON.
//!
//! Nobody may be listening: a closed or full standard output is no reason to stop or to panic.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// One sentence that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Claim {
    /// What is claimed.
    pub(super) claim: &'static str,
    /// Whether it held.
    pub(super) ok: bool,
    /// What was measured; absent where nothing could be.
    pub(super) value: Option<Measure>,
    /// Its unit.
    pub(super) unit: &'static str,
    /// What was seen, or what went wrong.
    pub(super) detail: String,
}

/// A measured number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Measure {
    /// Of things, or a reply code.
    Count(u64),
    /// Milliseconds, to the microsecond.
    Millis(f64),
}

impl Measure {
    /// A duration.
    pub(super) fn time(duration: std::time::Duration) -> Self {
        Self::Millis((duration.as_secs_f64() * 1e6).round() / 1e3)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Millis(ms) if *ms < 10.0 => write!(f, "{ms:.2}"),
            Self::Millis(ms) => write!(f, "{ms:.0}"),
        }
    }
}

impl Claim {
    /// A claim about a time.
    pub(super) fn time(
        claim: &'static str,
        ok: bool,
        took: std::time::Duration,
        detail: impl Into<String>,
    ) -> Self {
        Self { claim, ok, value: Some(Measure::time(took)), unit: "ms", detail: detail.into() }
    }

    /// A claim about a number.
    pub(super) fn count(
        claim: &'static str,
        ok: bool,
        count: usize,
        unit: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        Self { claim, ok, value: Some(Measure::Count(count)), unit, detail: detail.into() }
    }

    /// A claim that could not be tried.
    pub(super) fn broken(claim: &'static str, why: impl fmt::Display) -> Self {
        Self { claim, ok: false, value: None, unit: "", detail: why.to_string() }
    }

    /// As a line; a detail that does not fit behind the number gets a line of its own.
    pub(super) fn lines(&self, is_coloured: bool) -> String {
        let (mark, colour) = if self.ok { (" ok ", GREEN) } else { ("FAIL", RED) };
        let mark = if is_coloured { format!("{colour}{mark}{PLAIN}") } else { mark.to_owned() };
        let value = self.value.map_or_else(String::new, |value| value.to_string());
        let head = format!("{:CLAIM_COLUMNS$}{value:>5} {:5}", self.claim, self.unit);
        let left = COLUMNS.saturating_sub(MARK_COLUMNS + head.chars().count() + 2);
        if self.detail.chars().count() <= left {
            return format!("{mark} {head}  {}", self.detail).trim_end().to_owned();
        }
        let indent = " ".repeat(MARK_COLUMNS + 2);
        let detail = clipped(&self.detail, COLUMNS - indent.len());
        format!("{mark} {}\n{indent}{detail}", head.trim_end())
    }
}

/// Tells claims as they come, and keeps them.
pub(super) struct Teller {
    is_silent: bool,
    is_coloured: bool,
    claims: Vec<Claim>,
}

impl Teller {
    /// Tells by lines, in colour on a terminal; with `is_silent` only keeps.
    pub(super) fn new(is_silent: bool) -> Self {
        let is_wanted = std::env::var_os("NO_COLOR").is_none();
        let is_coloured = is_wanted && io::stdout().is_terminal();
        Self { is_silent, is_coloured, claims: Vec::new() }
    }

    /// Tells a claim.
    pub(super) fn claim(&mut self, claim: Claim) {
        if !self.is_silent {
            say(&claim.lines(self.is_coloured));
        }
        self.claims.push(claim);
    }

    /// Tells a line between the claims.
    pub(super) fn note(&self, text: &str) {
        if !self.is_silent {
            say(text);
        }
    }

    /// Tells a line of a mail, as much of it as fits.
    pub(super) fn quote(&self, text: &str) {
        self.note(&clipped(&format!("       | {text}"), COLUMNS));
    }

    /// All claims, in order.
    pub(super) fn claims(&self) -> &[Claim] {
        &self.claims
    }
}

/// Prints a line; nobody is left to tell if that fails.
pub(super) fn say(line: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// The text, or as much of it as fits.
fn clipped(text: &str, columns: usize) -> String {
    let text = text.trim_end();
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let head: String = text.chars().take(columns - 3).collect();
    head + "..."
}

/// What a terminal shows.
const COLUMNS: usize = 100;
/// The mark and the space behind it.
const MARK_COLUMNS: usize = 5;
/// The longest claim.
const CLAIM_COLUMNS: usize = 38;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";

//! The two types a relay holds: [`Filters`], compiled once and shared, and [`Scan`], one an open
//! message.

use std::sync::Arc;

use memchr::memmem::Finder;

use crate::detect::secret::Anchors;
use crate::detect::{Detector, Finding, Findings};
use crate::mime::{Context, Walk};
use crate::policy::{Config, ConfigError, Verdict};

/// Most memory one open message holds here, bytes, heap and struct together.
pub const SCAN_BYTES_MAX: usize = 16 << 10;

/// A checked configuration, ready to scan with: immutable, shared by all shards, replaced as a
/// whole on reload. A [`Scan`] keeps the one it began with.
#[derive(Debug)]
pub struct Filters {
    config: Config,
    dashes: Finder<'static>,
    anchors: Option<Anchors>,
}

impl Filters {
    /// Checks and compiles `config`.
    ///
    /// # Errors
    /// The first thing in it that could never work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let is_wanted = |detector: &Detector| !config.ignored.contains(detector);
        let mut secrets = Detector::all().filter(|detector| detector.is_secret());
        let anchors = secrets.any(|detector| is_wanted(&detector)).then(Anchors::new);
        Ok(Self { config, dashes: Finder::new(b"\n--"), anchors })
    }

    /// What it was made from.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Scans a message that lies in memory as a whole.
    #[must_use]
    pub fn scan(self: &Arc<Self>, message: &[u8]) -> Outcome {
        let mut scan = Scan::new(self);
        scan.feed(message);
        scan.finish()
    }
}

/// One message being scanned.
pub struct Scan {
    filters: Arc<Filters>,
    walk: Walk,
    findings: Findings,
}

impl Scan {
    /// Begins a message. Allocates nothing.
    #[must_use]
    pub fn new(filters: &Arc<Filters>) -> Self {
        Self { filters: Arc::clone(filters), walk: Walk::new(), findings: Findings::default() }
    }

    /// Takes the next bytes of the message in plain form (RFC 5321 4.5.2 undone), cut anywhere.
    pub fn feed(&mut self, chunk: &[u8]) {
        let (walk, mut context) = self.split();
        walk.feed(chunk, &mut context);
        debug_assert!(self.state_bytes() <= SCAN_BYTES_MAX, "state is bounded");
    }

    /// Ends the message and decides.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        let (walk, mut context) = self.split();
        walk.finish(&mut context);
        let ignored = &self.filters.config.ignored;
        let mut findings = self.findings.into_list();
        findings.retain(|finding| !ignored.contains(&finding.detector));
        let verdict = self.filters.config.decide(&findings);
        Outcome { findings, verdict }
    }

    /// Memory this message holds, bytes; at most [`SCAN_BYTES_MAX`].
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        size_of::<Self>() + self.walk.heap_bytes() + self.findings.heap_bytes()
    }

    fn split(&mut self) -> (&mut Walk, Context<'_>) {
        let Filters { config, dashes, anchors } = &*self.filters;
        let findings = &mut self.findings;
        (
            &mut self.walk,
            Context { limits: &config.limits, dashes, findings, anchors: anchors.as_ref() },
        )
    }
}

/// What came out of scanning one message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// What was found, by detector and in the order of the parts. No content.
    pub findings: Vec<Finding>,
    /// What the policy makes of it.
    pub verdict: Verdict,
}

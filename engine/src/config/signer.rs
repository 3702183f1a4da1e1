//! `[signer]`: how signatures are made.

use std::time::Duration;

use postern_signer::batch::Backend;

use super::diagnostic::Diagnostic;
use super::read::{Section, seconds};
use super::server;

/// How signatures are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Which backend.
    pub backend: Backend,
    /// CPUs set aside for signing, ascending, distinct; none by default.
    pub cores: Vec<usize>,
    /// How long a bulk message may wait for a fuller pass under load; zero switches that off.
    pub max_wait: Duration,
    /// Whether a batched backend blinds what it raises to secret powers.
    pub blinding: bool,
}

impl Default for Signer {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            cores: Vec::new(),
            max_wait: Duration::from_millis(1),
            blinding: true,
        }
    }
}

impl Signer {
    /// Reads `[signer]`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let backends = Backend::ALL.map(|backend| (backend.as_str(), backend));
        let longest = *seconds(0, 1).end();
        Self {
            backend: section.choice("backend", &backends, default.backend),
            cores: server::listed_cores(section).unwrap_or_default(),
            max_wait: section
                .duration("max_wait", Duration::ZERO..=longest)
                .unwrap_or(default.max_wait),
            blinding: section.flag("blinding", default.blinding),
        }
    }

    /// Warns where a signer and a shard share a core.
    pub(super) fn check_apart(&self, section: &Section<'_>, shards: &[usize]) {
        for core in self.cores.iter().filter(|core| shards.contains(core)) {
            let message = format!("core {core} has a shard and a signer, which take turns on it");
            let finding = Diagnostic::warning(section.place("cores"), message);
            section.context.push(
                finding.help(format!("leave {core} out here, or out of `cores` in [server]")),
            );
        }
    }
}

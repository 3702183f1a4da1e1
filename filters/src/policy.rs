//! From findings to a verdict.
//!
//! Rules are ordered and the first that applies decides. A rule applies when its detector's
//! distinct values, summed over the message and at least as sure as the rule asks, reach its
//! threshold. `unscannable.*` findings that no rule names get one action of their own
//! ([`Config::unscannable`]).
//!
//! # Invariants
//! The reason of a rejection is one line of printable ASCII without any content of the message: an
//! application's developer and a log reader may both see it.
//!
//! # Failures
//! A configuration that could never work is a [`ConfigError`]; deciding cannot fail.

use std::fmt;

use crate::detect::{Confidence, DISTINCT_MAX, Detector, Finding};
use crate::limits::{DEPTH_LIMIT, HEADER_BYTES_LIMIT, Limits, PARTS_LIMIT};
use crate::mime::PartPath;

/// Longest rule id, bytes: it stands in an SMTP reply line.
const RULE_ID_BYTES_MAX: usize = 64;

/// Most parts named in one rejection; a `+` stands for the rest.
const PARTS_NAMED_MAX: usize = 4;

/// The rule id of a rejection because of [`Config::unscannable`].
const UNSCANNABLE_RULE: &str = "dlp.unscannable";

/// What is to happen to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// It goes on; no later rule is asked.
    Allow,
    /// It is refused at the end of data: `550 5.7.1` and the rejection's text.
    Reject,
}

/// One rule of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Name for replies and reports: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub id: String,
    /// The detector whose findings count.
    pub detector: Detector,
    /// Distinct values that make the rule apply, 1 to [`DISTINCT_MAX`].
    pub count_min: u32,
    /// Findings less sure than this do not count.
    pub confidence_min: Confidence,
    /// What the rule decides.
    pub action: Action,
}

impl Rule {
    /// A rule that applies from the first value of at least medium confidence.
    #[must_use]
    pub fn new(id: impl Into<String>, detector: Detector, action: Action) -> Self {
        let confidence_min = Confidence::Medium;
        Self { id: id.into(), detector, count_min: 1, confidence_min, action }
    }

    fn applies(&self, finding: &Finding) -> bool {
        finding.detector == self.detector && finding.confidence >= self.confidence_min
    }
}

/// What [`Filters`](crate::Filters) is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Ordered; the first that applies decides.
    pub rules: Vec<Rule>,
    /// For `unscannable.*` findings when no rule applies. The default lets the message pass: what
    /// was beyond a limit was still read as plain text, and the finding is on record.
    pub unscannable: Action,
    /// Detectors whose findings nobody wants: they are not in the outcome.
    pub ignored: Vec<Detector>,
    /// How far a message is taken apart.
    pub limits: Limits,
}

impl Default for Config {
    /// Rejects from one payment card number on, under the id `dlp.credit_card`, and from one secret on,
    /// under `dlp.` and its id; JSON Web Tokens are found only, for links to reset a password hold them.
    fn default() -> Self {
        let secrets = Detector::all().filter(|detector| detector.is_secret());
        let detectors = [Detector::CreditCard].into_iter().chain(secrets);
        let rejected = detectors.filter(|detector| *detector != Detector::Jwt);
        let rule = |detector| Rule::new(format!("dlp.{detector}"), detector, Action::Reject);
        Self {
            rules: rejected.map(rule).collect(),
            unscannable: Action::Allow,
            ignored: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// Why a configuration cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A rule's id is empty, too long or holds other characters than `A-Z a-z 0-9 . _ -`.
    RuleId(String),
    /// Two rules have this id.
    RuleTwice(String),
    /// The named rule's `count_min` is 0 or above [`DISTINCT_MAX`].
    CountMin(String),
    /// The named limit is outside its range.
    Limit(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RuleId(id) => {
                write!(f, "rule id {id:?} must be 1 to {RULE_ID_BYTES_MAX} of A-Z a-z 0-9 . _ -")
            }
            Self::RuleTwice(id) => write!(f, "two rules have the id {id:?}"),
            Self::CountMin(id) => {
                write!(f, "rule {id:?}: count_min must be 1 to {DISTINCT_MAX}")
            }
            Self::Limit("depth_max") => write!(f, "depth_max must be 1 to {DEPTH_LIMIT}"),
            Self::Limit("parts_max") => write!(f, "parts_max must be 1 to {PARTS_LIMIT}"),
            Self::Limit(name) => write!(f, "{name} must be 1024 to {HEADER_BYTES_LIMIT}"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (index, rule) in self.rules.iter().enumerate() {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if rule.id.is_empty()
                || rule.id.len() > RULE_ID_BYTES_MAX
                || !rule.id.bytes().all(allowed)
            {
                return Err(ConfigError::RuleId(rule.id.clone()));
            }
            if self.rules[..index].iter().any(|earlier| earlier.id == rule.id) {
                return Err(ConfigError::RuleTwice(rule.id.clone()));
            }
            if !(1..=DISTINCT_MAX).contains(&rule.count_min) {
                return Err(ConfigError::CountMin(rule.id.clone()));
            }
        }
        let Limits { depth_max, parts_max, header_bytes_max } = self.limits;
        let limits = [
            ("depth_max", (1..=DEPTH_LIMIT).contains(&depth_max)),
            ("parts_max", (1..=PARTS_LIMIT).contains(&parts_max)),
            ("header_bytes_max", (1024..=HEADER_BYTES_LIMIT).contains(&header_bytes_max)),
        ];
        match limits.into_iter().find(|(_, holds)| !holds) {
            Some((name, _)) => Err(ConfigError::Limit(name)),
            None => Ok(()),
        }
    }

    /// The verdict over `findings`.
    pub(crate) fn decide(&self, findings: &[Finding]) -> Verdict {
        for rule in &self.rules {
            let counted = || findings.iter().filter(|finding| rule.applies(finding));
            let count = counted().map(|finding| finding.count).sum();
            if count >= rule.count_min {
                return Verdict::of(rule.action, &rule.id, rule.detector, count, counted());
            }
        }
        let Some(first) = findings.iter().find(|finding| finding.detector.is_unscannable()) else {
            return Verdict::Allow;
        };
        let same = findings.iter().filter(|finding| finding.detector == first.detector);
        let count = same.clone().map(|finding| finding.count).sum();
        Verdict::of(self.unscannable, UNSCANNABLE_RULE, first.detector, count, same)
    }
}

/// What the policy decided about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It goes on.
    Allow,
    /// It is refused for the reason given.
    Reject(Rejection),
}

impl Verdict {
    fn of<'a>(
        action: Action,
        rule: &str,
        detector: Detector,
        count: u32,
        findings: impl Iterator<Item = &'a Finding>,
    ) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Reject => Self::Reject(Rejection {
                rule: rule.to_string(),
                detector,
                parts: findings.map(|finding| finding.part.clone()).collect(),
                count,
            }),
        }
    }
}

/// Why a message is refused.
///
/// `Display` is the machine-readable text behind `550 5.7.1`:
/// `credit_card part=1.2 count=2 rule=dlp.credit_card`; several parts are separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// Id of the rule that decided.
    pub rule: String,
    /// What was found.
    pub detector: Detector,
    /// The parts it was found in.
    pub parts: Vec<PartPath>,
    /// Distinct values in all of them.
    pub count: u32,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} part=", self.detector)?;
        for (index, part) in self.parts.iter().take(PARTS_NAMED_MAX).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{part}")?;
        }
        let more = if self.parts.len() > PARTS_NAMED_MAX { "+" } else { "" };
        write!(f, "{more} count={} rule={}", self.count, self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(detector: Detector, number: u16, count: u32, confidence: Confidence) -> Finding {
        let mut part = PartPath::default();
        assert!(part.push(number));
        Finding { detector, part, count, occurrences: count, confidence }
    }

    fn text(config: &Config, findings: &[Finding]) -> String {
        match config.decide(findings) {
            Verdict::Allow => "allow".to_string(),
            Verdict::Reject(rejection) => rejection.to_string(),
        }
    }

    #[test]
    fn counts_are_summed_over_parts() {
        let card = |number, count| finding(Detector::CreditCard, number, count, Confidence::High);
        let mut config = Config::default();
        config.rules[0].count_min = 3;
        assert_eq!(text(&config, &[card(1, 2)]), "allow");
        let both = [card(1, 2), card(2, 1)];
        assert_eq!(text(&config, &both), "credit_card part=1,2 count=3 rule=dlp.credit_card");
        let many: Vec<_> = (1..=6).map(|number| card(number, 1)).collect();
        let want = "credit_card part=1,2,3,4+ count=6 rule=dlp.credit_card";
        assert_eq!(text(&config, &many), want);
    }

    #[test]
    fn less_sure_findings_do_not_count() {
        let low = finding(Detector::CreditCard, 1, 9, Confidence::Low);
        assert_eq!(text(&Config::default(), &[low]), "allow");
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        let mut config = Config::default();
        let mut allow = Rule::new("many-are-a-statement", Detector::CreditCard, Action::Allow);
        allow.count_min = 10;
        config.rules.insert(0, allow);
        let card = |count| [finding(Detector::CreditCard, 1, count, Confidence::High)];
        assert_eq!(text(&config, &card(10)), "allow");
        assert_ne!(text(&config, &card(9)), "allow");
    }

    #[test]
    fn unscannable_has_its_own_action() {
        let deep = [finding(Detector::UnscannableDepth, 3, 1, Confidence::High)];
        let mut config = Config::default();
        assert_eq!(text(&config, &deep), "allow");
        config.unscannable = Action::Reject;
        assert_eq!(text(&config, &deep), "unscannable.depth part=3 count=1 rule=dlp.unscannable");
        config.rules.push(Rule::new("deep-is-fine", Detector::UnscannableDepth, Action::Allow));
        assert_eq!(text(&config, &deep), "allow");
    }

    #[test]
    fn what_could_never_work_is_refused() {
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check()
        };
        let id = "dlp.credit_card".to_string();
        assert_eq!(with(|_| ()), Ok(()));
        let bad = "a b\r\n250 ok".to_string();
        assert_eq!(with(|c| c.rules[0].id = "a b\r\n250 ok".into()), Err(ConfigError::RuleId(bad)));
        assert_eq!(with(|c| c.rules[0].id.clear()), Err(ConfigError::RuleId(String::new())));
        assert_eq!(with(|c| c.rules[0].count_min = 0), Err(ConfigError::CountMin(id.clone())));
        assert_eq!(with(|c| c.rules[0].count_min = 257), Err(ConfigError::CountMin(id.clone())));
        assert_eq!(with(|c| c.rules.push(c.rules[0].clone())), Err(ConfigError::RuleTwice(id)));
        assert_eq!(with(|c| c.limits.depth_max = 17), Err(ConfigError::Limit("depth_max")));
        assert_eq!(with(|c| c.limits.parts_max = 0), Err(ConfigError::Limit("parts_max")));
        let header = with(|c| c.limits.header_bytes_max = 100);
        assert_eq!(header, Err(ConfigError::Limit("header_bytes_max")));
    }
}

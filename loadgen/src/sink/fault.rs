//! What goes wrong at a sink, where, and how often.
//!
//! ```text
//! PHASE:ACTION[:WHEN]
//! PHASE   connect | ehlo | starttls | mail | rcpt | data | end
//! ACTION  a reply code (421, 450, 554, ...) | drop | stall | slow=MILLISECONDS
//! WHEN    10% | first=N | every=N          (always, if not given)
//! ```
//!
//! `end` is the final dot: `end:drop` takes the message and closes without a word, `end:451` does not
//! take it.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Where in a session a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the greeting.
    Connect,
    /// At EHLO or HELO.
    Ehlo,
    /// At STARTTLS.
    StartTls,
    /// At MAIL.
    Mail,
    /// At RCPT.
    Rcpt,
    /// At DATA.
    Data,
    /// At the final dot.
    End,
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answers with this code; 421 also closes.
    Reply(u16),
    /// Closes without an answer.
    Drop,
    /// Never answers.
    Stall,
    /// Answers, but later.
    Slow(Duration),
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Always,
    /// Of 2^32.
    Odds(u64),
    First(u64),
    Every(u64),
}

/// One fault.
#[derive(Clone, Debug)]
pub struct Fault {
    phase: Phase,
    action: Action,
    when: When,
    seen: Arc<AtomicU64>,
}

/// A fault that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFault(String);

impl fmt::Display for BadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadFault {}

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let mut parts = text.split(':');
        let phase = parse_phase(parts.next().unwrap_or_default())?;
        let action = parse_action(parts.next().unwrap_or_default())?;
        let when = parts.next().map_or(Ok(When::Always), parse_when)?;
        if parts.next().is_some() {
            return Err(BadFault("a fault is PHASE:ACTION[:WHEN]".to_owned()));
        }
        Ok(Self { phase, action, when, seen: Arc::default() })
    }
}

fn parse_phase(text: &str) -> Result<Phase, BadFault> {
    Ok(match text {
        "connect" => Phase::Connect,
        "ehlo" => Phase::Ehlo,
        "starttls" => Phase::StartTls,
        "mail" => Phase::Mail,
        "rcpt" => Phase::Rcpt,
        "data" => Phase::Data,
        "end" => Phase::End,
        _ => {
            let known = "connect, ehlo, starttls, mail, rcpt, data, end";
            return Err(BadFault(format!("`{text}` is no phase; there are {known}")));
        }
    })
}

fn parse_action(text: &str) -> Result<Action, BadFault> {
    if let Some(millis) = text.strip_prefix("slow=") {
        let millis = millis.parse().map_err(|_| BadFault(format!("`{text}`: milliseconds?")))?;
        return Ok(Action::Slow(Duration::from_millis(millis)));
    }
    match text {
        "drop" => Ok(Action::Drop),
        "stall" => Ok(Action::Stall),
        _ => match text.parse() {
            Ok(code @ 400..600) => Ok(Action::Reply(code)),
            _ => Err(BadFault(format!(
                "`{text}` is no action; give a code from 400 to 599, drop, stall or slow=MS"
            ))),
        },
    }
}

fn parse_when(text: &str) -> Result<When, BadFault> {
    let bad = || BadFault(format!("`{text}` is no frequency; give 10%, first=N or every=N"));
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| bad())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(bad());
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 2^32"
        )]
        return Ok(When::Odds((percent / 100.0 * 4_294_967_296.0) as u64));
    }
    let (word, number) = text.split_once('=').ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    match word {
        "first" => Ok(When::First(number)),
        "every" if number > 0 => Ok(When::Every(number)),
        _ => Err(bad()),
    }
}

/// All faults of a sink. Counts are over all sessions; odds are drawn per session from the seed.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    faults: Vec<Fault>,
    seed: u64,
}

impl Faults {
    /// Faults in order: at each phase the first that strikes, strikes.
    pub fn new(faults: Vec<Fault>, seed: u64) -> Self {
        Self { faults, seed }
    }

    /// The luck of one session.
    pub(super) fn dice(&self, session: u64) -> Dice {
        Dice(self.seed ^ session.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// What strikes at this phase, if anything.
    pub(super) fn strike(&self, phase: Phase, dice: &mut Dice) -> Option<Action> {
        let strikes = |fault: &&Fault| {
            let before = fault.seen.fetch_add(1, Ordering::Relaxed);
            match fault.when {
                When::Always => true,
                When::Odds(odds) => dice.roll() >> 32 < odds,
                When::First(count) => before < count,
                When::Every(count) => (before + 1).is_multiple_of(count),
            }
        };
        let mut here = self.faults.iter().filter(|fault| fault.phase == phase);
        here.find(strikes).map(|fault| fault.action)
    }
}

/// SplitMix64: good enough for faults, and the same everywhere.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(fault: &str, times: usize) -> usize {
        let faults = Faults::new(vec![fault.parse().unwrap()], 1);
        let mut dice = faults.dice(0);
        (0..times).filter(|_| faults.strike(Phase::Rcpt, &mut dice).is_some()).count()
    }

    #[test]
    fn faults_strike_as_often_as_they_say() {
        assert_eq!(strikes("rcpt:450", 100), 100);
        assert_eq!(strikes("mail:450", 100), 0);
        assert_eq!(strikes("rcpt:drop:first=7", 100), 7);
        assert_eq!(strikes("rcpt:stall:every=10", 100), 10);
        assert_eq!(strikes("rcpt:450:0%", 1000), 0);
        assert_eq!(strikes("rcpt:450:100%", 1000), 1000);
        assert!((150..250).contains(&strikes("rcpt:slow=5:20%", 1000)));
    }

    #[test]
    fn the_first_that_strikes_decides() {
        let parse = |text: &str| text.parse().unwrap();
        let faults = Faults::new(vec![parse("rcpt:450:first=1"), parse("rcpt:slow=5")], 0);
        let mut dice = faults.dice(3);
        assert_eq!(faults.strike(Phase::Rcpt, &mut dice), Some(Action::Reply(450)));
        let slow = Action::Slow(Duration::from_millis(5));
        assert_eq!(faults.strike(Phase::Rcpt, &mut dice), Some(slow));
    }

    #[test]
    fn bad_faults_say_what_there_is() {
        for (text, told) in [
            ("", "`` is no phase"),
            ("quit:450", "`quit` is no phase"),
            ("rcpt", "`` is no action"),
            ("rcpt:250", "`250` is no action"),
            ("rcpt:slow=x", "`slow=x`: milliseconds"),
            ("rcpt:450:often", "`often` is no frequency"),
            ("rcpt:450:101%", "`101%` is no frequency"),
            ("rcpt:450:every=0", "`every=0` is no frequency"),
            ("rcpt:450:10%:x", "a fault is PHASE"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.starts_with(told), "{text}: {error}");
        }
    }
}

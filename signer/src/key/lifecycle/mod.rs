//! The life of the keys of one signing identity, as a pure state machine.
//!
//! ```text
//!  generated ──► published ──► standby ──► active ──► draining ──► withdrawn ──► destroyed
//!    made and     seen at       the same,   signs      signs no     empty p=      private half
//!    stored       every         once TTLs               more, still  seen          gone
//!       ▲         server        are over                verified     everywhere
//!       └──────────┴─────────────┘  somebody took the record away
//! ```
//!
//! A [`Line`] says which [`Step`]s can be done now; its driver does them and tells what came of it.
//! The driver decides, has the decision stored durably, acts, and confirms, in this order, so that a
//! crash between any two of them repeats a step and never skips one: every step is idempotent.
//!
//! Invariants, which `sim.rs` holds it to with crashes, clock jumps and failing DNS:
//!
//! - A key becomes active only after its record was seen at every authoritative server and at enough
//!   resolvers, then for as long as anybody may keep what was there before, and then again.
//! - A standby key is made as soon as there is none, so that an emergency needs no DNS.
//! - A key is withdrawn only after nothing signs with it, for as long as its signatures may be under
//!   way; its private half is destroyed only after the empty `p=` was seen everywhere.
//! - A step that is not proved is refused with the reason: [`NotYet`].
//!
//! Time: waits that mail depends on (times to live, draining) count only time that the caller saw
//! pass ([`Line::pass`], on a monotonic clock), and none while the relay was down. The wall clock
//! decides when a rotation is due and nothing else: where it jumps, a rotation comes early or late.

mod key;
mod not_yet;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::key::{Key, Stage};
pub use self::not_yet::NotYet;
use crate::dns::revoked_text;
use crate::name::Selector;

/// What a line is driven by: the operator's wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long a key signs, in seconds.
    pub rotate_every_s: u64,
    /// By how much of that a rotation may come earlier, in thousandths; each key has its own share.
    pub jitter_permille: u16,
    /// For how long a record is published at least before its key may sign, in seconds.
    pub standby_for_s: u64,
    /// For how long signatures may be under way, in seconds.
    pub drain_for_s: u64,
    /// The same after an emergency, in seconds.
    pub emergency_drain_for_s: u64,
    /// How many resolvers must have a record.
    pub resolvers_min: usize,
    /// How old a sighting may be that a switch relies on, and how often records are looked at that
    /// are in use, in seconds.
    pub look_every_s: u64,
    /// What selectors begin with; a number follows.
    pub selector_prefix: Selector,
    /// How many selectors are used in turn, where their names are delegated; `None` for a new one
    /// each time.
    pub selectors: Option<u32>,
}

/// The keys of one signing identity, in the order they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Keys made so far.
    serial: u64,
    /// The operator wants the next rotation now.
    is_ordered: bool,
    keys: Vec<Key>,
}

/// What a driver can do now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Make a key for this selector, then [`Line::made`].
    Make(Selector),
    /// Have the record published where it is not, look, then [`Line::looked`].
    Publish(Selector),
    /// Look, then [`Line::looked`].
    Look(Selector),
    /// [`Line::switch`], store, then have every delivery sign with this key.
    Switch(Selector),
    /// Have the record replaced by one with an empty `p=`, look, then [`Line::looked`].
    Withdraw(Selector),
    /// [`Line::destroy`], and forget the private half.
    Destroy(Selector),
}

/// What the servers had when they were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// What was expected there when they were asked: the text of the record.
    pub expected: String,
    /// Authoritative servers that have what should be there, and how many were asked.
    pub authoritative: (usize, usize),
    /// The same of resolvers.
    pub resolvers: (usize, usize),
    /// The longest time to live in any answer, of the record or of its absence, in seconds.
    pub ttl_s_max: u32,
    /// An authoritative server answered, and has something else or nothing.
    pub is_contradicted: bool,
    /// What is in the way, for the operator; empty where nothing is.
    pub obstacles: String,
}

/// Why signing changes from one key to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is time, or the operator ordered it.
    Due,
    /// The key is not to be trusted. Holds for how long its signatures may still be under way, in
    /// seconds, where that is not the plan's.
    Emergency(Option<u64>),
}

/// Time that the caller saw pass, in milliseconds. The two differ only in a rehearsal, where the
/// plan's time runs faster than that of DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elapsed {
    /// For times to live.
    pub real_ms: u64,
    /// For draining.
    pub planned_ms: u64,
}

impl Line {
    /// All keys, the oldest first; the last few destroyed ones among them.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key with this selector.
    pub fn key(&self, selector: &Selector) -> Option<&Key> {
        self.keys.iter().find(|key| key.selector == *selector)
    }

    /// The key that signs.
    pub fn active(&self) -> Option<&Key> {
        self.keys.iter().find(|key| matches!(key.stage, Stage::Active))
    }

    /// The key that can sign at once.
    pub fn standby(&self) -> Option<&Key> {
        self.keys.iter().find(|key| matches!(key.stage, Stage::Standby))
    }

    /// What should be at the name of a key: the text of its record. `None` where that is nobody's
    /// concern any more.
    pub fn expected(&self, selector: &Selector) -> Option<&str> {
        let key = self.key(selector)?;
        match key.stage {
            Stage::Draining { .. } if key.is_drained() => Some(revoked_text()),
            Stage::Withdrawn => Some(revoked_text()),
            Stage::Destroyed => None,
            _ => Some(&key.record),
        }
    }

    /// The keys whose private halves are needed.
    pub fn wants_private(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.stage != Stage::Destroyed)
    }

    /// Everything that can be done now, the most urgent first.
    pub fn steps(&self, plan: &Plan, now_s: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.candidate().is_none()
            && let Ok(selector) = self.next_selector(plan)
        {
            steps.push(Step::Make(selector));
        }
        let of_keys = self.keys.iter().filter(|key| self.waits_for(key, plan, now_s).is_none());
        steps.extend(of_keys.filter_map(|key| self.step_of(key, plan, now_s)));
        let is_switch = |step: &Step| !matches!(step, Step::Switch(_));
        steps.sort_by_key(is_switch);
        steps
    }

    /// What is done with a key next, whenever that may be.
    fn step_of(&self, key: &Key, plan: &Plan, now_s: u64) -> Option<Step> {
        let selector = key.selector.clone();
        Some(match key.stage {
            Stage::Generated { is_looked: false, .. } | Stage::Published { .. } => {
                Step::Look(selector)
            }
            Stage::Generated { .. } => Step::Publish(selector),
            Stage::Standby if key.is_fresh(plan) && self.is_due(plan, now_s) => {
                Step::Switch(selector)
            }
            Stage::Standby | Stage::Active => Step::Look(selector),
            Stage::Draining { .. } => Step::Withdraw(selector),
            Stage::Withdrawn => Step::Destroy(selector),
            Stage::Destroyed => return None,
        })
    }

    /// What the next step of a key waits for; `None` where it can be done now. A key that is
    /// looked at in between waits for the time of that.
    pub fn waits_for(&self, key: &Key, plan: &Plan, now_s: u64) -> Option<NotYet> {
        match key.stage {
            Stage::Generated { .. } | Stage::Withdrawn => None,
            Stage::Published { wait_ms, waited_ms } => left(wait_ms, waited_ms)
                .map(|left_ms| NotYet::OthersMayKeep { left_s: left_ms.div_ceil(1_000) }),
            Stage::Standby if self.is_due(plan, now_s) || !key.is_fresh(plan) => None,
            Stage::Standby => Some(self.not_due(plan, now_s)),
            Stage::Active if !key.is_fresh(plan) => None,
            Stage::Active => Some(match self.is_due(plan, now_s) {
                true => NotYet::NoStandby,
                false => self.not_due(plan, now_s),
            }),
            Stage::Draining { .. } if !key.is_out_of_use => Some(NotYet::InUse),
            Stage::Draining { for_ms, drained_ms } => left(for_ms, drained_ms)
                .map(|left_ms| NotYet::Draining { left_s: left_ms.div_ceil(1_000) }),
            Stage::Destroyed => Some(NotYet::WrongStage("destroyed")),
        }
    }

    /// When the active key should be followed by the next, in seconds since 1970.
    pub fn due_s(&self, plan: &Plan) -> Option<u64> {
        let active = self.active()?;
        let early = u128::from(plan.rotate_every_s)
            * u128::from(plan.jitter_permille.min(1_000))
            * u128::from(active.spread_permille.min(1_000))
            / 1_000_000;
        let early = u64::try_from(early).unwrap_or(plan.rotate_every_s);
        Some(active.since_s.saturating_add(plan.rotate_every_s - early))
    }

    /// Whether signing should change: by the clock, by order, or because nothing signs yet.
    pub fn is_due(&self, plan: &Plan, now_s: u64) -> bool {
        self.is_ordered || self.due_s(plan).is_none_or(|due_s| due_s <= now_s)
    }

    fn not_due(&self, plan: &Plan, now_s: u64) -> NotYet {
        let due_s = self.due_s(plan).unwrap_or(now_s);
        NotYet::NotDue { left_s: due_s.saturating_sub(now_s) }
    }

    /// The key that will sign next, however far it is.
    pub fn candidate(&self) -> Option<&Key> {
        self.keys.iter().find(|key| {
            matches!(key.stage, Stage::Generated { .. } | Stage::Published { .. } | Stage::Standby)
        })
    }

    /// The selector of the next key.
    ///
    /// # Errors
    /// [`NotYet::SelectorsInUse`]
    pub fn next_selector(&self, plan: &Plan) -> Result<Selector, NotYet> {
        let number = match plan.selectors {
            Some(count) => self.serial % u64::from(count.max(1)) + 1,
            None => self.serial + 1,
        };
        let selector: Selector = format!("{}{number}", plan.selector_prefix)
            .parse()
            .map_err(|_| NotYet::SelectorsInUse)?;
        match self.key(&selector) {
            Some(key) if key.stage != Stage::Destroyed => Err(NotYet::SelectorsInUse),
            _ => Ok(selector),
        }
    }

    /// A key was made; store the line with its private half before anything else.
    /// `spread_permille` is its random share of the plan's jitter.
    ///
    /// # Errors
    /// Another key comes next already, or the selector is not the next one.
    pub fn made(
        &mut self,
        selector: &Selector,
        record: String,
        spread_permille: u16,
        plan: &Plan,
        now_s: u64,
    ) -> Result<(), NotYet> {
        if let Some(candidate) = self.candidate() {
            return Err(NotYet::WrongStage(candidate.stage.as_str()));
        }
        if self.next_selector(plan)? != *selector {
            return Err(NotYet::UnknownSelector);
        }
        let is_reused = self.key(selector).is_some();
        self.keys.retain(|key| key.selector != *selector);
        let destroyed = self.keys.iter().filter(|key| key.stage == Stage::Destroyed).count();
        if destroyed > HISTORY_MAX
            && let Some(oldest) = self.keys.iter().position(|key| key.stage == Stage::Destroyed)
        {
            self.keys.remove(oldest);
        }
        self.serial += 1;
        self.keys.push(Key::new(selector.clone(), record, spread_permille, is_reused, now_s));
        Ok(())
    }

    /// Takes note of what the servers have at a key's name.
    ///
    /// # Errors
    /// Why the key is not a stage further now, also where something else is
    /// [expected](Self::expected) by now. The line may have changed all the same: what was learned
    /// is kept.
    pub fn looked(
        &mut self,
        selector: &Selector,
        looked: &Looked,
        plan: &Plan,
        now_s: u64,
    ) -> Result<(), NotYet> {
        let is_outdated = self.expected(selector) != Some(&looked.expected);
        let key = self.key_mut(selector)?;
        if is_outdated {
            return Err(NotYet::WrongStage(key.stage.as_str()));
        }
        let is_proof = looked.is_proof(plan.resolvers_min);
        let unseen = || NotYet::Unseen { obstacles: looked.obstacles.clone() };
        let ttl_ms = u64::from(looked.ttl_s_max) * 1_000;
        if looked.is_contradicted && key.stage.is_before_use() {
            let ttl_ms = ttl_ms.max(key.stage.ttl_ms());
            key.enter(Stage::Generated { ttl_ms, is_looked: true }, now_s);
            return Err(unseen());
        }
        match key.stage.clone() {
            Stage::Withdrawn | Stage::Destroyed => {
                return Err(NotYet::WrongStage(key.stage.as_str()));
            }
            Stage::Draining { .. } if !key.is_drained() => return Err(NotYet::InUse),
            Stage::Generated { ttl_ms: known_ms, is_looked } => {
                let ttl_ms = ttl_ms.max(known_ms);
                if !is_proof {
                    // Silence says nothing about how long others keep that nothing is there.
                    let is_looked = is_looked || looked.authoritative.0 > 0;
                    key.stage = Stage::Generated { ttl_ms, is_looked };
                    return Err(unseen());
                }
                let wait_ms = ttl_ms.max(plan.standby_for_s.saturating_mul(1_000));
                key.enter(Stage::Published { wait_ms, waited_ms: 0 }, now_s);
            }
            _ if !is_proof => return Err(unseen()),
            Stage::Published { wait_ms, waited_ms } => {
                if let Some(left_ms) = left(wait_ms, waited_ms) {
                    return Err(NotYet::OthersMayKeep { left_s: left_ms.div_ceil(1_000) });
                }
                key.enter(Stage::Standby, now_s);
            }
            Stage::Standby | Stage::Active => {}
            Stage::Draining { .. } => key.enter(Stage::Withdrawn, now_s),
        }
        key.seen_ms_ago = Some(0);
        Ok(())
    }

    /// Lets the standby key sign, and the active one drain. Store the line before anybody signs
    /// with the new key; [`Self::out_of_use`] says when nobody does with the old one.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn switch(&mut self, cause: Cause, plan: &Plan, now_s: u64) -> Result<Selector, NotYet> {
        let standby = self.standby().ok_or(NotYet::NoStandby)?;
        let for_s = match cause {
            Cause::Due if !self.is_due(plan, now_s) => return Err(self.not_due(plan, now_s)),
            Cause::Due if !standby.is_fresh(plan) => {
                return Err(NotYet::Unseen { obstacles: String::new() });
            }
            Cause::Due => plan.drain_for_s,
            Cause::Emergency(for_s) => for_s.unwrap_or(plan.emergency_drain_for_s),
        };
        let selector = standby.selector.clone();
        for key in &mut self.keys {
            if key.stage == Stage::Active {
                let for_ms = for_s.saturating_mul(1_000);
                key.enter(Stage::Draining { for_ms, drained_ms: 0 }, now_s);
                key.is_out_of_use = false;
            } else if key.selector == selector {
                key.enter(Stage::Active, now_s);
            }
        }
        self.is_ordered = false;
        Ok(selector)
    }

    /// Nobody signs with these draining keys any more, and nobody will.
    pub fn out_of_use(&mut self, is_in_use: impl Fn(&Selector) -> bool) {
        for key in &mut self.keys {
            if matches!(key.stage, Stage::Draining { .. }) && !is_in_use(&key.selector) {
                key.is_out_of_use = true;
            }
        }
    }

    /// Lets time pass; `now_s` is the wall clock. Store the line now and then while something
    /// [is counted](Self::is_counting): what was not stored is waited for again after a crash.
    pub fn pass(&mut self, elapsed: Elapsed, now_s: u64) {
        for key in &mut self.keys {
            // A clock that was set back would make everything wait for as long as it was ahead.
            key.since_s = key.since_s.min(now_s);
            if let Some(seen_ms_ago) = &mut key.seen_ms_ago {
                *seen_ms_ago = seen_ms_ago.saturating_add(elapsed.real_ms);
            }
            match &mut key.stage {
                Stage::Published { waited_ms, .. } => {
                    *waited_ms = waited_ms.saturating_add(elapsed.real_ms);
                }
                Stage::Draining { drained_ms, .. } if key.is_out_of_use => {
                    *drained_ms = drained_ms.saturating_add(elapsed.planned_ms);
                }
                _ => {}
            }
        }
    }

    /// Whether a wait is being counted.
    pub fn is_counting(&self) -> bool {
        let is_counted =
            |key: &Key| matches!(key.stage, Stage::Published { .. } | Stage::Draining { .. });
        self.keys.iter().any(is_counted)
    }

    /// A withdrawn key is to be forgotten: store the line without its private half.
    ///
    /// # Errors
    /// It is not withdrawn.
    pub fn destroy(&mut self, selector: &Selector, now_s: u64) -> Result<(), NotYet> {
        let key = self.key_mut(selector)?;
        match key.stage {
            Stage::Withdrawn => {
                key.enter(Stage::Destroyed, now_s);
                Ok(())
            }
            ref stage => Err(NotYet::WrongStage(stage.as_str())),
        }
    }

    /// Makes the next rotation due now.
    pub fn order_rotation(&mut self) {
        self.is_ordered = true;
    }

    /// Gives up a key that has not signed yet, so that another is made under the next selector: its
    /// name is somebody else's, or its private half is not to be trusted. A record that was seen is
    /// withdrawn; one that was not is left alone, for it may be another's.
    ///
    /// # Errors
    /// It signs or has signed.
    pub fn abandon(&mut self, selector: &Selector, now_s: u64) -> Result<(), NotYet> {
        let key = self.key_mut(selector)?;
        match key.stage {
            Stage::Generated { .. } => key.enter(Stage::Destroyed, now_s),
            Stage::Published { .. } | Stage::Standby => {
                key.enter(Stage::Draining { for_ms: 0, drained_ms: 0 }, now_s);
                key.is_out_of_use = true;
            }
            ref stage => return Err(NotYet::WrongStage(stage.as_str())),
        }
        Ok(())
    }

    fn key_mut(&mut self, selector: &Selector) -> Result<&mut Key, NotYet> {
        let found = self.keys.iter_mut().find(|key| key.selector == *selector);
        found.ok_or(NotYet::UnknownSelector)
    }
}

impl Looked {
    /// Whether every authoritative server and enough resolvers have what should be there.
    pub fn is_proof(&self, resolvers_min: usize) -> bool {
        let (right, asked) = self.authoritative;
        asked > 0 && right == asked && self.resolvers.0 >= resolvers_min
    }
}

/// What is left of a wait; `None` where it is over.
fn left(for_ms: u64, passed_ms: u64) -> Option<u64> {
    for_ms.checked_sub(passed_ms).filter(|left_ms| *left_ms > 0)
}

/// Destroyed keys that are remembered: what was published at their names is known again.
const HISTORY_MAX: usize = 8;

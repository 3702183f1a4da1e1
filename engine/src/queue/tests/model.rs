//! The queue against a naive model: a vector that is searched.
//!
//! The model says what may be leased and what must be; the queue chooses among equals.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Add { destination: u32, app: u32, lane: usize, recipients: u16, delay_ms: u64 },
    Sleep { ms: u64 },
    Lease { to: Option<u32> },
    Settle { which: usize, outcomes: u8 },
    Release { which: usize },
    Freeze { app: u32 },
    Thaw { app: u32 },
    Pause { destination: u32, ms: u64 },
    Resume { destination: u32 },
    Retry { destination: u32 },
    Drop { message: u128 },
}

fn step() -> impl Strategy<Value = Step> {
    let delay_ms = prop_oneof![3 => Just(0u64), 1 => 1u64..3_000];
    let add = (0u32..4, 0u32..3, 0usize..3, 1u16..4, delay_ms);
    prop_oneof![
        6 => add.prop_map(|(destination, app, lane, recipients, delay_ms)| {
            Step::Add { destination, app, lane, recipients, delay_ms }
        }),
        4 => prop_oneof![0u64..2_000, 0u64..200_000].prop_map(|ms| Step::Sleep { ms }),
        8 => prop::option::of(0u32..4).prop_map(|to| Step::Lease { to }),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(which, outcomes)| Step::Settle { which, outcomes }),
        1 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => (0u32..3).prop_map(|app| Step::Freeze { app }),
        1 => (0u32..3).prop_map(|app| Step::Thaw { app }),
        1 => (0u32..4, 0u64..5_000).prop_map(|(destination, ms)| Step::Pause { destination, ms }),
        1 => (0u32..4).prop_map(|destination| Step::Resume { destination }),
        1 => (0u32..4).prop_map(|destination| Step::Retry { destination }),
        1 => (0u128..60).prop_map(|message| Step::Drop { message }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn queue_agrees_with_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.apply(&step);
            world.check();
        }
    }
}

/// What the model knows of a delivery.
#[derive(Clone, Debug)]
struct Known {
    message: MessageKey,
    destination: Destination,
    app: App,
    lane: Lane,
    recipients: Vec<u16>,
    state: State,
    due_ms: u64,
    expires_ms: u64,
    /// From here on freezing moves the expiry.
    ages_from_ms: u64,
    was_frozen: bool,
    attempts: u16,
    dropped: bool,
    /// Order of becoming ready; equal where the order is open.
    rank: (i64, u64),
}

struct World {
    queue: Queue,
    now_ms: u64,
    turn: i64,
    messages: u128,
    known: BTreeMap<DeliveryId, Known>,
    leases: Vec<Lease>,
    frozen: BTreeMap<App, u64>,
    paused: BTreeMap<Destination, u64>,
}

impl World {
    fn new() -> Self {
        Self {
            queue: Queue::new(options()),
            now_ms: 1_000,
            turn: 0,
            messages: 0,
            known: BTreeMap::new(),
            leases: Vec::new(),
            frozen: BTreeMap::new(),
            paused: BTreeMap::new(),
        }
    }

    fn apply(&mut self, step: &Step) {
        self.turn += 1;
        match *step {
            Step::Add { destination, app, lane, recipients, delay_ms } => {
                self.add(Destination(destination), App(app), LANES[lane], recipients, delay_ms);
            }
            Step::Sleep { ms } => self.sleep(ms),
            Step::Lease { to } => self.lease(to.map_or(Pick::Any, |to| Pick::To(Destination(to)))),
            Step::Settle { which, outcomes } => self.settle(which, outcomes),
            Step::Release { which } => self.release(which),
            Step::Freeze { app } => {
                self.queue.freeze(self.now_ms, App(app));
                self.frozen.entry(App(app)).or_insert(self.now_ms);
            }
            Step::Thaw { app } => self.thaw(App(app)),
            Step::Pause { destination, ms } => {
                self.queue.pause(Destination(destination), self.now_ms + ms);
                self.paused.insert(Destination(destination), self.now_ms + ms);
            }
            Step::Resume { destination } => {
                self.queue.resume(Destination(destination));
                self.paused.remove(&Destination(destination));
            }
            Step::Retry { destination } => self.retry(Destination(destination)),
            Step::Drop { message } => self.drop_message(MessageKey(message)),
        }
    }

    fn add(&mut self, destination: Destination, app: App, lane: Lane, count: u16, delay_ms: u64) {
        // Every third delivery belongs to the message before.
        if self.turn % 3 != 0 {
            self.messages += 1;
        }
        let recipients: Vec<u16> = (0..count).collect();
        let new = NewDelivery {
            recipients: (&*recipients).into(),
            accepted_ms: self.now_ms,
            due_ms: self.now_ms + delay_ms,
            ..delivery(self.messages, destination.0, app.0, lane)
        };
        let message = new.message;
        let id = self.queue.add(self.now_ms, new);
        let known = Known {
            message,
            destination,
            app,
            lane,
            recipients,
            state: if delay_ms == 0 { State::Ready } else { State::Waiting },
            due_ms: self.now_ms + delay_ms,
            expires_ms: self.now_ms + options().lanes[lane.index()].expiry_ms,
            ages_from_ms: self.now_ms,
            was_frozen: self.frozen.contains_key(&app),
            attempts: 0,
            dropped: false,
            rank: (self.turn, 0),
        };
        assert!(self.known.insert(id, known).is_none(), "ids are not used again");
    }

    fn sleep(&mut self, ms: u64) {
        self.now_ms += ms;
        self.queue.advance(self.now_ms);
        self.paused.retain(|_, until_ms| *until_ms > self.now_ms);
        self.expire();
        for known in self.known.values_mut() {
            if known.state == State::Waiting && known.due_ms <= self.now_ms {
                known.state = State::Ready;
                known.rank = (self.turn, known.due_ms);
            }
            let is_old = known.expires_ms <= self.now_ms && !self.frozen.contains_key(&known.app);
            let is_live = matches!(known.state, State::Ready | State::Waiting);
            assert!(!is_live || !is_old || known.was_frozen, "too old: {known:?}");
        }
    }

    fn expire(&mut self) {
        while let Some(id) = self.queue.poll_expired() {
            let known = self.known.get_mut(&id).expect("an expired delivery is kept");
            assert!(known.expires_ms <= self.now_ms, "failed too early: {known:?}");
            assert!(!self.frozen.contains_key(&known.app), "failed while frozen: {known:?}");
            assert!(matches!(known.state, State::Ready | State::Waiting), "{known:?}");
            known.state = State::Failed(FailReason::Expired);
        }
    }

    fn can_lease(&self, known: &Known, pick: Pick) -> bool {
        let is_picked = match pick {
            Pick::Any => !self.paused.contains_key(&known.destination),
            Pick::To(destination) => destination == known.destination,
        };
        is_picked && known.state == State::Ready && !self.frozen.contains_key(&known.app)
    }

    fn lease(&mut self, pick: Pick) {
        let lease = self.queue.lease(self.now_ms, pick);
        self.expire();
        let Some(lease) = lease else {
            let missed = self.known.values().find(|known| self.can_lease(known, pick));
            assert!(missed.is_none(), "not leased: {missed:?}");
            return;
        };
        let known = self.known[&lease.id].clone();
        assert!(self.can_lease(&known, pick), "leased: {known:?}");
        assert!(known.expires_ms > self.now_ms, "leased though too old: {known:?}");
        let overtaken = self.known.values().find(|other| {
            self.can_lease(other, pick)
                && (other.destination, other.lane, other.app)
                    == (known.destination, known.lane, known.app)
                && other.rank < known.rank
        });
        assert!(overtaken.is_none(), "{overtaken:?} was overtaken by {known:?}");
        assert_eq!(lease.recipients.as_slice(), known.recipients);
        assert_eq!(lease.attempt, known.attempts + 1);
        let known = self.known.get_mut(&lease.id).expect("was there");
        known.state = State::Leased;
        known.attempts += 1;
        self.leases.push(lease);
    }

    fn settle(&mut self, which: usize, outcomes: u8) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases.swap_remove(which % self.leases.len());
        let id = lease.id;
        let outcome = |recipient: u16| match outcomes >> (2 * recipient) & 3 {
            0 | 1 => Outcome::Done,
            2 => Outcome::Failed,
            _ => Outcome::Retry { after_ms: 0 },
        };
        let settled = self.queue.settle(self.now_ms, lease, outcome);
        let mut known = self.known.remove(&id).expect("was there");
        let of = |wanted: Outcome| {
            known.recipients.iter().copied().filter(|&r| outcome(r) == wanted).collect::<Vec<_>>()
        };
        let (again, failed) = (of(Outcome::Retry { after_ms: 0 }), of(Outcome::Failed));
        assert_eq!(settled.done, known.recipients.len() - again.len() - failed.len());
        if known.dropped {
            assert_eq!((settled.retry, settled.failed), (None, None));
        } else {
            assert_eq!(settled.failed.is_some(), !failed.is_empty());
            assert_eq!(settled.retry.is_some(), !again.is_empty());
            if let Some(id) = settled.failed {
                let state = State::Failed(FailReason::Refused);
                self.known.insert(id, Known { recipients: failed, state, ..known.clone() });
            }
            if let Some((id, due_ms)) = settled.retry {
                known = Known { recipients: again, due_ms, state: State::Waiting, ..known };
                self.known.insert(id, known.clone());
            }
        }
        let is_gone = !self.known.values().any(|other| other.message == known.message);
        assert_eq!(settled.message_is_gone, is_gone);
    }

    fn release(&mut self, which: usize) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases.swap_remove(which % self.leases.len());
        let id = lease.id;
        self.queue.release(self.now_ms, lease);
        let known = self.known.get_mut(&id).expect("was there");
        known.attempts -= 1;
        known.state = State::Ready;
        known.rank = (-self.turn, 0);
        if known.dropped {
            self.known.remove(&id);
        }
    }

    fn thaw(&mut self, app: App) {
        self.queue.thaw(self.now_ms, app);
        let Some(since_ms) = self.frozen.remove(&app) else { return };
        for known in self.known.values_mut().filter(|known| known.app == app) {
            known.expires_ms += self.now_ms - since_ms.max(known.ages_from_ms);
            known.was_frozen = true;
        }
    }

    fn retry(&mut self, destination: Destination) {
        let filter = Filter { destination: Some(destination), ..Filter::default() };
        let count = self.queue.retry_now(self.now_ms, &filter);
        let mut expected = 0;
        for known in self.known.values_mut().filter(|known| known.destination == destination) {
            match known.state {
                State::Ready | State::Leased => continue,
                State::Waiting => {}
                State::Failed(_) => {
                    known.attempts = 0;
                    known.ages_from_ms = self.now_ms;
                    known.expires_ms = self.now_ms + options().lanes[known.lane.index()].expiry_ms;
                }
            }
            expected += 1;
            known.state = State::Ready;
            known.rank = (self.turn, 0);
        }
        assert_eq!(count, expected);
    }

    fn drop_message(&mut self, message: MessageKey) {
        let count = self.queue.drop_message(message);
        let mut expected = 0;
        self.known.retain(|_, known| {
            if known.message != message || known.dropped {
                return true;
            }
            expected += 1;
            known.dropped = known.state == State::Leased;
            known.dropped
        });
        assert_eq!(count, expected);
    }

    fn check(&self) {
        for lane in LANES {
            let of_lane = self.count(|known| known.lane == lane);
            assert_eq!(self.queue.counts(lane), of_lane, "{lane:?}");
        }
        for app in (0..3).map(App) {
            assert_eq!(self.queue.counts_of_app(app), self.count(|known| known.app == app));
        }
        for to in (0..4).map(Destination) {
            assert_eq!(self.queue.counts_to(to), self.count(|known| known.destination == to));
            assert_eq!(self.queue.paused_until_ms(to), self.paused.get(&to).copied());
            let can_lease = self.known.values().any(|known| self.can_lease(known, Pick::To(to)));
            assert_eq!(self.queue.next_ready(to).is_some(), can_lease);
        }
        let listed: Vec<_> = self.queue.ready_destinations().collect();
        let ready = self.known.values().filter(|known| self.can_lease(known, Pick::Any));
        let ready: BTreeSet<_> = ready.map(|known| known.destination).collect();
        assert_eq!(listed.len(), ready.len(), "each once");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), ready);
        self.check_views();
        self.check_due();
    }

    fn check_views(&self) {
        let (views, next) = self.queue.list(&Filter::default(), Cursor::default(), usize::MAX);
        assert_eq!((views.len(), next), (self.known.len(), None));
        for view in views {
            let known = &self.known[&view.id];
            assert_eq!((view.state, view.attempts), (known.state, known.attempts));
            assert_eq!(view.recipients.as_slice(), known.recipients);
            assert_eq!(view.frozen, self.frozen.contains_key(&known.app));
            assert_eq!(view.expires_ms, (!view.frozen).then_some(known.expires_ms), "{known:?}");
        }
    }

    /// The queue asks to be woken no later than something happens.
    fn check_due(&self) {
        let waiting = self.known.values().filter(|known| known.state == State::Waiting);
        let due_ms = waiting.map(|known| known.due_ms);
        let earliest = due_ms.chain(self.paused.values().copied()).min();
        if let Some(earliest_ms) = earliest {
            assert!(self.queue.next_due_ms().is_some_and(|next_ms| next_ms <= earliest_ms));
        }
    }

    fn count(&self, wanted: impl Fn(&Known) -> bool) -> Counts {
        let mut counts = Counts::default();
        for known in self.known.values().filter(|known| wanted(known)) {
            match known.state {
                State::Ready => counts.ready += 1,
                State::Waiting => counts.waiting += 1,
                State::Leased => counts.leased += 1,
                State::Failed(_) => counts.failed += 1,
            }
        }
        counts
    }
}

//! The queue itself: what becomes ready when, and what is leased next.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use slab::Slab;

use super::backoff::Jitter;
use super::delivery::Delivery;
use super::lane::Stride;
use super::list::{Link, List, NONE};
use super::timer::Timers;
use super::view::Tally;
use super::{
    App, DeliveryId, Destination, FailReason, Filter, LANES, Lane, LanePolicy, Lease, MessageKey,
    NewDelivery, Recipients, State,
};

/// How a queue behaves.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// One for each lane, in the order of [`LANES`].
    pub lanes: [LanePolicy; LANES.len()],
    /// Deliveries that [`Queue::room`] counts down from.
    pub deliveries_max: usize,
    /// For jitter.
    pub seed: u64,
}

/// The deliveries of one shard.
pub struct Queue {
    pub(super) options: QueueOptions,
    pub(super) deliveries: Slab<Delivery>,
    flows: Slab<Flow>,
    pub(super) sites: Slab<Site>,
    flow_of: Map<(u32, Lane, App), u32>,
    pub(super) site_of: Map<Destination, u32>,
    pub(super) apps: Map<App, AppRecord>,
    pub(super) messages: Map<MessageKey, List>,
    /// For each lane, the sites that have something to lease in it.
    pub(super) ready_sites: [List; LANES.len()],
    /// For each lane, its deliveries that have not failed, in the order they were added.
    pub(super) by_age: [List; LANES.len()],
    pub(super) tallies: [Tally; LANES.len()],
    stride: Stride,
    pub(super) timers: Timers,
    pauses: BTreeSet<(u64, u32)>,
    expired: VecDeque<DeliveryId>,
    last_serial: u64,
    jitter: Jitter,
}

/// The ready deliveries of one application in one lane to one destination. Exists while there are
/// any.
struct Flow {
    ready: List,
    /// Among the flows of the site and lane, unless the application is frozen.
    in_site: Link,
    /// Among the flows of the application.
    in_app: Link,
    site: u32,
    lane: Lane,
}

/// One destination. Exists while it has deliveries or is paused.
pub(super) struct Site {
    pub(super) destination: Destination,
    /// For each lane, the flows that can be leased from, in turn.
    pub(super) flows: [List; LANES.len()],
    /// Among the ready sites of each lane.
    pub(super) in_lane: [Link; LANES.len()],
    listed: [bool; LANES.len()],
    stride: Stride,
    pub(super) tally: Tally,
    pub(super) paused_until_ms: Option<u64>,
}

/// One application. Exists while it has deliveries or is frozen.
#[derive(Default)]
pub(super) struct AppRecord {
    flows: List,
    pub(super) tally: Tally,
    pub(super) frozen_since_ms: Option<u64>,
    /// How long it was frozen before that.
    frozen_ms: u64,
}

/// Which deliveries [`Queue::lease`] chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// All of them.
    Any,
    /// Those to one destination, even while it is paused: the caller knows better.
    To(Destination),
}

/// What became of one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop has taken responsibility.
    Done,
    /// Not now. Tried again after the lane's back-off, or later if asked to.
    Retry {
        /// The least delay, 0 if the back-off decides alone.
        after_ms: u64,
    },
    /// Never.
    Failed,
}

/// What [`Queue::settle`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Recipients that are done.
    pub done: usize,
    /// The delivery to those that are to be tried again, and when.
    pub retry: Option<(DeliveryId, u64)>,
    /// The delivery to those that failed.
    pub failed: Option<DeliveryId>,
    /// Nothing of the message is left, neither to be tried nor failed: its space may be freed.
    pub message_is_gone: bool,
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

impl Queue {
    /// Makes an empty queue.
    pub fn new(options: QueueOptions) -> Self {
        Self {
            jitter: Jitter::new(options.seed),
            options,
            deliveries: Slab::new(),
            flows: Slab::new(),
            sites: Slab::new(),
            flow_of: Map::default(),
            site_of: Map::default(),
            apps: Map::default(),
            messages: Map::default(),
            ready_sites: [List::default(); LANES.len()],
            by_age: [List::default(); LANES.len()],
            tallies: [Tally::default(); LANES.len()],
            stride: Stride::default(),
            timers: Timers::default(),
            pauses: BTreeSet::new(),
            expired: VecDeque::new(),
            last_serial: 0,
        }
    }

    /// Returns how many more deliveries should be accepted; intake refuses mail at 0.
    pub fn room(&self) -> usize {
        self.options.deliveries_max.saturating_sub(self.deliveries.len())
    }

    /// Changes lanes' policies. Deliveries keep the expiry they were given.
    pub fn set_lanes(&mut self, lanes: [LanePolicy; LANES.len()]) {
        self.options.lanes = lanes;
    }

    /// Adds a delivery of a message that is durable. Never refuses.
    pub fn add(&mut self, now_ms: u64, new: NewDelivery) -> DeliveryId {
        debug_assert!(!new.recipients.as_slice().is_empty(), "a delivery is to someone");
        let policy = &self.options.lanes[new.lane.index()];
        let age_limit_ms = new.accepted_ms.saturating_add(policy.expiry_ms);
        let expires_ms = new.expires_ms.unwrap_or(age_limit_ms);
        let app = self.apps.entry(new.app).or_default();
        let record = Delivery {
            message: new.message,
            recipients: new.recipients,
            serial: 0,
            accepted_ms: new.accepted_ms,
            expires_base_ms: expires_ms.wrapping_sub(app.frozen_total_ms(now_ms)),
            due_ms: new.due_ms,
            site: self.site(new.destination),
            app: new.app,
            timer: NONE,
            in_flow: Link::default(),
            in_lane: Link::default(),
            in_message: Link::default(),
            attempts: new.attempts,
            lane: new.lane,
            state: State::Waiting,
            dropped: false,
        };
        let index = self.insert(record);
        self.by_age[new.lane.index()].push_back(&mut self.deliveries, index, |d| &mut d.in_lane);
        if new.due_ms <= now_ms {
            self.make_ready(now_ms, index, End::Back);
        } else {
            self.arm(now_ms, index);
        }
        self.id(index)
    }

    /// Moves on to `now_ms`: due deliveries become ready, old ones fail, pauses end.
    ///
    /// Handles at most [`ADVANCE_MAX`] deliveries, so that it never holds up its caller; if more
    /// are due, [`Queue::next_due_ms`] still says so.
    pub fn advance(&mut self, now_ms: u64) {
        while let Some(&(until_ms, site)) = self.pauses.first() {
            if until_ms > now_ms {
                break;
            }
            self.resume(self.sites[site as usize].destination);
        }
        for _ in 0..ADVANCE_MAX {
            match self.timers.first() {
                Some((due_ms, index)) if due_ms <= now_ms => self.fire(now_ms, index),
                _ => break,
            }
        }
    }

    /// Returns when [`Queue::advance`] must be called next.
    pub fn next_due_ms(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(due_ms, _)| due_ms);
        let pause = self.pauses.first().map(|&(until_ms, _)| until_ms);
        timer.into_iter().chain(pause).min()
    }

    /// Returns the next delivery that failed by age, once each.
    pub fn poll_expired(&mut self) -> Option<DeliveryId> {
        self.expired.pop_front()
    }

    /// Hands out the delivery whose turn it is.
    ///
    /// One that is too old fails instead. `None` means that nothing can be leased now, or that
    /// more than [`EXPIRED_PER_LEASE_MAX`] were too old; then [`Queue::next_due_ms`] is in the
    /// past.
    pub fn lease(&mut self, now_ms: u64, pick: Pick) -> Option<Lease> {
        for _ in 0..EXPIRED_PER_LEASE_MAX {
            let (site, lane) = self.choose(pick)?;
            let index = self.take(site, lane);
            if self.is_expired(now_ms, index) {
                self.fail(index, FailReason::Expired);
                continue;
            }
            self.charge(pick, site, lane);
            return Some(self.grant(index));
        }
        None
    }

    /// Gives a lease back unused, for example where no connection could be had: no attempt is
    /// counted, and the delivery goes to the front of its application's.
    pub fn release(&mut self, now_ms: u64, lease: Lease) {
        let index = self.leased(&lease);
        let delivery = &mut self.deliveries[index as usize];
        delivery.attempts -= 1;
        if delivery.dropped {
            self.remove(index);
        } else {
            self.make_ready(now_ms, index, End::Front);
        }
    }

    /// Ends a lease with an outcome for each recipient.
    ///
    /// Recipients to be tried again stay together; those that failed become a failed delivery of
    /// their own if others are still to be tried.
    pub fn settle(
        &mut self,
        now_ms: u64,
        lease: Lease,
        mut outcome: impl FnMut(u16) -> Outcome,
    ) -> Settled {
        let index = self.leased(&lease);
        let mut retry = Vec::new();
        let mut failed = Vec::new();
        let mut least_delay_ms = 0;
        for &recipient in lease.recipients.as_slice() {
            match outcome(recipient) {
                Outcome::Done => {}
                Outcome::Failed => failed.push(recipient),
                Outcome::Retry { after_ms } => {
                    retry.push(recipient);
                    least_delay_ms = after_ms.max(least_delay_ms);
                }
            }
        }
        let done = lease.recipients.as_slice().len() - retry.len() - failed.len();
        let mut settled = Settled { done, retry: None, failed: None, message_is_gone: false };
        if self.deliveries[index as usize].dropped || retry.len() + failed.len() == 0 {
            self.remove(index);
            settled.message_is_gone = !self.messages.contains_key(&lease.message);
            return settled;
        }
        if retry.is_empty() {
            self.deliveries[index as usize].recipients = (&*failed).into();
            self.fail(index, FailReason::Refused);
            settled.failed = Some(self.id(index));
            return settled;
        }
        if !failed.is_empty() {
            settled.failed = Some(self.split_failed(index, &failed));
        }
        let due_ms = self.wait(now_ms, index, (&*retry).into(), least_delay_ms);
        settled.retry = Some((self.id(index), due_ms));
        settled
    }

    /// Stops leasing an application's deliveries. They keep their place and do not age.
    ///
    /// Holds for deliveries added later too. Cost: the application's destinations and lanes with
    /// something ready.
    pub fn freeze(&mut self, now_ms: u64, app: App) {
        let record = self.apps.entry(app).or_default();
        if record.frozen_since_ms.is_some() {
            return;
        }
        record.frozen_since_ms = Some(now_ms);
        for flow in self.flows_of(app) {
            self.hide(flow);
        }
    }

    /// Undoes [`Queue::freeze`].
    pub fn thaw(&mut self, now_ms: u64, app: App) {
        let Some(record) = self.apps.get_mut(&app) else { return };
        let Some(since_ms) = record.frozen_since_ms.take() else { return };
        record.frozen_ms += now_ms.saturating_sub(since_ms);
        for flow in self.flows_of(app) {
            self.show(flow);
        }
        self.forget_idle_app(app);
    }

    /// Whether an application is frozen.
    pub fn is_frozen(&self, app: App) -> bool {
        self.apps.get(&app).is_some_and(|record| record.frozen_since_ms.is_some())
    }

    /// Leaves a destination out of [`Pick::Any`] and [`Queue::ready_destinations`] until a time:
    /// one that is down, or whose connections are all in use. A later call replaces the time.
    pub fn pause(&mut self, destination: Destination, until_ms: u64) {
        let site = self.site(destination);
        let before = self.sites[site as usize].paused_until_ms.replace(until_ms);
        if let Some(before_ms) = before {
            self.pauses.remove(&(before_ms, site));
        }
        self.pauses.insert((until_ms, site));
        self.relist(site);
    }

    /// Ends a pause before its time.
    pub fn resume(&mut self, destination: Destination) {
        let Some(&site) = self.site_of.get(&destination) else { return };
        let Some(until_ms) = self.sites[site as usize].paused_until_ms.take() else { return };
        self.pauses.remove(&(until_ms, site));
        self.relist(site);
        self.forget_idle_site(site);
    }

    /// Makes waiting deliveries ready at once, and failed ones too, which begin a new life: their
    /// attempts and age count from now. Returns how many. For operators: looks at all deliveries
    /// unless the filter names a message.
    pub fn retry_now(&mut self, now_ms: u64, filter: &Filter) -> usize {
        let chosen = self.matching(filter);
        let ready_again = |queue: &mut Self, &index: &u32| queue.retry_one(now_ms, index);
        chosen.iter().filter(|index| ready_again(self, index)).count()
    }

    /// Drops all deliveries of a message; those being tried are gone when their lease ends.
    /// Returns how many.
    pub fn drop_message(&mut self, message: MessageKey) -> usize {
        let chosen = self.matching(&Filter { message: Some(message), ..Filter::default() });
        chosen.iter().filter(|&&index| self.drop_one(index)).count()
    }

    /// Whether anything of a message is here, failed deliveries included.
    pub fn holds(&self, message: MessageKey) -> bool {
        self.messages.contains_key(&message)
    }
}

/// Time.
impl Queue {
    /// The due time of a delivery has come: the next attempt's or the expiry's.
    fn fire(&mut self, now_ms: u64, index: u32) {
        let delivery = &self.deliveries[index as usize];
        let is_due = delivery.state == State::Waiting && delivery.due_ms <= now_ms;
        if self.is_expired(now_ms, index) {
            self.detach(index);
            self.fail(index, FailReason::Expired);
        } else if is_due {
            self.make_ready(now_ms, index, End::Back);
        } else {
            self.arm(now_ms, index);
        }
    }

    /// Sets the due time of a delivery that is ready or waits.
    ///
    /// A frozen application's deliveries do not expire, but it may be thawed at any time: they are
    /// looked at again now and then. One that was frozen can thus outlive its expiry by
    /// [`FROZEN_RECHECK_MS`] while it is not leased.
    fn arm(&mut self, now_ms: u64, index: u32) {
        let recheck_ms = now_ms.saturating_add(FROZEN_RECHECK_MS);
        let expiry_ms = self.expiry_ms(index).unwrap_or(recheck_ms);
        let delivery = &self.deliveries[index as usize];
        let due_ms = match delivery.state {
            State::Waiting => delivery.due_ms.min(expiry_ms),
            _ => expiry_ms,
        };
        self.timers.set(&mut self.deliveries, index, due_ms);
    }

    /// When a delivery expires; `None` while its application is frozen. Freezing moves it on, and
    /// that without touching the delivery.
    pub(super) fn expiry_ms(&self, index: u32) -> Option<u64> {
        let delivery = &self.deliveries[index as usize];
        let app = self.apps.get(&delivery.app).expect("an application with deliveries is known");
        let is_live = app.frozen_since_ms.is_none();
        is_live.then(|| delivery.expires_base_ms.wrapping_add(app.frozen_ms))
    }

    fn is_expired(&self, now_ms: u64, index: u32) -> bool {
        self.expiry_ms(index).is_some_and(|expiry_ms| expiry_ms <= now_ms)
    }
}

/// Choosing.
impl Queue {
    fn choose(&mut self, pick: Pick) -> Option<(u32, Lane)> {
        match pick {
            Pick::To(destination) => {
                let &index = self.site_of.get(&destination)?;
                let site = &self.sites[index as usize];
                Some((index, site.stride.pick(has_work(&site.flows))?))
            }
            Pick::Any => {
                let lane = self.stride.pick(has_work(&self.ready_sites))?;
                let sites = &mut self.ready_sites[lane.index()];
                let first = sites.first()?;
                sites.rotate(&mut self.sites, in_lane(lane));
                Some((first, lane))
            }
        }
    }

    fn charge(&mut self, pick: Pick, site: u32, lane: Lane) {
        let weight = self.options.lanes[lane.index()].weight;
        self.sites[site as usize].stride.charge(lane, weight);
        if pick == Pick::Any {
            self.stride.charge(lane, weight);
        }
    }

    /// Takes the first delivery of the flow whose turn it is.
    fn take(&mut self, site: u32, lane: Lane) -> u32 {
        let flows = &mut self.sites[site as usize].flows[lane.index()];
        let flow = flows.first().expect("a chosen site has a flow in this lane");
        flows.rotate(&mut self.flows, |flow| &mut flow.in_site);
        let index = self.flows[flow as usize].ready.first().expect("a flow has a delivery");
        self.leave_flow(index);
        index
    }

    fn grant(&mut self, index: u32) -> Lease {
        self.timers.clear(&mut self.deliveries, index);
        self.set_state(index, State::Leased);
        let id = self.id(index);
        let delivery = &mut self.deliveries[index as usize];
        delivery.attempts = delivery.attempts.saturating_add(1);
        Lease {
            id,
            message: delivery.message,
            destination: self.sites[delivery.site as usize].destination,
            app: delivery.app,
            lane: delivery.lane,
            recipients: delivery.recipients.clone(),
            attempt: delivery.attempts,
            accepted_ms: delivery.accepted_ms,
        }
    }

    fn leased(&self, lease: &Lease) -> u32 {
        let delivery = &self.deliveries[lease.id.index as usize];
        assert_eq!(delivery.serial, lease.id.serial, "a lease keeps its delivery");
        assert_eq!(delivery.state, State::Leased, "a delivery is leased once");
        lease.id.index
    }
}

/// From state to state.
impl Queue {
    fn make_ready(&mut self, now_ms: u64, index: u32, end: End) {
        self.set_state(index, State::Ready);
        self.enter_flow(index, end);
        self.arm(now_ms, index);
    }

    /// Ends an attempt with another one to come; returns when.
    fn wait(
        &mut self,
        now_ms: u64,
        index: u32,
        recipients: Recipients,
        least_delay_ms: u64,
    ) -> u64 {
        let random = self.jitter.next();
        let delivery = &mut self.deliveries[index as usize];
        let backoff = &self.options.lanes[delivery.lane.index()].backoff;
        let delay_ms = backoff.delay_ms(delivery.attempts, random).max(least_delay_ms);
        delivery.recipients = recipients;
        delivery.due_ms = now_ms.saturating_add(delay_ms);
        let due_ms = delivery.due_ms;
        self.set_state(index, State::Waiting);
        self.arm(now_ms, index);
        due_ms
    }

    /// Ends a delivery that is in no flow.
    fn fail(&mut self, index: u32, reason: FailReason) {
        self.timers.clear(&mut self.deliveries, index);
        let lane = self.deliveries[index as usize].lane;
        self.by_age[lane.index()].unlink(&mut self.deliveries, index, |d| &mut d.in_lane);
        self.set_state(index, State::Failed(reason));
        if reason == FailReason::Expired {
            self.expired.push_back(self.id(index));
        }
    }

    /// Makes a failed delivery of some recipients of a leased one.
    fn split_failed(&mut self, index: u32, failed: &[u16]) -> DeliveryId {
        let whole = &self.deliveries[index as usize];
        let part = Delivery {
            recipients: failed.into(),
            in_flow: Link::default(),
            in_lane: Link::default(),
            in_message: Link::default(),
            timer: NONE,
            state: State::Failed(FailReason::Refused),
            ..*whole
        };
        let part = self.insert(part);
        self.id(part)
    }

    fn retry_one(&mut self, now_ms: u64, index: u32) -> bool {
        let delivery = &mut self.deliveries[index as usize];
        match delivery.state {
            State::Ready | State::Leased => return false,
            State::Waiting => {}
            State::Failed(_) => {
                let app = self.apps.get(&delivery.app).expect("an application with deliveries");
                let policy = &self.options.lanes[delivery.lane.index()];
                let expires_ms = now_ms.saturating_add(policy.expiry_ms);
                delivery.expires_base_ms = expires_ms.wrapping_sub(app.frozen_total_ms(now_ms));
                delivery.attempts = 0;
                let lane = delivery.lane;
                let age = &mut self.by_age[lane.index()];
                age.push_back(&mut self.deliveries, index, |d| &mut d.in_lane);
            }
        }
        self.deliveries[index as usize].due_ms = now_ms;
        self.make_ready(now_ms, index, End::Back);
        true
    }

    fn drop_one(&mut self, index: u32) -> bool {
        let delivery = &mut self.deliveries[index as usize];
        if delivery.state == State::Leased {
            return !std::mem::replace(&mut delivery.dropped, true);
        }
        self.detach(index);
        self.remove(index);
        true
    }

    /// Takes a delivery out of its flow, if it is in one.
    fn detach(&mut self, index: u32) {
        if self.deliveries[index as usize].state == State::Ready {
            self.leave_flow(index);
        }
    }
}

/// Bookkeeping.
impl Queue {
    pub(super) fn id(&self, index: u32) -> DeliveryId {
        DeliveryId { index, serial: self.deliveries[index as usize].serial }
    }

    /// Stores a delivery and counts it; it is in no flow and has no due time.
    fn insert(&mut self, mut delivery: Delivery) -> u32 {
        self.last_serial += 1;
        delivery.serial = self.last_serial;
        let message = delivery.message;
        let index = u32::try_from(self.deliveries.vacant_key()).unwrap_or(NONE);
        assert_ne!(index, NONE, "fewer than 2^32 - 1 deliveries");
        self.tally(&delivery, |tally, state| tally.add(state));
        self.deliveries.insert(delivery);
        let siblings = self.messages.entry(message).or_default();
        siblings.push_back(&mut self.deliveries, index, |d| &mut d.in_message);
        index
    }

    /// Forgets a delivery that is in no flow.
    fn remove(&mut self, index: u32) {
        self.timers.clear(&mut self.deliveries, index);
        let Delivery { message, lane, state, .. } = self.deliveries[index as usize];
        if !matches!(state, State::Failed(_)) {
            self.by_age[lane.index()].unlink(&mut self.deliveries, index, |d| &mut d.in_lane);
        }
        let siblings = self.messages.get_mut(&message).expect("a delivery's message is known");
        siblings.unlink(&mut self.deliveries, index, |d| &mut d.in_message);
        if siblings.is_empty() {
            self.messages.remove(&message);
        }
        let delivery = self.deliveries.remove(index as usize);
        self.tally(&delivery, |tally, state| tally.remove(state));
        self.forget_idle_app(delivery.app);
        self.forget_idle_site(delivery.site);
    }

    fn set_state(&mut self, index: u32, state: State) {
        let delivery = &mut self.deliveries[index as usize];
        let before = std::mem::replace(&mut delivery.state, state);
        let Delivery { lane, site, app, .. } = *delivery;
        for tally in self.tallies_of(lane, site, app) {
            tally.remove(before);
            tally.add(state);
        }
    }

    fn tally(&mut self, delivery: &Delivery, change: fn(&mut Tally, State)) {
        for tally in self.tallies_of(delivery.lane, delivery.site, delivery.app) {
            change(tally, delivery.state);
        }
    }

    fn tallies_of(&mut self, lane: Lane, site: u32, app: App) -> [&mut Tally; 3] {
        [
            &mut self.tallies[lane.index()],
            &mut self.sites[site as usize].tally,
            &mut self.apps.entry(app).or_default().tally,
        ]
    }

    fn enter_flow(&mut self, index: u32, end: End) {
        let Delivery { site, lane, app, .. } = self.deliveries[index as usize];
        let flow = match self.flow_of.get(&(site, lane, app)) {
            Some(&flow) => flow,
            None => self.make_flow(site, lane, app),
        };
        let ready = &mut self.flows[flow as usize].ready;
        match end {
            End::Back => ready.push_back(&mut self.deliveries, index, |d| &mut d.in_flow),
            End::Front => ready.push_front(&mut self.deliveries, index, |d| &mut d.in_flow),
        }
    }

    fn leave_flow(&mut self, index: u32) {
        let Delivery { site, lane, app, .. } = self.deliveries[index as usize];
        let flow = *self.flow_of.get(&(site, lane, app)).expect("a ready delivery has a flow");
        let ready = &mut self.flows[flow as usize].ready;
        ready.unlink(&mut self.deliveries, index, |d| &mut d.in_flow);
        if ready.is_empty() {
            self.end_flow(flow, app);
        }
    }

    fn make_flow(&mut self, site: u32, lane: Lane, app: App) -> u32 {
        let flow = Flow {
            ready: List::default(),
            in_site: Link::default(),
            in_app: Link::default(),
            site,
            lane,
        };
        // Not more flows than deliveries, whose number `insert` bounds.
        let flow = u32::try_from(self.flows.insert(flow)).expect("fewer than 2^32 flows");
        self.flow_of.insert((site, lane, app), flow);
        let record = self.apps.entry(app).or_default();
        record.flows.push_back(&mut self.flows, flow, |flow| &mut flow.in_app);
        if record.frozen_since_ms.is_none() {
            self.show(flow);
        }
        flow
    }

    fn end_flow(&mut self, flow: u32, app: App) {
        if !self.is_frozen(app) {
            self.hide(flow);
        }
        let record = self.apps.entry(app).or_default();
        record.flows.unlink(&mut self.flows, flow, |flow| &mut flow.in_app);
        let Flow { site, lane, .. } = self.flows.remove(flow as usize);
        self.flow_of.remove(&(site, lane, app));
    }

    /// Lets a flow be leased from.
    fn show(&mut self, flow: u32) {
        let Flow { site, lane, .. } = self.flows[flow as usize];
        let flows = &mut self.sites[site as usize].flows[lane.index()];
        flows.push_back(&mut self.flows, flow, |flow| &mut flow.in_site);
        self.relist(site);
    }

    /// Undoes [`Queue::show`].
    fn hide(&mut self, flow: u32) {
        let Flow { site, lane, .. } = self.flows[flow as usize];
        let flows = &mut self.sites[site as usize].flows[lane.index()];
        flows.unlink(&mut self.flows, flow, |flow| &mut flow.in_site);
        self.relist(site);
    }

    pub(super) fn flow_bytes(&self) -> usize {
        let entry_bytes = size_of::<((u32, Lane, App), u32)>() + 1;
        self.flows.capacity() * size_of::<Flow>() + self.flow_of.capacity() * entry_bytes * 8 / 7
    }

    fn flows_of(&self, app: App) -> Vec<u32> {
        let flows = self.apps.get(&app).map(|record| record.flows).unwrap_or_default();
        flows.iter(&self.flows, |flow| flow.in_app).collect()
    }

    /// Lists a site among the ready ones of each lane in which it has work, unless it is paused.
    fn relist(&mut self, index: u32) {
        for lane in LANES {
            let site = &mut self.sites[index as usize];
            let is_ready = site.paused_until_ms.is_none() && !site.flows[lane.index()].is_empty();
            let was_listed = std::mem::replace(&mut site.listed[lane.index()], is_ready);
            let ready = &mut self.ready_sites[lane.index()];
            match (was_listed, is_ready) {
                (false, true) => ready.push_back(&mut self.sites, index, in_lane(lane)),
                (true, false) => ready.unlink(&mut self.sites, index, in_lane(lane)),
                _ => {}
            }
        }
    }

    fn site(&mut self, destination: Destination) -> u32 {
        if let Some(&site) = self.site_of.get(&destination) {
            return site;
        }
        let site = self.sites.insert(Site::new(destination));
        let site = u32::try_from(site).expect("destinations are 32-bit numbers");
        self.site_of.insert(destination, site);
        site
    }

    fn forget_idle_site(&mut self, index: u32) {
        let site = &self.sites[index as usize];
        if site.tally.is_empty() && site.paused_until_ms.is_none() {
            self.site_of.remove(&site.destination);
            self.sites.remove(index as usize);
        }
    }

    fn forget_idle_app(&mut self, app: App) {
        if self.apps.get(&app).is_some_and(AppRecord::is_idle) {
            self.apps.remove(&app);
        }
    }
}

impl Site {
    fn new(destination: Destination) -> Self {
        Self {
            destination,
            flows: [List::default(); LANES.len()],
            in_lane: [Link::default(); LANES.len()],
            listed: [false; LANES.len()],
            stride: Stride::default(),
            tally: Tally::default(),
            paused_until_ms: None,
        }
    }

    /// Returns the lane that would be served next.
    pub(super) fn next_lane(&self) -> Option<Lane> {
        self.stride.pick(has_work(&self.flows))
    }
}

impl AppRecord {
    fn is_idle(&self) -> bool {
        self.tally.is_empty() && self.frozen_since_ms.is_none()
    }

    fn frozen_total_ms(&self, now_ms: u64) -> u64 {
        let current_ms = self.frozen_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        self.frozen_ms + current_ms
    }
}

/// Where a delivery enters its flow.
#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

fn has_work(lists: &[List; LANES.len()]) -> [bool; LANES.len()] {
    lists.map(|list| !list.is_empty())
}

fn in_lane(lane: Lane) -> fn(&mut Site) -> &mut Link {
    match lane {
        Lane::Urgent => |site| &mut site.in_lane[0],
        Lane::Normal => |site| &mut site.in_lane[1],
        Lane::Bulk => |site| &mut site.in_lane[2],
    }
}

/// Deliveries handled by one [`Queue::advance`]: about 1 ms where a million are queued and nothing is
/// in cache.
pub const ADVANCE_MAX: usize = 1024;

/// Deliveries found too old by one [`Queue::lease`].
pub const EXPIRED_PER_LEASE_MAX: usize = 64;

/// How often the deliveries of a frozen application are looked at.
const FROZEN_RECHECK_MS: u64 = 600_000;

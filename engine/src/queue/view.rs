//! What operators see: counts, which are kept up to date, and lists, which are made on demand.

use super::delivery::Delivery;
use super::list::List;
use super::{App, DeliveryId, Destination, LANES, Lane, MessageKey, Queue, Recipients, State};

/// Deliveries by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// See [`State::Ready`]; frozen and paused ones are counted here too.
    pub ready: usize,
    /// See [`State::Waiting`].
    pub waiting: usize,
    /// See [`State::Leased`].
    pub leased: usize,
    /// See [`State::Failed`].
    pub failed: usize,
}

impl Counts {
    /// Returns the sum.
    pub fn total(&self) -> usize {
        self.ready + self.waiting + self.leased + self.failed
    }
}

/// Chooses deliveries: those that match everything that is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this message.
    pub message: Option<MessageKey>,
    /// Of this application.
    pub app: Option<App>,
    /// To this destination.
    pub destination: Option<Destination>,
    /// In this lane.
    pub lane: Option<Lane>,
    /// In this state.
    pub state: Option<State>,
}

/// One delivery as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which delivery.
    pub id: DeliveryId,
    /// Of which message.
    pub message: MessageKey,
    /// To where.
    pub destination: Destination,
    /// Whose message.
    pub app: App,
    /// In which lane.
    pub lane: Lane,
    /// Where it is.
    pub state: State,
    /// Its application is frozen.
    pub frozen: bool,
    /// Who has still to get it.
    pub recipients: Recipients,
    /// When the message was accepted.
    pub accepted_ms: u64,
    /// The next attempt, where it waits for one; else the last one planned.
    pub due_ms: u64,
    /// When it fails; `None` while frozen.
    pub expires_ms: Option<u64>,
    /// Attempts made, with the one under way.
    pub attempts: u16,
}

/// Where [`Queue::list`] goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(usize);

/// [`Counts`] as they are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally([u32; 4]);

impl Tally {
    pub(super) fn add(&mut self, state: State) {
        self.0[place(state)] += 1;
    }

    pub(super) fn remove(&mut self, state: State) {
        self.0[place(state)] -= 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    fn counts(&self) -> Counts {
        let [ready, waiting, leased, failed] = self.0.map(|count| count as usize);
        Counts { ready, waiting, leased, failed }
    }
}

fn place(state: State) -> usize {
    match state {
        State::Ready => 0,
        State::Waiting => 1,
        State::Leased => 2,
        State::Failed(_) => 3,
    }
}

impl Queue {
    /// Counts the deliveries of a lane.
    pub fn counts(&self, lane: Lane) -> Counts {
        self.tallies[lane.index()].counts()
    }

    /// Counts the deliveries of an application.
    pub fn counts_of_app(&self, app: App) -> Counts {
        self.apps.get(&app).map(|record| record.tally.counts()).unwrap_or_default()
    }

    /// Counts the deliveries to a destination.
    pub fn counts_to(&self, destination: Destination) -> Counts {
        let site = self.site_of.get(&destination).map(|&site| &self.sites[site as usize]);
        site.map(|site| site.tally.counts()).unwrap_or_default()
    }

    /// Returns the applications that have deliveries or are frozen, in no order.
    pub fn apps(&self) -> impl Iterator<Item = (App, Counts)> {
        self.apps.iter().map(|(&app, record)| (app, record.tally.counts()))
    }

    /// Returns the destinations that have deliveries or are paused, in no order.
    pub fn destinations(&self) -> impl Iterator<Item = (Destination, Counts)> {
        self.sites.iter().map(|(_, site)| (site.destination, site.tally.counts()))
    }

    /// Returns the destinations that can be leased to, not paused: first those with urgent mail,
    /// then those with normal, then those with bulk mail only. Lazy: take as many as are needed.
    pub fn ready_destinations(&self) -> impl Iterator<Item = Destination> {
        LANES.into_iter().flat_map(move |lane| {
            let more_urgent = 0..lane.index();
            let link = match lane {
                Lane::Urgent => |site: &super::schedule::Site| site.in_lane[0],
                Lane::Normal => |site: &super::schedule::Site| site.in_lane[1],
                Lane::Bulk => |site: &super::schedule::Site| site.in_lane[2],
            };
            self.ready_sites[lane.index()]
                .iter(&self.sites, link)
                .map(|site| &self.sites[site as usize])
                .filter(move |site| {
                    site.flows[more_urgent.clone()].iter().all(|flows| flows.is_empty())
                })
                .map(|site| site.destination)
        })
    }

    /// Returns the lane that [`Queue::lease`] would serve next for a destination; `None` if nothing
    /// can be leased to it.
    pub fn next_ready(&self, destination: Destination) -> Option<Lane> {
        let &site = self.site_of.get(&destination)?;
        self.sites[site as usize].next_lane()
    }

    /// Returns until when a destination is paused.
    pub fn paused_until_ms(&self, destination: Destination) -> Option<u64> {
        let &site = self.site_of.get(&destination)?;
        self.sites[site as usize].paused_until_ms
    }

    /// Returns when the first added delivery of a lane that has not ended was accepted.
    pub fn oldest_accepted_ms(&self, lane: Lane) -> Option<u64> {
        let oldest = self.by_age[lane.index()].first()?;
        Some(self.deliveries[oldest as usize].accepted_ms)
    }

    /// Shows one delivery; `None` if it has ended.
    pub fn view(&self, id: DeliveryId) -> Option<View> {
        let delivery = self.deliveries.get(id.index as usize)?;
        (delivery.serial == id.serial).then(|| self.view_of(id.index, delivery))
    }

    /// Lists up to `limit` deliveries that match, from `cursor` on; returns where to go on, if
    /// there may be more.
    ///
    /// Looks at no more than [`SCAN_MAX`] deliveries a call, so that a shard can list a long queue
    /// between other work; it may thus return fewer than there are.
    pub fn list(
        &self,
        filter: &Filter,
        cursor: Cursor,
        limit: usize,
    ) -> (Vec<View>, Option<Cursor>) {
        if let Some(message) = filter.message {
            let siblings = self.siblings(message);
            let views = siblings.into_iter().filter(|&index| self.matches(filter, index));
            let views = views.skip(cursor.0).take(limit);
            let views: Vec<_> =
                views.map(|index| self.view_of(index, &self.deliveries[index as usize])).collect();
            let next = (views.len() == limit).then(|| Cursor(cursor.0 + limit));
            return (views, next);
        }
        let mut views = Vec::new();
        let end = self.deliveries.capacity();
        let scan_end = end.min(cursor.0.saturating_add(SCAN_MAX));
        for at in cursor.0..scan_end {
            if views.len() == limit {
                return (views, Some(Cursor(at)));
            }
            let Ok(index) = u32::try_from(at) else { break };
            if self.matches(filter, index) {
                views.push(self.view_of(index, &self.deliveries[at]));
            }
        }
        (views, (scan_end < end).then_some(Cursor(scan_end)))
    }

    /// Returns about how much memory the queue holds, without shared recipient lists.
    pub fn memory_bytes(&self) -> usize {
        // A hash table keeps one control byte an entry and fills 7/8 of its places.
        let map = |capacity: usize, entry_bytes: usize| capacity * (entry_bytes + 1) * 8 / 7;
        self.deliveries.capacity() * size_of::<Option<Delivery>>()
            + self.timers.capacity_bytes()
            + map(self.messages.capacity(), size_of::<(MessageKey, List)>())
            + self.sites.capacity() * size_of::<super::schedule::Site>()
            + map(self.site_of.capacity(), size_of::<(Destination, u32)>())
            + self.flow_bytes()
    }

    /// The indexes of all deliveries that match.
    pub(super) fn matching(&self, filter: &Filter) -> Vec<u32> {
        if let Some(message) = filter.message {
            let mut siblings = self.siblings(message);
            siblings.retain(|&index| self.matches(filter, index));
            return siblings;
        }
        let indexes = self.deliveries.iter().filter_map(|(index, _)| u32::try_from(index).ok());
        indexes.filter(|&index| self.matches(filter, index)).collect()
    }

    fn siblings(&self, message: MessageKey) -> Vec<u32> {
        let siblings = self.messages.get(&message).copied().unwrap_or_default();
        siblings.iter(&self.deliveries, |delivery| delivery.in_message).collect()
    }

    fn matches(&self, filter: &Filter, index: u32) -> bool {
        let Some(delivery) = self.deliveries.get(index as usize) else { return false };
        let destination = self.sites[delivery.site as usize].destination;
        filter.message.is_none_or(|message| message == delivery.message)
            && filter.app.is_none_or(|app| app == delivery.app)
            && filter.destination.is_none_or(|wanted| wanted == destination)
            && filter.lane.is_none_or(|lane| lane == delivery.lane)
            && filter.state.is_none_or(|state| state == delivery.state)
    }

    fn view_of(&self, index: u32, delivery: &Delivery) -> View {
        View {
            id: self.id(index),
            message: delivery.message,
            destination: self.sites[delivery.site as usize].destination,
            app: delivery.app,
            lane: delivery.lane,
            state: delivery.state,
            frozen: self.is_frozen(delivery.app),
            recipients: delivery.recipients.clone(),
            accepted_ms: delivery.accepted_ms,
            due_ms: delivery.due_ms,
            expires_ms: self.expiry_ms(index),
            attempts: delivery.attempts,
        }
    }
}

/// Deliveries one [`Queue::list`] looks at: under 1 ms.
pub const SCAN_MAX: usize = 16_384;

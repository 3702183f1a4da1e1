//! What an operator sees of a shard's queue, and does to it.

use std::collections::BTreeMap;

use super::progress::Standing;
use super::{Dispatch, Message};
use crate::event::Level;
use crate::order::{Filter, Listed, Shown, ShownRecipient};
use crate::queue::{self, Cursor, LANES, MessageKey, State, View};
use crate::spool::MessageId;

impl Dispatch {
    /// Queued deliveries by lane.
    pub fn queued(&self) -> BTreeMap<String, u64> {
        let queue = self.queue.borrow();
        let count = |lane| queue.counts(lane).total() as u64;
        LANES.into_iter().map(|lane| (lane.as_str().to_owned(), count(lane))).collect()
    }

    /// Deliveries that match, up to `limit`.
    pub fn list(&self, filter: &Filter, limit: usize) -> Vec<Listed> {
        let views = self.matching(filter, limit);
        views.iter().filter_map(|view| self.listed(view)).collect()
    }

    /// One message with its recipients.
    pub fn show(&self, id: MessageId) -> Option<Shown> {
        let messages = self.messages.borrow();
        let Message { meta, progress, .. } = messages.get(&id)?;
        let recipients = meta.recipients.iter().zip(&progress.recipients);
        Some(Shown {
            id: id.to_string(),
            shard: self.index,
            app: meta.app.to_string(),
            lane: super::lane_of(meta.lane).as_str().to_owned(),
            reverse_path: meta.reverse_path.to_string(),
            received_ms: meta.received_ms,
            bytes: meta.content_bytes,
            recipients: recipients
                .map(|(recipient, line)| ShownRecipient {
                    path: recipient.path.to_string(),
                    state: line.standing.name().to_owned(),
                    last: line.last.as_deref().map(str::to_owned),
                })
                .collect(),
        })
    }

    /// Makes matching deliveries due now, failed ones too. Returns how many.
    pub fn retry(&self, filter: &Filter) -> usize {
        let now_ms = self.clock.now_ms();
        let mut retried = 0;
        for view in self.matching(filter, usize::MAX) {
            if let State::Failed(_) = view.state {
                self.reopen(&view);
            }
            let this = queue::Filter {
                message: Some(view.message),
                destination: Some(view.destination),
                state: Some(view.state),
                ..queue::Filter::default()
            };
            let mut queue = self.queue.borrow_mut();
            retried += queue.retry_now(now_ms, &this);
            queue.resume(view.destination);
        }
        self.wake.notify_one();
        retried
    }

    /// Recipients that had failed wait again.
    fn reopen(&self, view: &View) {
        let id = MessageId::from_u128(view.message.0);
        let mut messages = self.messages.borrow_mut();
        let Some(message) = messages.get_mut(&id) else { return };
        for &recipient in view.recipients.as_slice() {
            let index = usize::from(recipient);
            let last = message.progress.recipients[index].last.take().unwrap_or_default();
            message.progress.set(index, Standing::Queued, &last);
        }
        message.progress.due_ms = 0;
        self.spool.note(id, message.progress.encode());
    }

    /// Forgets matching messages for good, the deliveries that do not match included. Returns how
    /// many messages, once no crash can bring them back.
    pub async fn discard(&self, filter: &Filter) -> usize {
        let mut ids: Vec<_> =
            self.matching(filter, usize::MAX).iter().map(|view| view.message).collect();
        ids.sort_unstable();
        ids.dedup();
        for &key in &ids {
            let id = MessageId::from_u128(key.0);
            self.queue.borrow_mut().drop_message(key);
            self.messages.borrow_mut().remove(&id);
            self.log.notice(Level::Warn, format!("message {id} dropped by the operator"));
        }
        let ids: Vec<_> = ids.into_iter().map(|key| MessageId::from_u128(key.0)).collect();
        if let Err(error) = self.spool.settle_all_durable(&ids).await {
            let text = format!("dropped mail may come back after a crash: {error}");
            self.log.notice(Level::Error, text);
        }
        ids.len()
    }

    fn matching(&self, filter: &Filter, limit: usize) -> Vec<View> {
        let Some(by_queue) = self.queue_filter(filter) else { return Vec::new() };
        let queue = self.queue.borrow();
        let mut found = Vec::new();
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let (views, next) = queue.list(&by_queue, at, LISTED_AT_ONCE);
            found.extend(views.into_iter().filter(|view| self.is_meant(filter, view)));
            cursor = next.filter(|_| found.len() < limit);
        }
        found.truncate(limit);
        found
    }

    /// The part of a filter that the queue understands; none where nothing can match.
    fn queue_filter(&self, filter: &Filter) -> Option<queue::Filter> {
        let message = match &filter.id {
            None => None,
            Some(id) => Some(MessageKey(id.parse::<MessageId>().ok()?.as_u128())),
        };
        let app = match &filter.app {
            None => None,
            Some(app) => Some(self.names.borrow().known_app(app)?),
        };
        let lane = match &filter.lane {
            None => None,
            Some(name) => Some(LANES.into_iter().find(|lane| lane.as_str() == name)?),
        };
        Some(queue::Filter { message, app, lane, ..queue::Filter::default() })
    }

    fn is_meant(&self, filter: &Filter, view: &View) -> bool {
        let has_domain = |domain: &String| {
            self.domain_of(view).is_some_and(|found| found.eq_ignore_ascii_case(domain))
        };
        filter.state.as_ref().is_none_or(|state| state == self.state_of(view))
            && filter.domain.as_ref().is_none_or(has_domain)
    }

    fn state_of(&self, view: &View) -> &'static str {
        match view.state {
            State::Failed(_) => "failed",
            State::Leased => "leased",
            _ if view.frozen => "frozen",
            _ if self.setup.borrow().hold => "held",
            State::Waiting => "deferred",
            State::Ready => "ready",
        }
    }

    fn domain_of(&self, view: &View) -> Option<String> {
        let messages = self.messages.borrow();
        let message = messages.get(&MessageId::from_u128(view.message.0))?;
        let first = view.recipients.as_slice().first()?;
        Some(message.meta.recipients.get(usize::from(*first))?.domain().to_owned())
    }

    fn listed(&self, view: &View) -> Option<Listed> {
        let id = MessageId::from_u128(view.message.0);
        let now_ms = self.clock.now_ms();
        let domain = self.domain_of(view)?;
        let messages = self.messages.borrow();
        let message = messages.get(&id)?;
        let lines = view.recipients.as_slice().iter();
        let last = lines
            .filter_map(|&index| message.progress.recipients.get(usize::from(index)))
            .find_map(|line| line.last.as_deref().map(str::to_owned));
        Some(Listed {
            id: id.to_string(),
            shard: self.index,
            app: message.app.to_string(),
            lane: view.lane.as_str().to_owned(),
            state: self.state_of(view).to_owned(),
            domain,
            recipients: view.recipients.as_slice().len(),
            attempts: u32::from(view.attempts),
            age_s: now_ms.saturating_sub(view.accepted_ms) / 1_000,
            due_in_s: (view.state == State::Waiting)
                .then(|| view.due_ms.saturating_sub(now_ms).div_ceil(1_000)),
            last,
        })
    }
}

const LISTED_AT_ONCE: usize = 1_024;

//! The sessions that are open on one shard, so that an order can reach them.
//!
//! A seat is taken per session and given back when it is dropped. An order waits in the seat until
//! the session looks, which it does whenever it waits for bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;
use tokio::sync::Notify;

/// What a session is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionOrder {
    /// Its application is cut off.
    Cut,
    /// The relay is shutting down.
    Drain,
}

/// All open sessions of one shard.
#[derive(Debug, Default)]
pub(super) struct Roster {
    seats: Rc<RefCell<Slab<Rc<Seat>>>>,
}

#[derive(Debug, Default)]
struct Seat {
    app: RefCell<Option<Arc<str>>>,
    order: Cell<Option<SessionOrder>>,
    wake: Notify,
}

/// One session's place; clones share it, and the last one to go frees it.
#[derive(Debug, Clone)]
pub(super) struct SessionSeat {
    taken: Rc<Taken>,
}

#[derive(Debug)]
struct Taken {
    seats: Rc<RefCell<Slab<Rc<Seat>>>>,
    seat: Rc<Seat>,
    key: usize,
}

impl Roster {
    /// Takes a seat for a new session.
    pub(super) fn sit(&self) -> SessionSeat {
        let seat = Rc::new(Seat::default());
        let key = self.seats.borrow_mut().insert(Rc::clone(&seat));
        SessionSeat { taken: Rc::new(Taken { seats: Rc::clone(&self.seats), seat, key }) }
    }

    /// Tells the sessions of one application; returns how many there are.
    pub(super) fn tell_app(&self, app: &str, order: SessionOrder) -> usize {
        self.tell(order, |seat| seat.app.borrow().as_deref() == Some(app))
    }

    /// Tells every session; returns how many there are.
    pub(super) fn tell_all(&self, order: SessionOrder) -> usize {
        self.tell(order, |_| true)
    }

    /// Open sessions.
    pub(super) fn len(&self) -> usize {
        self.seats.borrow().len()
    }

    fn tell(&self, order: SessionOrder, is_meant: impl Fn(&Seat) -> bool) -> usize {
        let seats = self.seats.borrow();
        let meant = seats.iter().map(|(_, seat)| seat).filter(|seat| is_meant(seat));
        meant
            .map(|seat| {
                seat.order.set(Some(order));
                seat.wake.notify_one();
            })
            .count()
    }
}

impl SessionSeat {
    /// The session has an identity from now on.
    pub(super) fn belongs_to(&self, app: Arc<str>) {
        self.taken.seat.app.replace(Some(app));
    }

    /// Waits for an order. Cancel-safe.
    pub(super) async fn order(&self) -> SessionOrder {
        loop {
            if let Some(order) = self.taken.seat.order.take() {
                return order;
            }
            self.taken.seat.wake.notified().await;
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.seats.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_reaches_the_sessions_of_one_application() {
        let roster = Roster::default();
        let (mine, other) = (roster.sit(), roster.sit());
        mine.belongs_to("a".into());
        other.belongs_to("b".into());
        assert_eq!(roster.tell_app("a", SessionOrder::Cut), 1);
        assert_eq!(mine.order().await, SessionOrder::Cut);
        assert_eq!(roster.tell_all(SessionOrder::Drain), 2);
        assert_eq!(other.order().await, SessionOrder::Drain);
        drop(mine);
        assert_eq!(roster.len(), 1);
    }
}

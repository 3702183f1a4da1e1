//! One behaviour a test.

use super::*;

#[test]
fn lanes_go_by_weight_and_none_starves() {
    let mut queue = Queue::new(options());
    for message in 0..300 {
        let lane = LANES[usize::try_from(message % 3).expect("is small")];
        queue.add(0, delivery(message, 1, 1, lane));
    }
    let order = drain(&mut queue, 0, Pick::Any);
    let urgent_in_first_111 = order[..111].iter().filter(|&&message| message % 3 == 0).count();
    let bulk_in_first_111 = order[..111].iter().filter(|&&message| message % 3 == 2).count();
    assert_eq!((order[0], urgent_in_first_111, bulk_in_first_111), (0, 100, 1));
    assert_eq!(order.len(), 300);
}

#[test]
fn an_urgent_delivery_overtakes_what_waits() {
    let mut queue = Queue::new(options());
    for message in 0..200 {
        queue.add(0, delivery(message, 1, 1, Lane::Bulk));
    }
    for _ in 0..10 {
        let lease = queue.lease(0, Pick::To(Destination(1))).expect("bulk is ready");
        queue.settle(0, lease, |_| Outcome::Done);
    }
    queue.add(0, delivery(999, 1, 2, Lane::Urgent));
    assert_eq!(queue.next_ready(Destination(1)), Some(Lane::Urgent));
    let lease = queue.lease(0, Pick::To(Destination(1))).expect("urgent is ready");
    assert_eq!(lease.message, MessageKey(999));
    queue.release(0, lease);
}

#[test]
fn destinations_and_applications_take_turns() {
    let mut queue = Queue::new(options());
    for message in 0..6 {
        queue.add(0, delivery(message, 1, 1, Lane::Normal));
    }
    queue.add(0, delivery(10, 1, 2, Lane::Normal));
    queue.add(0, delivery(20, 2, 1, Lane::Normal));
    assert_eq!(drain(&mut queue, 0, Pick::Any), [0, 20, 10, 1, 2, 3, 4, 5]);
}

#[test]
fn backoff_counts_from_the_settlement() {
    let mut queue = Queue::new(options());
    queue.add(0, delivery(1, 1, 1, Lane::Bulk));
    let mut now_ms = 0;
    for (attempt, delay_ms) in [(1, 1_000), (2, 2_000), (3, 4_000), (4, 8_000)] {
        queue.advance(now_ms);
        let lease = queue.lease(now_ms, Pick::Any).expect("is due");
        assert_eq!(lease.attempt, attempt);
        let took_ms = 500;
        let settled = queue.settle(now_ms + took_ms, lease, retry);
        let due_ms = now_ms + took_ms + delay_ms;
        assert_eq!(settled.retry.map(|(_, due_ms)| due_ms), Some(due_ms));
        assert_eq!(queue.next_due_ms(), Some(due_ms));
        queue.advance(due_ms - 1);
        assert_eq!(queue.lease(due_ms - 1, Pick::Any), None);
        now_ms = due_ms;
    }
}

#[test]
fn a_reply_can_ask_for_a_longer_delay() {
    let mut queue = Queue::new(options());
    queue.add(0, delivery(1, 1, 1, Lane::Bulk));
    let lease = queue.lease(0, Pick::Any).expect("is ready");
    let settled = queue.settle(0, lease, |_| Outcome::Retry { after_ms: 9_000 });
    assert_eq!(settled.retry.map(|(_, due_ms)| due_ms), Some(9_000));
}

#[test]
fn attempts_and_due_time_survive_a_restart() {
    let mut queue = Queue::new(options());
    let recovered = NewDelivery { attempts: 3, due_ms: 700, ..delivery(1, 1, 1, Lane::Bulk) };
    queue.add(500, recovered);
    assert_eq!(queue.lease(500, Pick::Any), None);
    queue.advance(700);
    let lease = queue.lease(700, Pick::Any).expect("is due");
    assert_eq!(lease.attempt, 4);
    let settled = queue.settle(700, lease, retry);
    assert_eq!(settled.retry.map(|(_, due_ms)| due_ms), Some(8_700));
}

#[test]
fn recipients_of_one_transaction_part_ways() {
    let mut queue = Queue::new(options());
    let recipients = Recipients::from(&[0, 1, 2, 5][..]);
    queue.add(0, NewDelivery { recipients, ..delivery(1, 1, 1, Lane::Normal) });
    let lease = queue.lease(0, Pick::Any).expect("is ready");
    let settled = queue.settle(0, lease, |recipient| match recipient {
        0 => Outcome::Done,
        1 => Outcome::Failed,
        _ => Outcome::Retry { after_ms: 0 },
    });
    assert_eq!((settled.done, settled.message_is_gone), (1, false));
    let failed = settled.failed.and_then(|id| queue.view(id)).expect("one failed");
    assert_eq!(failed.recipients.as_slice(), [1]);
    assert_eq!(failed.state, State::Failed(FailReason::Refused));
    let (again, due_ms) = settled.retry.expect("two are tried again");
    assert_eq!(queue.view(again).expect("waits").recipients.as_slice(), [2, 5]);

    queue.advance(due_ms);
    let lease = queue.lease(due_ms, Pick::Any).expect("is due");
    let settled = queue.settle(due_ms, lease, |_| Outcome::Done);
    assert!(!settled.message_is_gone, "the failed recipient is still shown");
    assert_eq!(queue.counts(Lane::Normal), Counts { failed: 1, ..Counts::default() });
    assert_eq!(queue.drop_message(MessageKey(1)), 1);
    assert!(!queue.holds(MessageKey(1)));
}

#[test]
fn the_last_delivery_frees_the_message() {
    let mut queue = Queue::new(options());
    for destination in [1, 2] {
        queue.add(0, delivery(1, destination, 1, Lane::Normal));
    }
    let one = queue.lease(0, Pick::To(Destination(1))).expect("is ready");
    let two = queue.lease(0, Pick::To(Destination(2))).expect("is ready");
    assert!(!queue.settle(0, one, |_| Outcome::Done).message_is_gone);
    assert!(queue.settle(0, two, |_| Outcome::Done).message_is_gone);
    assert_eq!(queue.next_due_ms(), None, "nothing is left behind");
}

#[test]
fn a_refused_delivery_stays_visible_and_can_be_tried_again() {
    let mut queue = Queue::new(options());
    queue.add(0, delivery(1, 1, 1, Lane::Urgent));
    let lease = queue.lease(0, Pick::Any).expect("is ready");
    let settled = queue.settle(0, lease, |_| Outcome::Failed);
    assert!(!settled.message_is_gone);
    assert_eq!(queue.oldest_accepted_ms(Lane::Urgent), None);
    let much_later_ms = 100 * MINUTE_MS;
    queue.advance(much_later_ms);
    assert_eq!(queue.poll_expired(), None, "it has failed already");
    let failed = Filter { state: Some(State::Failed(FailReason::Refused)), ..Filter::default() };
    assert_eq!(queue.retry_now(much_later_ms, &failed), 1);
    let lease = queue.lease(much_later_ms, Pick::Any).expect("is young again");
    assert_eq!(lease.attempt, 1);
    assert!(queue.settle(much_later_ms, lease, |_| Outcome::Done).message_is_gone);
}

#[test]
fn each_lane_has_its_age() {
    for (lane, expiry_ms) in LANES.into_iter().zip([5, 60, 600].map(|age| age * MINUTE_MS)) {
        let mut queue = Queue::new(options());
        let id = queue.add(0, delivery(1, 1, 1, lane));
        queue.advance(expiry_ms - 1);
        assert_eq!(queue.poll_expired(), None);
        assert_eq!(queue.next_due_ms(), Some(expiry_ms));
        queue.advance(expiry_ms);
        assert_eq!(queue.poll_expired(), Some(id));
        assert_eq!(queue.poll_expired(), None);
        assert_eq!(queue.lease(expiry_ms, Pick::Any), None);
        assert_eq!(queue.next_due_ms(), None);
        let view = queue.view(id).expect("is kept");
        assert_eq!(view.state, State::Failed(FailReason::Expired));
    }
}

#[test]
fn a_login_code_fails_with_its_lifetime_even_if_nobody_advanced() {
    let mut queue = Queue::new(options());
    let code = NewDelivery { expires_ms: Some(30_000), ..delivery(1, 1, 1, Lane::Urgent) };
    let id = queue.add(0, code);
    queue.add(0, delivery(2, 1, 1, Lane::Urgent));
    let lease = queue.lease(30_000, Pick::Any).expect("the other one is ready");
    assert_eq!(lease.message, MessageKey(2));
    assert_eq!(queue.poll_expired(), Some(id));
    queue.release(30_000, lease);
}

#[test]
fn a_delivery_that_would_be_tried_too_late_fails_in_time() {
    let mut queue = Queue::new(options());
    let id = queue.add(0, delivery(1, 1, 1, Lane::Urgent));
    let lease = queue.lease(0, Pick::Any).expect("is ready");
    queue.settle(0, lease, |_| Outcome::Retry { after_ms: 6 * MINUTE_MS });
    assert_eq!(queue.next_due_ms(), Some(5 * MINUTE_MS));
    queue.advance(5 * MINUTE_MS);
    assert_eq!(queue.poll_expired(), Some(id));
}

#[test]
fn frozen_mail_is_kept_in_order_and_does_not_age() {
    let mut queue = Queue::new(options());
    for message in 0..3 {
        queue.add(0, delivery(message, 1, 1, Lane::Urgent));
    }
    queue.add(0, delivery(10, 1, 2, Lane::Urgent));
    queue.freeze(MINUTE_MS, App(1));
    queue.freeze(2 * MINUTE_MS, App(1));
    let late = NewDelivery { accepted_ms: 2 * MINUTE_MS, ..delivery(3, 1, 1, Lane::Urgent) };
    queue.add(2 * MINUTE_MS, late);
    assert!(queue.is_frozen(App(1)));
    assert_eq!(drain(&mut queue, 2 * MINUTE_MS, Pick::Any), [10]);
    assert_eq!(queue.next_ready(Destination(1)), None);
    assert_eq!(queue.ready_destinations().count(), 0);

    let day_ms = 24 * 60 * MINUTE_MS;
    let mut now_ms = 2 * MINUTE_MS;
    while let Some(due_ms) = queue.next_due_ms().filter(|&due_ms| due_ms < day_ms) {
        now_ms = due_ms;
        queue.advance(now_ms);
    }
    assert!(now_ms > day_ms - 60 * MINUTE_MS, "the queue looks at it now and then");
    assert_eq!(queue.poll_expired(), None);
    assert_eq!(queue.counts_of_app(App(1)), Counts { ready: 4, ..Counts::default() });

    queue.thaw(day_ms, App(1));
    // One minute of five had passed when it was frozen.
    assert_eq!(drain(&mut queue, day_ms + 4 * MINUTE_MS - 1, Pick::Any), [0, 1, 2, 3]);
}

#[test]
fn thawed_mail_goes_on_ageing() {
    let mut queue = Queue::new(options());
    let id = queue.add(0, delivery(1, 1, 1, Lane::Urgent));
    queue.freeze(MINUTE_MS, App(1));
    queue.thaw(10 * MINUTE_MS, App(1));
    let expires_ms = queue.view(id).and_then(|view| view.expires_ms);
    assert_eq!(expires_ms, Some(14 * MINUTE_MS));
    assert_eq!(queue.lease(14 * MINUTE_MS, Pick::Any), None);
    assert_eq!(queue.poll_expired(), Some(id));
}

#[test]
fn what_is_under_way_when_its_application_is_frozen_is_kept() {
    let mut queue = Queue::new(options());
    queue.add(0, delivery(1, 1, 1, Lane::Normal));
    let lease = queue.lease(0, Pick::Any).expect("is ready");
    queue.freeze(0, App(1));
    let (id, due_ms) = queue.settle(0, lease, retry).retry.expect("is tried again");
    queue.advance(due_ms);
    assert_eq!(queue.lease(due_ms, Pick::Any), None);
    assert_eq!(queue.lease(due_ms, Pick::To(Destination(1))), None);
    assert!(queue.view(id).expect("is kept").frozen);
    queue.thaw(due_ms, App(1));
    assert_eq!(drain(&mut queue, due_ms, Pick::Any), [1]);
}

#[test]
fn an_application_without_mail_can_be_frozen_first() {
    let mut queue = Queue::new(options());
    queue.thaw(0, App(7));
    queue.freeze(0, App(7));
    queue.add(0, delivery(1, 1, 7, Lane::Normal));
    assert_eq!(queue.lease(0, Pick::Any), None);
    queue.thaw(1, App(7));
    assert_eq!(drain(&mut queue, 1, Pick::Any), [1]);
    assert_eq!(queue.apps().count(), 0, "an idle application is forgotten");
    assert_eq!(queue.destinations().count(), 0, "and so is an idle destination");
}

#[test]
fn a_paused_destination_costs_the_others_nothing() {
    let mut queue = Queue::new(options());
    for message in 0..4 {
        queue.add(0, delivery(message, u32::try_from(message % 2).expect("small"), 1, Lane::Bulk));
    }
    queue.pause(Destination(0), 5_000);
    queue.pause(Destination(0), 3_000);
    queue.pause(Destination(9), 2_000);
    assert_eq!(queue.ready_destinations().collect::<Vec<_>>(), [Destination(1)]);
    assert_eq!(drain(&mut queue, 0, Pick::Any), [1, 3]);
    assert_eq!(queue.paused_until_ms(Destination(0)), Some(3_000));
    assert_eq!(queue.next_due_ms(), Some(2_000));
    queue.advance(2_999);
    assert_eq!(queue.lease(2_999, Pick::Any), None);
    let probe = queue.lease(2_999, Pick::To(Destination(0))).expect("the caller may probe it");
    queue.release(2_999, probe);
    queue.advance(3_000);
    assert_eq!(drain(&mut queue, 3_000, Pick::Any), [0, 2]);
}

#[test]
fn ready_destinations_come_most_urgent_first_and_once() {
    let mut queue = Queue::new(options());
    for (message, destination, lane) in [
        (1, 1, Lane::Bulk),
        (2, 2, Lane::Normal),
        (3, 2, Lane::Bulk),
        (4, 3, Lane::Urgent),
        (5, 3, Lane::Bulk),
    ] {
        queue.add(0, delivery(message, destination, 1, lane));
    }
    let order: Vec<_> = queue.ready_destinations().map(|destination| destination.0).collect();
    assert_eq!(order, [3, 2, 1]);
}

#[test]
fn a_released_lease_comes_first_and_costs_no_attempt() {
    let mut queue = Queue::new(options());
    for message in 0..2 {
        queue.add(0, delivery(message, 1, 1, Lane::Normal));
    }
    let lease = queue.lease(0, Pick::Any).expect("is ready");
    queue.release(0, lease);
    let lease = queue.lease(0, Pick::Any).expect("is ready again");
    assert_eq!((lease.message, lease.attempt), (MessageKey(0), 1));
    queue.release(0, lease);
}

#[test]
fn dropping_reaches_what_is_under_way() {
    let mut queue = Queue::new(options());
    for destination in 0..3 {
        queue.add(0, delivery(1, destination, 1, Lane::Normal));
    }
    let tried = queue.lease(0, Pick::To(Destination(0))).expect("is ready");
    let unused = queue.lease(0, Pick::To(Destination(1))).expect("is ready");
    assert_eq!(queue.drop_message(MessageKey(1)), 3);
    assert_eq!(queue.drop_message(MessageKey(1)), 0, "once");
    assert_eq!(queue.counts(Lane::Normal), Counts { leased: 2, ..Counts::default() });
    assert!(!queue.settle(0, tried, retry).message_is_gone);
    queue.release(0, unused);
    assert!(!queue.holds(MessageKey(1)));
    assert_eq!(queue.counts(Lane::Normal), Counts::default());
    assert_eq!(queue.next_due_ms(), None);
}

#[test]
fn retry_now_goes_by_its_filter() {
    let mut queue = Queue::new(options());
    for message in 0..4 {
        queue.add(0, delivery(message, u32::try_from(message % 2).expect("small"), 1, Lane::Bulk));
    }
    while let Some(lease) = queue.lease(0, Pick::Any) {
        queue.settle(0, lease, retry);
    }
    let to_one = Filter { destination: Some(Destination(1)), ..Filter::default() };
    assert_eq!(queue.retry_now(1, &to_one), 2);
    assert_eq!(queue.retry_now(1, &to_one), 0, "they are ready");
    assert_eq!(drain(&mut queue, 1, Pick::Any), [1, 3]);
    assert_eq!(
        queue.retry_now(1, &Filter { message: Some(MessageKey(2)), ..Filter::default() }),
        1
    );
    assert_eq!(drain(&mut queue, 1, Pick::Any), [2]);
    assert_eq!(queue.counts_to(Destination(0)), Counts { waiting: 1, ..Counts::default() });
}

#[test]
fn lists_go_in_pages() {
    let mut queue = Queue::new(options());
    for message in 0..10 {
        queue.add(0, delivery(message, 1, u32::try_from(message % 2).expect("small"), Lane::Bulk));
        queue.add(0, delivery(99, 1, 1, Lane::Normal));
    }
    let odd = Filter { app: Some(App(1)), lane: Some(Lane::Bulk), ..Filter::default() };
    assert_eq!(pages(&queue, &odd, 2), [1, 3, 5, 7, 9]);
    assert_eq!(pages(&queue, &odd, 100), [1, 3, 5, 7, 9]);
    let one = Filter { message: Some(MessageKey(99)), ..Filter::default() };
    assert_eq!(pages(&queue, &one, 3).len(), 10);
    assert_eq!(pages(&Queue::new(options()), &one, 3).len(), 0);
}

fn pages(queue: &Queue, filter: &Filter, limit: usize) -> Vec<u128> {
    let mut messages = Vec::new();
    let mut cursor = Some(Cursor::default());
    while let Some(from) = cursor {
        let (views, next) = queue.list(filter, from, limit);
        assert!(views.len() <= limit);
        messages.extend(views.into_iter().map(|view| view.message.0));
        cursor = next;
    }
    messages
}

#[test]
fn an_old_id_does_not_show_a_new_delivery() {
    let mut queue = Queue::new(options());
    let old = queue.add(0, delivery(1, 1, 1, Lane::Bulk));
    drain(&mut queue, 0, Pick::Any);
    let new = queue.add(0, delivery(2, 1, 1, Lane::Bulk));
    assert_eq!(queue.view(old), None);
    assert_eq!(queue.view(new).map(|view| view.message), Some(MessageKey(2)));
}

#[test]
fn many_due_at_once_are_handled_in_slices() {
    let mut queue = Queue::new(options());
    let count = ADVANCE_MAX * 2 + 10;
    for message in 0..count {
        let message = u128::try_from(message).expect("fits");
        queue.add(0, NewDelivery { due_ms: 1_000, ..delivery(message, 1, 1, Lane::Bulk) });
    }
    for ready in [ADVANCE_MAX, 2 * ADVANCE_MAX, count] {
        assert!(queue.next_due_ms() <= Some(1_000));
        queue.advance(1_000);
        assert_eq!(queue.counts(Lane::Bulk).ready, ready);
    }
    assert!(queue.next_due_ms() > Some(1_000));
}

#[test]
fn room_counts_down() {
    let mut queue = Queue::new(QueueOptions { deliveries_max: 2, ..options() });
    assert_eq!(queue.room(), 2);
    for message in 0..3 {
        queue.add(0, delivery(message, 1, 1, Lane::Bulk));
    }
    assert_eq!(queue.room(), 0, "a durable message is never refused");
}

#[test]
fn a_delivery_is_small() {
    let mut queue = Queue::new(options());
    let count = 1u32 << 17;
    for message in 0..count {
        queue.add(0, delivery(message.into(), message % 1_000, message % 50, Lane::Bulk));
    }
    let each = queue.memory_bytes() / count as usize;
    assert!(each <= 220, "{each} bytes");
}

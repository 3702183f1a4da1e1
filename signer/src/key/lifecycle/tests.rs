//! Single steps of a line, and what refuses them.

use super::*;

const DAY_S: u64 = 86_400;

fn plan() -> Plan {
    Plan {
        rotate_every_s: 182 * DAY_S,
        jitter_permille: 100,
        standby_for_s: 3_600,
        drain_for_s: 14 * DAY_S,
        emergency_drain_for_s: 3_600,
        resolvers_min: 2,
        look_every_s: 3_600,
        selector_prefix: "p".parse().expect("is a selector"),
        selectors: None,
    }
}

fn record(number: u64) -> String {
    format!("v=DKIM1; k=rsa; p=key{number}")
}

fn seen(expected: &str) -> Looked {
    Looked {
        expected: expected.to_owned(),
        authoritative: (2, 2),
        resolvers: (2, 2),
        ttl_s_max: 300,
        ..Looked::default()
    }
}

fn selector(number: u64) -> Selector {
    format!("p{number}").parse().expect("is a selector")
}

fn pass(line: &mut Line, seconds: u64, now_s: &mut u64) {
    *now_s += seconds;
    line.pass(Elapsed { real_ms: seconds * 1_000, planned_ms: seconds * 1_000 }, *now_s);
}

/// A line whose next key is on standby, and the wall clock then.
fn with_standby(line: &mut Line, number: u64, now_s: &mut u64) {
    let selector = selector(number);
    line.made(&selector, record(number), 500, &plan(), *now_s).expect("is asked for");
    let sighting = seen(&record(number));
    line.looked(&selector, &sighting, &plan(), *now_s).expect("is published");
    pass(line, 3_600, now_s);
    line.looked(&selector, &sighting, &plan(), *now_s).expect("is on standby");
}

#[test]
fn a_cycle_of_six_months() {
    let (mut line, mut now_s) = (Line::default(), 1_800_000_000);
    assert_eq!(line.steps(&plan(), now_s), [Step::Make(selector(1))]);
    with_standby(&mut line, 1, &mut now_s);
    assert_eq!(line.steps(&plan(), now_s), [Step::Switch(selector(1))]);
    line.switch(Cause::Due, &plan(), now_s).expect("nothing signs yet");
    assert_eq!(line.steps(&plan(), now_s)[0], Step::Make(selector(2)));
    with_standby(&mut line, 2, &mut now_s);
    let refused = line.switch(Cause::Due, &plan(), now_s);
    assert!(matches!(refused, Err(NotYet::NotDue { .. })), "{refused:?}");
    // Half the jitter: five per cent early.
    let due_s = line.due_s(&plan()).expect("one is active");
    assert_eq!(due_s - line.active().expect("signs").since_s(), 182 * DAY_S * 95 / 100);
    pass(&mut line, due_s - now_s, &mut now_s);
    assert!(line.steps(&plan(), now_s).contains(&Step::Look(selector(2))), "seen too long ago");
    assert!(matches!(line.switch(Cause::Due, &plan(), now_s), Err(NotYet::Unseen { .. })));
    line.looked(&selector(2), &seen(&record(2)), &plan(), now_s).expect("is there");
    assert_eq!(line.steps(&plan(), now_s)[0], Step::Switch(selector(2)));
    line.switch(Cause::Due, &plan(), now_s).expect("is due");

    let old = line.key(&selector(1)).expect("drains").clone();
    assert_eq!(line.waits_for(&old, &plan(), now_s), Some(NotYet::InUse));
    pass(&mut line, 14 * DAY_S, &mut now_s);
    line.out_of_use(|_| false);
    pass(&mut line, 14 * DAY_S - 1, &mut now_s);
    assert_eq!(line.expected(&selector(1)), Some(&*record(1)), "mail is under way");
    pass(&mut line, 1, &mut now_s);
    assert!(line.steps(&plan(), now_s).contains(&Step::Withdraw(selector(1))));
    let stale = line.looked(&selector(1), &seen(&record(1)), &plan(), now_s);
    assert!(stale.is_err(), "a look that expected the key proves no withdrawal");
    assert!(line.destroy(&selector(1), now_s).is_err(), "is not withdrawn");
    line.looked(&selector(1), &seen(revoked_text()), &plan(), now_s).expect("is withdrawn");
    line.destroy(&selector(1), now_s).expect("is withdrawn");
    assert_eq!(line.expected(&selector(1)), None);
}

#[test]
fn no_step_runs_ahead_of_its_proof() {
    let (mut line, now_s) = (Line::default(), 1_800_000_000);
    line.made(&selector(1), record(1), 0, &plan(), now_s).expect("is asked for");
    assert_eq!(line.steps(&plan(), now_s), [Step::Look(selector(1))]);
    let half = |authoritative, resolvers, ttl_s_max| Looked {
        authoritative,
        resolvers,
        ttl_s_max,
        obstacles: "ns2 has no record.".to_owned(),
        ..seen(&record(1))
    };
    for (authoritative, resolvers) in [((1, 2), (2, 2)), ((2, 2), (1, 2)), ((0, 0), (2, 2))] {
        let looked = half(authoritative, resolvers, 7_200);
        let refused = line.looked(&selector(1), &looked, &plan(), now_s);
        assert_eq!(refused, Err(NotYet::Unseen { obstacles: "ns2 has no record.".to_owned() }));
    }
    assert_eq!(line.steps(&plan(), now_s), [Step::Publish(selector(1))]);
    line.looked(&selector(1), &half((2, 2), (2, 2), 300), &plan(), now_s).expect("is seen");
    let key = line.keys()[0].clone();
    // Two hours, as the first answers said, though the last one and the plan say less.
    let waits = line.waits_for(&key, &plan(), now_s);
    assert_eq!(waits, Some(NotYet::OthersMayKeep { left_s: 7_200 }));
    assert_eq!(line.switch(Cause::Emergency(None), &plan(), now_s), Err(NotYet::NoStandby));
}

#[test]
fn a_record_that_somebody_takes_away_starts_over() {
    let (mut line, mut now_s) = (Line::default(), 1_800_000_000);
    with_standby(&mut line, 1, &mut now_s);
    let silent = Looked { authoritative: (1, 2), ..seen(&record(1)) };
    assert!(line.looked(&selector(1), &silent, &plan(), now_s).is_err());
    assert_eq!(line.keys()[0].stage(), &Stage::Standby, "silence takes no proof away");
    let gone = Looked { is_contradicted: true, ..silent };
    assert!(line.looked(&selector(1), &gone, &plan(), now_s).is_err());
    assert_eq!(line.steps(&plan(), now_s), [Step::Publish(selector(1))]);
}

#[test]
fn an_emergency_needs_no_dns_and_a_second_one_waits() {
    let (mut line, mut now_s) = (Line::default(), 1_800_000_000);
    with_standby(&mut line, 1, &mut now_s);
    line.switch(Cause::Due, &plan(), now_s).expect("nothing signs yet");
    with_standby(&mut line, 2, &mut now_s);
    pass(&mut line, 20 * DAY_S, &mut now_s);
    let switched = line.switch(Cause::Emergency(Some(60)), &plan(), now_s);
    assert_eq!(switched, Ok(selector(2)), "though it was not looked at for weeks");
    line.out_of_use(|_| false);
    pass(&mut line, 60, &mut now_s);
    assert!(line.steps(&plan(), now_s).contains(&Step::Withdraw(selector(1))));
    assert_eq!(line.switch(Cause::Emergency(None), &plan(), now_s), Err(NotYet::NoStandby));
}

#[test]
fn a_clock_that_jumps_makes_a_rotation_early_or_late_and_nothing_else() {
    let (mut line, mut now_s) = (Line::default(), 1_800_000_000);
    with_standby(&mut line, 1, &mut now_s);
    line.switch(Cause::Due, &plan(), now_s).expect("nothing signs yet");
    with_standby(&mut line, 2, &mut now_s);
    let ahead_s = now_s + 1_000 * DAY_S;
    line.pass(Elapsed::default(), ahead_s);
    line.switch(Cause::Due, &plan(), ahead_s).expect("is due by that clock");
    line.out_of_use(|_| false);
    line.pass(Elapsed::default(), ahead_s + 100 * DAY_S);
    let old = line.key(&selector(1)).expect("drains").clone();
    let waits = line.waits_for(&old, &plan(), ahead_s);
    assert_eq!(waits, Some(NotYet::Draining { left_s: 14 * DAY_S }), "no time has passed");
    line.pass(Elapsed::default(), now_s);
    let due_s = line.due_s(&plan()).expect("one is active");
    assert!(due_s <= now_s + 182 * DAY_S, "it does not wait for a thousand days");
}

#[test]
fn delegated_selectors_are_used_in_turn_and_only_when_they_are_free() {
    let plan = Plan { selectors: Some(2), ..plan() };
    let (mut line, now_s) = (Line::default(), 1_800_000_000);
    for number in [1, 2] {
        line.made(&selector(number), record(number), 0, &plan, now_s).expect("is free");
        line.abandon(&selector(number), now_s).expect("has not signed");
    }
    line.made(&selector(1), record(3), 0, &plan, now_s).expect("is free again");
    assert!(line.keys().iter().any(Key::is_reused));
    line.looked(&selector(1), &seen(&record(3)), &plan, now_s).expect("is seen");
    line.abandon(&selector(1), now_s).expect("has not signed");
    line.made(&selector(2), record(4), 0, &plan, now_s).expect("is free again");
    line.looked(&selector(2), &seen(&record(4)), &plan, now_s).expect("is seen");
    line.abandon(&selector(2), now_s).expect("has not signed");
    assert_eq!(line.next_selector(&plan), Err(NotYet::SelectorsInUse), "its record is there yet");
}

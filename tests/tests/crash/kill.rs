//! SIGKILL at random moments under load.

use std::time::{Duration, Instant};

use postern_tests::ledger::{Ledger, Load, wait_until};
use postern_tests::message::seed;
use postern_tests::relay::Setup;
use postern_tests::sink::{Act, Options, Phase, Sink};
use postern_tests::tool::say;

/// How many kills: `POSTERN_CRASH_ROUNDS`, else few enough for everyday.
fn rounds() -> u64 {
    let given = std::env::var("POSTERN_CRASH_ROUNDS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(5)
}

#[test]
fn kill_at_random_moments_loses_nothing() {
    let mut seed = seed("SIGKILL");
    // A next hop that takes a little time, so that deliveries are in flight at every moment.
    let sink = Sink::with(Options::script(|moment| match moment.phase {
        Phase::End if moment.before.is_multiple_of(3) => Act::Stall(Duration::from_millis(2)),
        _ => Act::Proceed,
    }));
    let mut relay = Setup::new(sink.addr()).trusting_loopback().start();
    let ledger = Ledger::default();
    let load = Load::start(relay.addr, &ledger, 8, Duration::ZERO);
    let mut restarts = Vec::new();
    let mut in_flight = 0;
    for _ in 0..rounds() {
        let target = ledger.acknowledged() + 1;
        wait_until(10, || ledger.acknowledged() > target);
        std::thread::sleep(Duration::from_micros(seed.below(400_000)));
        relay.kill();
        in_flight += sink.open_now();
        let started = Instant::now();
        relay.start();
        restarts.push(started.elapsed());
    }
    load.stop();
    assert!(
        sink.wait_until(60, |all| ledger.is_settled(all)),
        "{}\n{}",
        ledger.audit(&sink.messages()),
        relay.log_end()
    );
    let audit = ledger.audit(&sink.messages());
    restarts.sort_unstable();
    let median = restarts[restarts.len() / 2].as_millis();
    say(&format!(
        "{} kills under load: {audit}; at most {in_flight} deliveries in flight; restart median {median} ms",
        restarts.len()
    ));
    audit.expect_sound();
    let duplicates = u64::try_from(audit.duplicates).expect("few");
    assert!(duplicates <= in_flight, "{duplicates} duplicates, {in_flight} deliveries in flight");
    sink.stop();
}

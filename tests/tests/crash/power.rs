//! Power cuts: XFS on a loop device loses its log, and with it all that was not flushed.
//!
//! The relay is stopped first, so that no acknowledgement is sent while the disk goes away: such a
//! one would be an artefact of the test.

use std::time::Duration;

use postern_tests::ledger::{Ledger, Load, wait_until};
use postern_tests::message::seed;
use postern_tests::mount::Mount;
use postern_tests::relay::Setup;
use postern_tests::sink::{Act, Options, Phase, Sink};
use postern_tests::tool::say;
use rustix::process::Signal;

/// How many power cuts: `POSTERN_POWER_CUTS`, else few enough for everyday.
fn cuts() -> u64 {
    let given = std::env::var("POSTERN_POWER_CUTS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[test]
fn a_power_cut_loses_nothing() {
    let Some(mount) = Mount::xfs(1_024) else { return };
    let mut seed = seed("power cut");
    let sink = Sink::with(Options::script(|moment| match moment.phase {
        Phase::End if moment.before.is_multiple_of(3) => Act::Stall(Duration::from_millis(2)),
        _ => Act::Proceed,
    }));
    let mut relay =
        Setup::new(sink.addr()).trusting_loopback().folder(&mount.path().join("relay")).start();
    let ledger = Ledger::default();
    let load = Load::start(relay.addr, &ledger, 8, Duration::ZERO);
    let mut in_flight = 0;
    for cut in 0..cuts() {
        let target = ledger.acknowledged() + 20;
        assert!(wait_until(20, || ledger.acknowledged() > target), "no load after {cut} cuts");
        std::thread::sleep(Duration::from_micros(seed.below(300_000)));
        relay.signal(Signal::STOP);
        // What is in the kernel's hands still completes; nothing new starts.
        std::thread::sleep(Duration::from_millis(20));
        in_flight += sink.open_now();
        mount.shut_down();
        relay.kill();
        mount.remount();
        relay.start();
    }
    load.stop();
    assert!(
        sink.wait_until(60, |all| ledger.is_settled(all)),
        "{}\n{}",
        ledger.audit(&sink.messages()),
        relay.log_end()
    );
    let audit = ledger.audit(&sink.messages());
    say(&format!(
        "{} power cuts under load: {audit}; at most {in_flight} deliveries in flight",
        cuts()
    ));
    audit.expect_sound();
    relay.kill();
    sink.stop();
}

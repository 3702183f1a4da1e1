//! A disk that fails while mail comes in, through a FUSE pass-through: a failed flush or write is
//! `451`, a full disk `452`, never `250`; and when the fault is over, mail is accepted again.

use std::time::Duration;

use postern_tests::ledger::{Fate, Ledger, Load, wait_until};
use postern_tests::mount::Mount;
use postern_tests::relay::{Relay, Setup};
use postern_tests::sink::Sink;
use postern_tests::tool::say;

fn on(mount: &Mount, sink: &Sink) -> Relay {
    Setup::new(sink.addr()).trusting_loopback().folder(&mount.path().join("relay")).start()
}

/// Switches one fault on under load and off again.
fn strike(fault: &str, codes: &[u16]) {
    let Some(mount) = Mount::faulty() else { return };
    let sink = Sink::start();
    let mut relay = on(&mount, &sink);
    let ledger = Ledger::default();
    let load = Load::start(relay.addr, &ledger, 4, Duration::from_millis(2));
    assert!(wait_until(20, || ledger.acknowledged() > 20), "no load\n{}", mount.server_log());
    mount.set_fault(fault);
    // Messages that were being flushed when the fault began may still have been good.
    std::thread::sleep(Duration::from_millis(300));
    let before = ledger.acknowledged();
    let refused = || ledger.count(|fate| matches!(fate, Fate::Refused(_)));
    let is_refused = wait_until(20, || refused() > 10);
    let during = ledger.acknowledged() - before;
    mount.set_fault("");
    assert!(is_refused, "{fault}: nothing was refused; {during} acknowledged\n{}", relay.log_end());
    assert_eq!(during, 0, "{fault}: acknowledged while nothing could be flushed");
    let refusals = ledger.refusals();
    // 421 ends the session of a client that goes on after many refusals.
    let is_expected = refusals.keys().all(|code| codes.contains(code) || *code == 421);
    assert!(is_expected, "{fault}: answered {refusals:?}\n{}", relay.log_end());
    let after = ledger.acknowledged();
    let recovered = wait_until(30, || ledger.acknowledged() > after + 20);
    load.stop();
    assert!(recovered, "{fault}: nothing is accepted after the fault\n{}", relay.log_end());
    // What was acknowledged must be on the disk, not only in the memory of this process.
    relay.kill();
    relay.start();
    assert!(
        sink.wait_until(60, |all| ledger.is_settled(all)),
        "{fault}: {}\n{}",
        ledger.audit(&sink.messages()),
        relay.log_end()
    );
    let audit = ledger.audit(&sink.messages());
    say(&format!("{fault}: {audit}; refused with {refusals:?}"));
    audit.expect_sound();
    relay.kill();
    sink.stop();
}

#[test]
fn a_failed_flush_is_never_called_good() {
    strike("fsync=EIO", &[451, 452]);
}

#[test]
fn a_failed_write_is_never_called_good() {
    strike("write=EIO", &[451, 452]);
}

#[test]
fn a_full_disk_answers_452() {
    strike("write=ENOSPC create=ENOSPC", &[452]);
}

#[test]
fn a_slow_disk_slows_and_loses_nothing() {
    let Some(mount) = Mount::faulty() else { return };
    let sink = Sink::start();
    let relay = on(&mount, &sink);
    let ledger = Ledger::default();
    let load = Load::start(relay.addr, &ledger, 8, Duration::ZERO);
    assert!(wait_until(20, || ledger.acknowledged() > 20));
    mount.set_fault("delay=0.2");
    let before = ledger.acknowledged();
    assert!(wait_until(30, || ledger.acknowledged() > before + 16), "a slow disk stops everything");
    mount.set_fault("");
    load.stop();
    assert!(sink.wait_until(30, |all| ledger.is_settled(all)));
    ledger.audit(&sink.messages()).expect_sound();
    drop(relay);
    sink.stop();
}

//! A spool that is full: `452`, nothing lost, and room again once mail has left.

use std::time::Duration;

use postern_tests::ledger::{Fate, Ledger, Load, wait_until};
use postern_tests::mount::Mount;
use postern_tests::relay::Setup;
use postern_tests::sink::{Act, Options, Phase, Sink};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Fills the spool on this file system while the next hop is away, then lets it drain.
fn fill_and_drain(mount: &Mount, setup: impl Fn(Setup) -> Setup) {
    let is_open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&is_open);
    let sink = Sink::with(Options::script(move |moment| {
        if moment.phase == Phase::Connect && !opened.load(Ordering::Relaxed) {
            return Act::Answer("421 4.3.2 away".to_owned());
        }
        Act::Proceed
    }));
    let relay = setup(
        Setup::new(sink.addr())
            .trusting_loopback()
            .retrying_soon()
            .on_little_space()
            .folder(&mount.path().join("relay")),
    )
    .start();
    let ledger = Ledger::default();
    let load = Load::start(relay.addr, &ledger, 4, Duration::ZERO);
    let is_full = || ledger.count(|fate| matches!(fate, Fate::Refused(_))) > 20;
    assert!(wait_until(60, is_full), "the spool never filled: {} in", ledger.acknowledged());
    let before = ledger.acknowledged();
    is_open.store(true, Ordering::Relaxed);
    let has_room = wait_until(60, || ledger.acknowledged() > before + 20);
    load.stop();
    assert!(has_room, "no room after the mail left: {:#}", relay.status()["total"]);
    assert!(
        sink.wait_until(60, |all| ledger.is_settled(all)),
        "{}",
        ledger.audit(&sink.messages())
    );
    let audit = ledger.audit(&sink.messages());
    postern_tests::tool::say(&format!("full spool: {audit}"));
    audit.expect_sound();
    let refusals = ledger.refusals();
    let is_full = refusals.contains_key(&452) && refusals.keys().all(|code| code / 100 == 4);
    assert!(is_full, "a full spool is a temporary failure, 452: {refusals:?}");
    sink.stop();
}

#[test]
fn a_full_ext4_refuses_and_recovers() {
    if let Some(mount) = Mount::ext4(64) {
        fill_and_drain(&mount, |setup| setup);
    }
}

#[test]
fn a_spool_on_tmpfs_must_be_allowed() {
    let Some(mount) = Mount::tmpfs(64) else { return };
    let sink = Sink::start();
    let refused = Setup::new(sink.addr()).folder(&mount.path().join("relay"));
    // `init` sees where it is and allows it, with a warning.
    let mut refused = refused.set("spool.allow_volatile", false).prepare();
    assert!(refused.try_start().is_err(), "a relay on tmpfs keeps no promise");
    let said = refused.log();
    assert!(said.contains("memory") && said.contains("allow_volatile"), "{said}");
    drop(refused);
    fill_and_drain(&mount, |setup| setup);
}

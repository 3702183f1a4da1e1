//! Memory is bounded: by sessions that idle, and by sessions that all send at once.

use std::thread;
use std::time::Duration;

use postern_tests::client::Client;
use postern_tests::message::{Mail, to_wire};
use postern_tests::relay::{RECIPIENT, SENDER, Setup, raise_open_files};
use postern_tests::sink::Sink;
use postern_tests::tool;

#[test]
fn idle_sessions_cost_little() {
    let sink = Sink::start();
    // Each session takes a descriptor here and one in the relay, which inherits the limit.
    let room = raise_open_files().saturating_sub(200);
    let count = usize::try_from(room.min(10_000)).expect("small");
    if count < 10_000 {
        tool::say(&format!("only {count} sessions: the limit of open files is {}", room + 200));
    }
    let relay = Setup::new(sink.addr()).trusting_loopback().start();
    // What the first sessions load once, all others share.
    drop((0..50).map(|_| Client::greeted(relay.addr)).collect::<Vec<_>>());
    let before = relay.memory_kib();
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Client::dial(relay.addr).expect("the relay listens");
        client.reply().expect(220);
        idle.push(client);
    }
    for client in &mut idle {
        client.ehlo();
    }
    let each = kib_each(relay.memory_kib(), before, count);
    tool::say(&format!("{count} idle plaintext sessions: {each:.2} KiB each"));
    // Unoptimised code makes large futures: what is promised is promised of a release build.
    let bound = if cfg!(debug_assertions) { 16.0 } else { 2.0 };
    assert!(each <= bound, "{each:.2} KiB for an idle session");
    idle[count / 2].command("NOOP").expect(250);
}

#[test]
fn idle_tls_sessions_cost_little() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let count = 500;
    raise_open_files();
    drop((0..20).map(|_| Client::secured(relay.addr)).collect::<Vec<_>>());
    let before = relay.memory_kib();
    let mut idle: Vec<Client> = (0..count).map(|_| Client::secured(relay.addr)).collect();
    let each = kib_each(relay.memory_kib(), before, count);
    tool::say(&format!("{count} idle TLS sessions: {each:.2} KiB each"));
    let bound = if cfg!(debug_assertions) { 48.0 } else { 16.0 };
    assert!(each <= bound, "{each:.2} KiB for an idle TLS session");
    idle[count / 2].command("NOOP").expect(250);
}

fn kib_each(after: u64, before: u64, count: usize) -> f64 {
    let grown = u32::try_from(after.saturating_sub(before)).expect("less than 4 TiB");
    f64::from(grown) / f64::from(u32::try_from(count).expect("small"))
}

/// 2,000 sessions send 64 KiB each, all open before the first one ends.
#[test]
fn sessions_that_all_send_at_once_stay_inside_the_bound() {
    let sink = Sink::start();
    raise_open_files();
    let relay = Setup::new(sink.addr()).trusting_loopback().start();
    let before = relay.memory_kib();
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let addr = relay.addr;
            thread::spawn(move || send_all_at_once(addr, thread * 500))
        })
        .collect();
    let mut peak = before;
    while threads.iter().any(|thread| !thread.is_finished()) {
        peak = peak.max(relay.memory_kib());
        thread::sleep(Duration::from_millis(20));
    }
    let accepted: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    let grown = (peak - before) / 1_024;
    tool::say(&format!(
        "2000 sessions sending 64 KiB at once: {accepted} accepted, memory grew by {grown} MiB at most"
    ));
    // 125 MiB of content; the pool of blocks and the receive ring are the bound, and what the
    // sessions themselves take comes on top.
    assert!(grown < 256, "memory grew by {grown} MiB");
    assert!(sink.wait_until(90, |all| all.len() >= accepted), "{} of {accepted}", sink.count());
    assert_eq!(sink.stop().len(), accepted);
}

/// Opens 500 sessions, sends half of each message, then the other half of each; returns how many
/// were accepted. The others must have been told to come back.
fn send_all_at_once(addr: std::net::SocketAddr, first: u64) -> usize {
    let mut sessions = Vec::new();
    for number in first..first + 500 {
        let mut client = Client::greeted(addr);
        client.set_patience(Duration::from_secs(90));
        client.ehlo();
        let mail = Mail::numbered(number, SENDER, RECIPIENT, 64 * 1_024);
        let reply = client.command(&format!("MAIL FROM:<{SENDER}> BODY=8BITMIME"));
        if reply.code != 250 {
            assert_eq!(reply.code / 100, 4, "{reply}");
            continue;
        }
        client.command(&format!("RCPT TO:<{RECIPIENT}>")).expect(250);
        client.command("DATA").expect(354);
        sessions.push((client, to_wire(&mail.content)));
    }
    for (client, wire) in &mut sessions {
        // A relay at its bound stops reading: this write then waits until others are done.
        client.send(&wire[..wire.len() / 2]);
    }
    let mut accepted = 0;
    for (client, wire) in &mut sessions {
        client.send(&wire[wire.len() / 2..]);
        let reply = client.reply();
        assert!(matches!(reply.code, 250 | 451 | 452), "{reply}");
        accepted += usize::from(reply.code == 250);
    }
    accepted
}

//! Memory is bounded: by sessions that idle, and by sessions that all send at once.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use postern_tests::client::Client;
use postern_tests::message::{Mail, added_fields, find, to_wire};
use postern_tests::relay::{RECIPIENT, Relay, SENDER, Setup, raise_open_files};
use postern_tests::sink::Sink;
use postern_tests::tool;
use rustix::process::Signal;

use crate::cutoff::unhold;

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

/// The least that may be configured.
const MEMORY_MIB: i64 = 8;
const LARGE_BYTES: usize = 20 << 20;
const LARGE: u64 = 3;

/// Several messages of more than twice the memory each, sent at once and delivered at once, with
/// small ones among them, before and after a restart.
fn messages_larger_than_memory_arrive(io: &'static str, seal: bool) {
    let sink = Sink::start();
    let mut relay = Setup::new(sink.addr())
        .trusting_loopback()
        .argument("--no-filters")
        .argument("--hold")
        .set("server.memory_mib", MEMORY_MIB)
        .set("server.io", io)
        .set("spool.seal", seal)
        .retrying_soon()
        .start();
    let large: Vec<Mail> =
        (0..LARGE).map(|number| Mail::numbered(number, SENDER, RECIPIENT, LARGE_BYTES)).collect();
    submit_at_once(&relay, &large);
    // What is read now is in no memory of the relay any more.
    assert!(relay.terminate().success());
    relay.reconfigure(unhold);
    relay.start();
    // Mail is taken all the while.
    let small: Vec<Mail> = (LARGE..LARGE + 50)
        .map(|number| Mail::numbered(number, SENDER, RECIPIENT, 40_000))
        .collect();
    let mut client = relay.connect();
    client.set_patience(Duration::from_secs(60));
    for mail in &small {
        client.submit(mail).expect(250);
    }
    let again = Mail::numbered(1_000, SENDER, RECIPIENT, LARGE_BYTES);
    client.submit(&again).expect(250);
    let mails: Vec<&Mail> = large.iter().chain(&small).chain([&again]).collect();
    let got = sink.wait_for(mails.len(), 120);
    for mail in &mails {
        let whole = got.iter().any(|got| got.content.ends_with(&mail.content));
        assert!(whole, "one of {} bytes is missing", mail.content.len());
    }
    for got in &got {
        let sent = mails.iter().find(|mail| got.content.ends_with(&mail.content));
        let sent = sent.expect("nothing but what was sent");
        let added = added_fields(&sent.content, &got.content).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(added, ["Received"]);
    }
    relay.wait_until("everything is settled", 30, |relay| relay.queue().is_empty());
    assert_eq!(sink.stop().len(), mails.len());
}

fn submit_at_once(relay: &Relay, mails: &[Mail]) {
    let clients = mails.iter().map(|mail| (mail, relay.connect()));
    let clients: Vec<_> = clients.collect();
    thread::scope(|scope| {
        for (mail, mut client) in clients {
            scope.spawn(move || {
                client.set_patience(Duration::from_secs(60));
                client.submit(mail).expect(250);
            });
        }
    });
}

#[test]
fn messages_larger_than_memory_arrive_sealed_on_io_uring() {
    messages_larger_than_memory_arrive("auto", true);
}

#[test]
fn messages_larger_than_memory_arrive_unsealed_on_io_uring() {
    messages_larger_than_memory_arrive("auto", false);
}

#[test]
fn messages_larger_than_memory_arrive_sealed_on_epoll() {
    messages_larger_than_memory_arrive("epoll", true);
}

#[test]
fn messages_larger_than_memory_arrive_unsealed_on_epoll() {
    messages_larger_than_memory_arrive("epoll", false);
}

/// A message whose end proves damaged while its beginning is on its way already.
#[test]
fn a_message_that_is_damaged_near_its_end_is_never_completed() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr())
        .trusting_loopback()
        .argument("--no-filters")
        .argument("--hold")
        .set("server.memory_mib", MEMORY_MIB)
        .set("spool.seal", false)
        .start();
    let mut mail = Mail::numbered(1, SENDER, RECIPIENT, LARGE_BYTES);
    mail.content.extend_from_slice(MARK);
    mail.content.extend_from_slice(&b"the end\r\n".repeat(100));
    relay.accept(&mail);
    spoil(&relay);
    relay.reconfigure(unhold);
    relay.signal(Signal::HUP);
    relay.wait_until("it has failed", 30, |relay| {
        relay.queue().iter().any(|queued| queued.state == "failed")
    });
    let failed = relay.queue().remove(0);
    assert_eq!(failed.last, "the stored message is damaged");
    assert!(relay.log().contains("the stored message is damaged"), "an operator is told");
    // Another one goes; and of the damaged one, whose beginning was sent, nothing was completed.
    let next = Mail::numbered(2, SENDER, RECIPIENT, 10_000);
    relay.accept(&next);
    sink.wait_for(1, 20);
    assert!(sink.commands().iter().filter(|line| line.starts_with("DATA")).count() >= 2);
    let got = sink.stop();
    assert_eq!(got.len(), 1);
    assert!(got[0].content.ends_with(&next.content));
}

/// Overwrites the mark where it is stored.
fn spoil(relay: &Relay) {
    let log = relay.folder().join("spool/core-0");
    for entry in fs::read_dir(&log).expect("the log's folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let content = fs::read(&path).expect("readable");
        if let Some(at) = find(&content, MARK) {
            let file = File::options().write(true).open(&path).expect("writable");
            file.write_all_at(b"rot", at as u64).expect("written");
            return file.sync_all().expect("synced");
        }
    }
    panic!("the message is not in {}", log.display());
}

const MARK: &[u8] = b"a line that is nowhere else, not even in this message\r\n";

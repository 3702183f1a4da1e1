//! Floods of commands, errors, recipients and connections: bounded, and in order.

use std::time::Instant;

use postern_tests::client::Client;
use postern_tests::relay::{SENDER, Setup, raise_open_files};
use postern_tests::sink::Sink;

use crate::{expect_healthy, session, trusting};

#[test]
fn pipelined_commands_without_reading_cost_no_memory() {
    let (sink, relay) = trusting();
    let before = relay.memory_kib();
    let mut client = session(&relay);
    let mut writer = client.stream().expect("plain").try_clone().expect("a descriptor");
    let flood = std::thread::spawn(move || {
        use std::io::Write;
        // Fails where the relay ends the session, which it may.
        writer.write_all(&b"NOOP\r\n".repeat(200_000)).is_ok()
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    let grown = relay.memory_kib().saturating_sub(before);
    assert!(grown < 8 * 1_024, "unread replies cost {grown} KiB");
    expect_healthy(&relay, &sink, 1);
    let said = client.rest_within(200_000);
    assert!(said.split(|&byte| byte == b'\n').all(|line| line.is_empty()
        || line.starts_with(b"250")
        || line.starts_with(b"421")
        || line.starts_with(b"4")));
    drop(client);
    flood.join().expect("no panic");
    sink.stop();
}

#[test]
fn errors_end_the_session() {
    let (sink, relay) = trusting();
    let mut client = session(&relay);
    let mut errors = 0;
    while let Ok(reply) = client.try_command("NONSENSE") {
        errors += 1;
        if reply.code == 421 {
            break;
        }
        assert!(errors < 300, "300 unknown commands in one session");
    }
    assert!(errors >= 3, "a typing error is no attack");
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn thousands_of_recipients_are_bounded() {
    let (sink, relay) = trusting();
    let mut client = session(&relay);
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
    let mut accepted = 0;
    let mut refused = 0;
    for n in 0..5_000 {
        match client.try_command(&format!("RCPT TO:<customer{n}@two.example>")) {
            Ok(reply) if reply.code == 250 => accepted += 1,
            Ok(reply) => {
                assert!(matches!(reply.code, 452 | 421 | 451 | 550), "{reply}");
                refused += 1;
            }
            Err(_) => break,
        }
        if refused > 50 {
            break;
        }
    }
    assert!(
        (100..5_000).contains(&accepted),
        "{accepted} recipients (RFC 5321 4.5.3.1.8: at least 100)"
    );
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn a_thousand_connections_leave_room_for_good_clients() {
    let sink = Sink::start();
    raise_open_files();
    let relay = Setup::new(sink.addr()).trusting_loopback().start();
    let idle: Vec<Client> = (0..1_000).filter_map(|_| Client::dial(relay.addr).ok()).collect();
    let started = Instant::now();
    expect_healthy(&relay, &sink, 1);
    let took = started.elapsed();
    assert!(took.as_secs() < 3, "a good client waited {took:?}");
    drop(idle);
    for _ in 0..300 {
        drop(Client::dial(relay.addr));
    }
    expect_healthy(&relay, &sink, 2);
    sink.stop();
}

#[test]
fn an_applications_own_session_limit_holds() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr())
        .edit(|table| postern_tests::relay::set(table, "app.0.limits.sessions_max", 3.into()))
        .start();
    let held: Vec<Client> = (0..3).map(|_| relay.connect()).collect();
    let mut fourth = Client::secured(relay.addr);
    let reply = fourth.auth_plain(postern_tests::relay::APP, postern_tests::relay::PASSWORD);
    assert!(matches!(reply.code, 421 | 451 | 454 | 535), "{reply}");
    drop(held);
    let again = postern_tests::ledger::wait_until(5, || {
        let mut client = Client::secured(relay.addr);
        client.auth_plain(postern_tests::relay::APP, postern_tests::relay::PASSWORD).code == 235
    });
    assert!(again, "the limit outlives its sessions");
}

//! BDAT sizes that lie.

use postern_tests::message::find;
use postern_tests::relay::{RECIPIENT, Relay, SENDER};

use crate::{expect_healthy, session, trusting};

#[track_caller]
fn begun(relay: &Relay) -> postern_tests::client::Client {
    let mut client = session(relay);
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
    client.command(&format!("RCPT TO:<{RECIPIENT}>")).expect(250);
    client
}

#[test]
fn fewer_bytes_than_said_take_the_next_command_as_content() {
    let (sink, relay) = trusting();
    let mut client = begun(&relay);
    // 40 bytes said, 20 sent: the QUIT belongs to the chunk, and nothing answers it.
    client.send(b"BDAT 40\r\nFrom: <x@y>\r\n\r\nabcd\r\nQUIT\r\n");
    client.half_close();
    let said = client.rest();
    assert!(
        find(&said, b"221").is_none() && find(&said, b"250").is_none(),
        "{}",
        said.escape_ascii()
    );
    expect_healthy(&relay, &sink, 1);
    assert_eq!(sink.stop().len(), 1);
}

#[test]
fn more_bytes_than_said_are_commands_and_are_judged_as_such() {
    let (sink, relay) = trusting();
    let mut client = begun(&relay);
    let content = format!("From: <{SENDER}>\r\n\r\nabc\r\n");
    client.send(format!("BDAT {} LAST\r\n{content}surplus\r\nNOOP\r\n", content.len()).as_bytes());
    client.reply().expect(250);
    let surplus = client.reply();
    assert!(matches!(surplus.code, 500 | 502), "{surplus}");
    client.reply().expect(250);
    sink.wait_for(1, 10);
    sink.stop();
}

#[test]
fn sizes_beyond_the_limit_and_beyond_numbers_are_refused() {
    let (sink, relay) = trusting();
    for size in [
        "18446744073709551615",
        "18446744073709551616",
        "4294967296",
        "99999999999999999999",
        "0x10",
        "+1",
        "1e3",
        "-5",
        "1,0",
        "",
    ] {
        let mut client = begun(&relay);
        client.send(format!("BDAT {size}\r\n").as_bytes());
        // A chunk that is too large may be refused at once or after it was swallowed.
        client.half_close();
        let said = client.rest();
        assert!(find(&said, b"250").is_none(), "{size}: {}", said.escape_ascii());
        assert!(size.len() > 9 || said.starts_with(b"5"), "{size}: {}", said.escape_ascii());
    }
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn a_refused_chunk_is_swallowed_whole() {
    let (sink, relay) = trusting();
    let mut client = session(&relay);
    // No transaction: the chunk is refused, but its bytes are no commands.
    client.send(b"BDAT 12 LAST\r\nQUIT\r\nQUIT\r\nNOOP\r\n");
    client.reply().expect(503);
    client.reply().expect(250);
    let mut client = begun(&relay);
    for _ in 0..1_000 {
        client.send(b"BDAT 0\r\n");
        client.reply().expect(250);
    }
    let empty = client.command("BDAT 0 LAST");
    assert!((500..560).contains(&empty.code), "an empty message has no author: {empty}");
    let reply = client.command("BDAT 5 LAST MORE");
    assert_eq!(reply.code, 501, "{reply}");
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

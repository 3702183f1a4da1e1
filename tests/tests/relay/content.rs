//! Mail with payment card numbers or secrets is refused: with the rule, never with what was found.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postern_tests::ledger::wait_until;
use postern_tests::message::{Mail, to_wire};
use postern_tests::relay::{RECIPIENT, SENDER, Setup, set};
use postern_tests::sink::Sink;

/// A number that passes the Luhn check and lies in an issuer's range: the industry's test number.
const CARD: &str = "4111 1111 1111 1111";

fn with_part(fields: &str, body: &str) -> Vec<u8> {
    format!(
        "From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: order\r\nMIME-Version: 1.0\r\n\
         {fields}\r\n{body}\r\n"
    )
    .into_bytes()
}

#[test]
fn card_numbers_are_found_however_they_are_encoded() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let base64 = BASE64.encode(format!("Card: {CARD}\r\n"));
    let multipart = format!(
        "preamble\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
         {base64}\r\n--b--"
    );
    let refused = [
        with_part("", &format!("pay with {CARD}.")),
        with_part("Content-Type: text/plain\r\n", "4111-1111-1111-1111"),
        with_part("Content-Type: text/plain\r\n", "4111111111111111"),
        with_part("Content-Transfer-Encoding: base64\r\n", &base64),
        with_part("Content-Transfer-Encoding: quoted-printable\r\n", "4111 1=\r\n111 =31111 1111"),
        with_part("Content-Type: multipart/mixed; boundary=b\r\n", &multipart),
        with_part(
            "Content-Type: text/plain; charset=iso-2022-jp\r\n",
            &format!("\x1b$B%+!<%I\x1b(B {CARD}"),
        ),
    ];
    for content in &refused {
        let mut client = relay.connect();
        client.begin(SENDER, &[RECIPIENT]);
        client.send(&to_wire(content));
        let reply = client.reply().expect_status(550, "5.7.1");
        let text = reply.lines.join(" ");
        assert!(!text.contains("4111") && !text.contains("1111"), "the reply tells: {text}");
        assert!(text.contains("card"), "the reply names no rule: {text}");
        client.command("NOOP").expect(250);
    }
    let accepted = [
        with_part("", "4111 1111 1111 1112"),
        with_part("", "order 1234567890123452 of 2026-11-24"),
        with_part("Content-Type: application/octet-stream\r\n", "no text part"),
    ];
    let mut client = relay.connect();
    for content in &accepted {
        client.begin(SENDER, &[RECIPIENT]);
        client.send(&to_wire(content));
        client.reply().expect(250);
    }
    sink.wait_for(accepted.len(), 10);
    let log = relay.log();
    assert!(!log.contains("4111"), "the log tells");
    assert_eq!(sink.stop().len(), accepted.len());
}

#[test]
fn a_card_number_split_over_packets_and_chunks_is_found() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let content = with_part("", &format!("pay with {CARD}."));
    let mut client = relay.connect();
    client.begin(SENDER, &[RECIPIENT]);
    client.send_split(&to_wire(&content), 1);
    client.reply().expect(550);
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
    client.command(&format!("RCPT TO:<{RECIPIENT}>")).expect(250);
    for piece in content.chunks(3) {
        client.send(format!("BDAT {}\r\n", piece.len()).as_bytes());
        client.send(piece);
        client.reply().expect(250);
    }
    client.command("BDAT 0 LAST").expect(550);
    assert!(sink.stop().is_empty());
}

/// Secrets are refused with their kind, and never with their value; a token of a link passes.
#[test]
fn secrets_are_refused_and_links_with_tokens_pass() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let token = "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";
    let mut client = relay.connect();
    let body = format!("Deploy with {token} please.\r\n");
    let refused = client.submit(&Mail::with_body(SENDER, RECIPIENT, body.as_bytes()));
    let refused = refused.expect_status(550, "5.7.1");
    let text = refused.lines.join(" ");
    assert!(text.contains("github_token part=1 count=1 rule=dlp.github_token"), "{text}");
    assert!(!text.contains(token) && !relay.log_end().contains(token));
    let link = "https://example.com/reset?t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3\r\n";
    client.submit(&Mail::with_body(SENDER, RECIPIENT, link.as_bytes())).expect(250);
    sink.wait_for(1, 30);
    assert!(wait_until(10, || relay.log_end().contains("detector=jwt")), "{}", relay.log_end());
    sink.stop();
}

/// Account and identity numbers are reported, and refused where the operator says so.
#[test]
fn identifiers_are_reported_or_refused_as_configured() {
    let sink = Sink::start();
    let mut relay = Setup::new(sink.addr()).start();
    let body = "Please pay to GB82 WEST 1234 5698 7654 32.\r\n";
    let mail = Mail::with_body(SENDER, RECIPIENT, body.as_bytes());
    relay.connect().submit(&mail).expect(250);
    sink.wait_for(1, 30);
    assert!(wait_until(10, || relay.log_end().contains("detector=iban")), "{}", relay.log_end());
    relay.reconfigure(|table| set(table, "filters.identifiers.action", "refuse".into()));
    assert!(relay.terminate().success());
    relay.start();
    let refused = relay.connect().submit(&mail).expect_status(550, "5.7.1").lines.join(" ");
    assert!(refused.contains("iban part=1 count=1 rule=dlp.iban"), "{refused}");
    sink.stop();
}

#[test]
fn a_scan_says_what_the_relay_would() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).prepare();
    let write = |name: &str, content: &[u8]| {
        let file = relay.home().join(name);
        std::fs::write(&file, content).expect("an own folder");
        file.display().to_string()
    };
    let encoded = BASE64.encode(format!("the card is {CARD}, twice {CARD}"));
    let card = write("card.eml", &with_part("Content-Transfer-Encoding: base64\r\n", &encoded));
    let clean = write("clean.eml", &with_part("", "nothing to see"));
    let text = relay.command(&["scan", &card, &clean]).expect_success().out;
    assert!(text.contains("card.eml: refused: credit_card part=1 count=1"), "{text}");
    assert!(text.contains("clean.eml: passes; found nothing") && !text.contains("4111"), "{text}");
    let ran = relay.command(&["scan", "--json", &clean, &card, "/nonexistent.eml"]);
    assert!(!ran.success && ran.err.contains("/nonexistent.eml"), "{ran:?}");
    let lines: Vec<serde_json::Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((lines.len(), &lines[0]["verdict"]), (2, &"allow".into()));
    let found = &lines[1]["found"][0];
    assert_eq!((&found["type"], &found["count"]), (&"credit_card".into(), &1.into()));
    assert_eq!((&found["occurrences"], &found["confidence"]), (&2.into(), &"high".into()));
    sink.stop();
}

#[test]
fn without_filters_everything_passes() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).argument("--no-filters").start();
    relay.accept(&Mail::with_body(SENDER, RECIPIENT, format!("{CARD}\r\n").as_bytes()));
    sink.wait_for(1, 10);
    sink.stop();
}

//! Who may send what: authentication, senders, limits. There is no open relay in any form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postern_tests::client::Client;
use postern_tests::message::{Mail, to_wire};
use postern_tests::relay::{APP, PASSWORD, RECIPIENT, Relay, SENDER, Setup};
use postern_tests::sink::Sink;

fn pair() -> (Sink, Relay) {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    (sink, relay)
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_alike() {
    let (_sink, relay) = pair();
    let mut client = Client::secured(relay.addr);
    let wrong = client.auth_plain(APP, "wrong").expect_status(535, "5.7.8");
    let unknown = client.auth_plain("nobody", "wrong").expect_status(535, "5.7.8");
    assert_eq!(wrong, unknown);
    client.auth_login(APP, "wrong").expect(535);
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(530);
}

#[test]
fn guessing_ends_the_session() {
    let (_sink, relay) = pair();
    let mut client = Client::secured(relay.addr);
    for _ in 0..50 {
        client.try_send(b"AUTH PLAIN AGJpbGxpbmcAd3Jvbmc=\r\n").ok();
        match client.try_reply() {
            Ok(reply) if reply.code == 535 => {}
            Ok(reply) => {
                assert_eq!(reply.code, 421, "{reply}");
                return;
            }
            Err(_) => return,
        }
    }
    panic!("fifty guesses in one session");
}

#[test]
fn auth_in_the_clear_is_neither_offered_nor_taken() {
    let (_sink, relay) = pair();
    let mut client = Client::greeted(relay.addr);
    let offers = client.ehlo();
    assert!(!offers.iter().any(|offer| offer.starts_with("AUTH")), "{offers:?}");
    assert!(offers.iter().any(|offer| offer == "STARTTLS"), "{offers:?}");
    let reply = client.auth_plain(APP, PASSWORD);
    assert!(matches!(reply.code, 530 | 538), "{reply}");
    let reply = client.command(&format!("MAIL FROM:<{SENDER}>"));
    assert_eq!(reply.code, 530, "{reply}");
    client.starttls();
    assert!(client.ehlo().iter().any(|offer| offer.starts_with("AUTH") && offer.contains("PLAIN")));
    client.auth_plain(APP, PASSWORD).expect(235);
}

#[test]
fn auth_takes_its_ways_and_refuses_others() {
    let (_sink, relay) = pair();
    let secret = BASE64.encode(format!("\0{APP}\0{PASSWORD}"));
    let mut client = Client::secured(relay.addr);
    client.command("AUTH PLAIN").expect(334);
    client.command("*").expect(501);
    client.command("AUTH CRAM-MD5").expect(504);
    client.command("AUTH").expect(501);
    client.command("AUTH PLAIN").expect(334);
    client.command(&secret).expect(235);
    client.command(&format!("AUTH PLAIN {secret}")).expect(503);
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
    let mut client = Client::secured(relay.addr);
    let other = BASE64.encode(format!("somebody\0{APP}\0{PASSWORD}"));
    client.command(&format!("AUTH PLAIN {other}")).expect(535);
}

#[test]
fn the_envelope_sender_must_be_the_applications() {
    let (sink, relay) = pair();
    let mut client = relay.connect();
    for sender in [
        "ceo@other.example",
        "invoices@one.example.other.example",
        "invoices@sub.one.example",
        "invoices%one.example@other.example",
        "@one.example:x@other.example",
        "\"invoices@one.example\"@other.example",
        "invoices@ONE.EXAMPLE.",
        "invoices@[127.0.0.1]",
        "invoices",
    ] {
        let reply = client.command(&format!("MAIL FROM:<{sender}>"));
        assert!((500..560).contains(&reply.code), "{sender}: {reply}");
    }
    for sender in ["invoices@one.example", "Anyone@ONE.Example"] {
        client.command(&format!("MAIL FROM:<{sender}>")).expect(250);
        client.command("RSET").expect(250);
    }
    assert!(sink.messages().is_empty());
}

/// The single author must be one of the application's senders, however the field is written.
#[test]
fn the_author_must_be_the_applications() {
    let (sink, relay) = pair();
    let own = "From: <invoices@one.example>\r\n";
    let refused = [
        "",
        "From: <ceo@other.example>\r\n",
        "From: <invoices@one.example>\r\nFrom: <ceo@other.example>\r\n",
        "From: <ceo@other.example>\r\nFrom: <invoices@one.example>\r\n",
        "from: <ceo@other.example>\r\nFROM: <invoices@one.example>\r\n",
        "From: <invoices@one.example>, <ceo@other.example>\r\n",
        "From: <ceo@other.example>, <invoices@one.example>\r\n",
        "From: group: <invoices@one.example>;\r\n",
        "From: undisclosed:;\r\n",
        "From: \r\n",
        "From: nobody\r\n",
        "From : <ceo@other.example>\r\nFrom: <invoices@one.example>\r\n",
        "From\t: <ceo@other.example>\r\nFrom: <invoices@one.example>\r\n",
        " From: <ceo@other.example>\r\nFrom: <invoices@one.example>\r\n",
        "X: y\r\nFrom:\r\n <ceo@other.example>\r\n",
        "From: <ceo@other.example> (<invoices@one.example>)\r\n",
        "From: \"<invoices@one.example>\" <ceo@other.example>\r\n",
        "From: <invoices@one.example> <ceo@other.example>\r\n",
        "From: ceo@other.example <invoices@one.example>\r\n",
        "From: <invoices@one.example>ceo@other.example\r\n",
        "From: =?utf-8?Q?=3Cceo=40other.example=3E?=\r\n",
        "From: =?utf-8?B?PGNlb0BvdGhlci5leGFtcGxlPg==?= <invoices@one.example>, a\r\n",
        "From: <@one.example,@x.example:ceo@other.example>\r\n",
        "From: <@other.example:invoices@one.example>\r\n",
        "From: <ceo@other.example\0@one.example>\r\n",
        "From: <invoices@one.example@other.example>\r\n",
        "From: <\"ceo@other.example\"@one.example\r\n",
        "From: invoices@one.example\r\n , ceo@other.example\r\n",
        "Fr\rom: a\r\nFrom: <invoices@one.example>\r\n",
        "From: <invoices@one.example>\r\nFrom\0: <ceo@other.example>\r\n",
    ];
    for (index, author) in refused.iter().enumerate() {
        // A session each: some of these also break the rules of the wire, which may end one.
        let mut client = relay.connect();
        client.begin(SENDER, &[RECIPIENT]);
        client.send(&to_wire(format!("{author}Subject: {index}\r\n\r\nbody\r\n").as_bytes()));
        let reply = client.reply();
        assert!((500..560).contains(&reply.code), "{author:?}: {reply}");
    }
    let accepted = [
        own,
        "From: invoices@one.example\r\n",
        "From: Billing Department <invoices@one.example>\r\n",
        "From: \"Billing, Department\" <invoices@one.example>\r\n",
        "From: =?utf-8?Q?B=C3=BCro?= <invoices@one.example>\r\n",
        "FROM:\r\n Billing\r\n\t<Invoices@One.Example>\r\n",
        "From: Billing (the department) <invoices@one.example>\r\n",
    ];
    let mut client = relay.connect();
    for (index, author) in accepted.iter().enumerate() {
        client.begin(SENDER, &[RECIPIENT]);
        client.send(&to_wire(format!("{author}Subject: {index}\r\n\r\nbody\r\n").as_bytes()));
        let reply = client.reply();
        assert_eq!(reply.code, 250, "{author:?}: {reply}");
    }
    let got = sink.wait_for(accepted.len(), 10);
    assert_eq!(got.len(), accepted.len());
    sink.stop();
}

#[test]
fn an_allowed_network_needs_no_auth_and_others_do() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).option("--allow-network", "127.9.9.0/24").start();
    let from = |source: &str| {
        let source = source.parse().expect("an address");
        let mut client = Client::dial_from(source, relay.addr).expect("the relay listens");
        client.reply().expect(220);
        client.ehlo();
        client
    };
    let mail = Mail::numbered(1, SENDER, RECIPIENT, 2_000);
    from("127.9.9.7").submit(&mail).expect(250);
    from("127.9.8.7").submit(&mail).expect(530);
    let foreign = Mail::numbered(2, "ceo@other.example", RECIPIENT, 2_000);
    let reply = from("127.9.9.7").submit(&foreign);
    assert!((500..560).contains(&reply.code), "{reply}");
    assert_eq!(sink.wait_for(1, 10).len(), 1);
    sink.stop();
}

#[test]
fn one_application_cannot_send_as_another() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).app("shop", "shop secret", "three.example").start();
    let mut client = Client::authenticated(relay.addr, "shop", "shop secret");
    client.submit(&Mail::numbered(1, "a@three.example", RECIPIENT, 1_500)).expect(250);
    let reply = client.submit(&Mail::numbered(2, SENDER, RECIPIENT, 1_500));
    assert!((500..560).contains(&reply.code), "{reply}");
    client.command("RSET").expect(250);
    let mut mixed = Mail::numbered(3, SENDER, RECIPIENT, 1_500);
    mixed.from = "a@three.example".to_owned();
    client.submit(&mixed).expect_status(550, "5.7.1");
    sink.wait_for(1, 10);
    assert_eq!(sink.stop().len(), 1);
}

#[test]
fn size_is_limited_when_declared_and_when_not() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr())
        .edit(|table| {
            postern_tests::relay::set(table, "app.0.limits.message_bytes_max", "100000".into());
        })
        .start();
    let mut client = relay.connect();
    client.command(&format!("MAIL FROM:<{SENDER}> SIZE=100001")).expect(552);
    client.command(&format!("MAIL FROM:<{SENDER}> SIZE=99999999999999999999999")).expect(501);
    client.submit(&Mail::numbered(1, SENDER, RECIPIENT, 200_000)).expect(552);
    client.submit(&Mail::numbered(2, SENDER, RECIPIENT, 50_000)).expect(250);
    sink.wait_for(1, 10);
    assert_eq!(sink.stop().len(), 1);
}

#[test]
fn recipients_are_limited() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr())
        .edit(|table| {
            postern_tests::relay::set(table, "app.0.limits.recipients_per_message_max", 3.into());
        })
        .start();
    let mut client = relay.connect();
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
    for n in 0..3 {
        client.command(&format!("RCPT TO:<customer{n}@two.example>")).expect(250);
    }
    client.command("RCPT TO:<customer4@two.example>").expect(452);
    client.command("DATA").expect(354);
    client.send(&to_wire(&Mail::numbered(1, SENDER, RECIPIENT, 1_500).content));
    client.reply().expect(250);
    assert_eq!(sink.wait_for(1, 10)[0].to.len(), 3);
    sink.stop();
}

//! Commands out of order, unknown, and with arguments that are none.

use postern_tests::message::to_wire;
use postern_tests::relay::{RECIPIENT, SENDER};

use crate::{expect_healthy, session, trusting};

/// Commands, each with the codes that answer it.
type Dialog = &'static [(&'static str, &'static [u16])];

const DIALOGS: &[Dialog] = &[
    &[("RCPT TO:<a@two.example>", &[503])],
    &[("DATA", &[503])],
    &[("BDAT 3 LAST\r\nabc", &[503])],
    &[("MAIL FROM:<invoices@one.example>", &[250]), ("DATA", &[503, 554])],
    &[("MAIL FROM:<invoices@one.example>", &[250]), ("MAIL FROM:<invoices@one.example>", &[503])],
    &[
        ("MAIL FROM:<invoices@one.example>", &[250]),
        ("RCPT TO:<a@two.example>", &[250]),
        ("RSET", &[250]),
        ("DATA", &[503]),
    ],
    &[
        ("MAIL FROM:<invoices@one.example>", &[250]),
        ("EHLO again.example", &[250]),
        ("RCPT TO:<a@two.example>", &[503]),
    ],
    &[
        ("MAIL FROM:<invoices@one.example>", &[250]),
        ("RCPT TO:<a@two.example>", &[250]),
        ("BDAT 3\r\nabc", &[250]),
        ("DATA", &[503]),
    ],
    &[
        ("MAIL FROM:<invoices@one.example>", &[250]),
        ("RCPT TO:<a@two.example>", &[250]),
        ("BDAT 3\r\nabc", &[250]),
        ("RCPT TO:<b@two.example>", &[503]),
    ],
    &[("EHLO", &[501])],
    &[("HELO", &[501])],
    &[("EHLO a b c\u{1}", &[250, 501])],
    &[("NONSENSE", &[500, 502])],
    &[("", &[500])],
    &[(" NOOP", &[500])],
    &[("NOOP ignored words", &[250])],
    &[("RSET now", &[501, 250])],
    &[("DATA now", &[501, 503])],
    &[("QUIT now", &[501, 221])],
    &[("VRFY", &[501, 252])],
    &[("VRFY someone", &[252])],
    &[("EXPN list", &[500, 502])],
    &[("HELP", &[214])],
    &[("TURN", &[500, 502])],
    &[("ETRN one.example", &[500, 502])],
    &[("MAIL", &[501])],
    &[("MAIL FROM", &[501])],
    &[("MAIL FROM:", &[501])],
    &[("MAIL FROM: <invoices@one.example>", &[250, 501])],
    &[("MAIL TO:<invoices@one.example>", &[501])],
    &[("MAIL FROM:invoices@one.example", &[501])],
    &[("MAIL FROM:<invoices@one.example", &[501])],
    &[("MAIL FROM:<invoices@one.example>x", &[501])],
    &[("MAIL FROM:<invoices@@one.example>", &[501, 553])],
    &[("MAIL FROM:<invoices@one..example>", &[501, 550, 553])],
    &[("MAIL FROM:<.invoices@one.example>", &[501, 553])],
    &[("MAIL FROM:<invoices@-one.example>", &[501, 550, 553])],
    &[("MAIL FROM:<inv oices@one.example>", &[501, 553])],
    &[("MAIL FROM:<inv\u{1}oices@one.example>", &[501, 553])],
    &[("MAIL FROM:<invoices@one.example> NOSUCH=1", &[504, 555])],
    &[("MAIL FROM:<invoices@one.example> SIZE=", &[501, 555])],
    &[("MAIL FROM:<invoices@one.example> SIZE=-1", &[501, 555])],
    &[("MAIL FROM:<invoices@one.example> SIZE=1 SIZE=2", &[501, 555])],
    &[("MAIL FROM:<invoices@one.example> BODY=9BIT", &[501, 504, 555])],
    &[("MAIL FROM:<invoices@one.example> ENVID=a+0D+0Ab", &[501, 250])],
    &[("MAIL FROM:<invoices@one.example> ENVID=a+b", &[501])],
    &[("MAIL FROM:<invoices@one.example> RET=SOME", &[501])],
    &[("MAIL FROM:<invoices@one.example>", &[250]), ("RCPT TO:<>", &[501, 550, 553])],
    &[
        ("MAIL FROM:<invoices@one.example>", &[250]),
        ("RCPT TO:<a@two.example> NOTIFY=NEVER,DELAY", &[501]),
    ],
    &[("MAIL FROM:<invoices@one.example>", &[250]), ("RCPT TO:<a@two.example> ORCPT=x", &[501])],
    &[("MAIL FROM:<invoices@one.example>", &[250]), ("RCPT TO:a@two.example", &[501])],
    &[("BDAT", &[501, 503])],
    &[("BDAT -1", &[501, 503])],
    &[("BDAT 99999999999999999999999", &[501, 503, 552, 552])],
];

#[test]
fn each_dialog_is_answered_as_it_should() {
    let (sink, relay) = trusting();
    for dialog in DIALOGS {
        let mut client = session(&relay);
        for (line, codes) in *dialog {
            if line.starts_with("BDAT") && line.contains('\n') {
                client.send(line.as_bytes());
            } else {
                client.send(format!("{line}\r\n").as_bytes());
            }
            let reply = client.reply();
            assert!(codes.contains(&reply.code), "{dialog:?}: {line:?}: {reply}");
            let text = &reply.lines[0];
            let class = char::from(b'0' + u8::try_from(reply.code / 100).expect("2 to 5"));
            let is_exempt =
                reply.code < 400 && matches!(reply.code, 214 | 220 | 221 | 250 | 334 | 354);
            assert!(is_exempt || text.starts_with(class), "no enhanced status code: {reply}");
        }
    }
    expect_healthy(&relay, &sink, 1);
    assert_eq!(sink.stop().len(), 1);
}

#[test]
fn mail_before_ehlo_is_refused() {
    let (_sink, relay) = trusting();
    let mut client = postern_tests::client::Client::greeted(relay.addr);
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(503);
    client.command("HELO client.example").expect(250);
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
}

#[test]
fn a_client_that_talks_before_the_greeting_gets_no_advantage() {
    let (sink, relay) = trusting();
    let mut client = postern_tests::client::Client::dial(relay.addr).expect("it listens");
    client.try_send(b"EHLO early.example\r\nNOOP\r\nQUIT\r\n").ok();
    let said = client.rest();
    assert!(said.starts_with(b"220") || said.starts_with(b"5") || said.starts_with(b"421"));
    expect_healthy(&relay, &sink, 1);
}

#[test]
fn data_after_a_refused_recipient_is_refused() {
    let (sink, relay) = trusting();
    let mut client = session(&relay);
    client.send(format!("MAIL FROM:<{SENDER}>\r\nRCPT TO:<>\r\nDATA\r\n").as_bytes());
    client.reply().expect(250);
    assert!(!client.reply().is_positive());
    let data = client.reply();
    assert!(matches!(data.code, 503 | 554), "{data}");
    client.command(&format!("RCPT TO:<{RECIPIENT}>")).expect(250);
    client.command("DATA").expect(354);
    client.send(&to_wire(format!("From: <{SENDER}>\r\n\r\nx\r\n").as_bytes()));
    client.reply().expect(250);
    sink.wait_for(1, 10);
    sink.stop();
}

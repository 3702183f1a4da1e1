//! Postfix as the client: `smtp-source`, and a Postfix that uses the relay as its smarthost.

use std::process::Command;

use postern_tests::client::Client;
use postern_tests::message::{Mail, added_fields};
use postern_tests::postfix::Postfix;
use postern_tests::relay::{RECIPIENT, SENDER, Setup};
use postern_tests::sink::Sink;
use postern_tests::tool;

#[test]
fn smtp_source_sends_many() {
    if !tool::have(&["smtp-source"]) {
        return;
    }
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).trusting_loopback().start();
    let mut source = Command::new(tool::find("smtp-source").expect("looked up before"));
    source.args(["-s", "10", "-m", "200", "-l", "4096", "-f", SENDER, "-t", RECIPIENT]);
    source.arg(format!("inet:{}", relay.addr));
    tool::run(&mut source, b"", 120).expect_success();
    sink.wait_for(200, 60);
    assert_eq!(sink.stop().len(), 200);
}

#[test]
fn a_postfix_uses_the_relay_as_its_smarthost() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).trusting_loopback().start();
    let lines = format!(
        "relayhost = [{}]:{}\nvirtual_mailbox_domains =\nsmtp_tls_security_level = encrypt\n\
         default_transport = smtp\nsmtp_bind_address = {}\n",
        relay.addr.ip(),
        relay.addr.port(),
        relay.addr.ip()
    );
    let Some(postfix) = Postfix::with(&lines) else { return };
    let mail = Mail::numbered(3, SENDER, RECIPIENT, 20_000);
    let mut client = Client::greeted(postfix.addr);
    client.ehlo();
    client.submit(&mail).expect(250);
    let arrived = sink.wait_until(30, |all| !all.is_empty());
    assert!(arrived, "{}", postfix.log());
    added_fields(&mail.content, &sink.messages()[0].content).expect("byte-exact");
    sink.stop();
}

//! Python's smtplib: through STARTTLS and through implicit TLS, with AUTH.

use std::process::Command;

use postern_tests::message::Mail;
use postern_tests::relay::{APP, PASSWORD, RECIPIENT, SENDER};
use postern_tests::tool;

use crate::Chain;

fn send(chain: &Chain, mode: &str, mail: &Mail) {
    let addr = if mode == "implicit" { chain.relay.addr_tls } else { chain.relay.addr };
    let mut client = Command::new("python3");
    client.arg(tool::script("interop/smtplib_send.py"));
    client.args([&addr.ip().to_string(), &addr.port().to_string(), mode]);
    client.args([APP, PASSWORD, SENDER, RECIPIENT]);
    tool::run(&mut client, &mail.content, 60).expect_success();
}

fn check(mode: &str) {
    if !tool::have(&["python3"]) {
        return;
    }
    let Some(chain) = Chain::start() else { return };
    let mail = Mail::numbered(1, SENDER, RECIPIENT, 30_000);
    send(&chain, mode, &mail);
    chain.expect_one(&mail.content);
}

#[test]
fn smtplib_sends_through_starttls() {
    check("starttls");
}

#[test]
fn smtplib_sends_through_implicit_tls() {
    check("implicit");
}

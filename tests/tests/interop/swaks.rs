//! swaks: through STARTTLS and through implicit TLS, with AUTH, pipelined too.

use std::fs;
use std::process::Command;

use postern_tests::message::Mail;
use postern_tests::relay::{APP, PASSWORD, RECIPIENT, SENDER};
use postern_tests::tool;

use crate::Chain;

fn check(options: &[&str]) {
    if !tool::have(&["swaks"]) {
        return;
    }
    let Some(chain) = Chain::start() else { return };
    // swaks writes lines with their CRLF itself and ends the last one, so it is given LF text.
    let mail = Mail::numbered(2, SENDER, RECIPIENT, 10_000);
    let data = chain.relay.home().join("message.txt");
    let text = String::from_utf8(mail.content.clone()).expect("UTF-8").replace("\r\n", "\n");
    fs::write(&data, text.trim_end_matches('\n')).expect("our folder");
    let implicit = options.contains(&"--tls-on-connect");
    let addr = if implicit { chain.relay.addr_tls } else { chain.relay.addr };
    let mut client = Command::new("swaks");
    client.args(["--server", &addr.ip().to_string(), "--port", &addr.port().to_string()]);
    client.args(["--from", SENDER, "--to", RECIPIENT, "--auth-user", APP]);
    client.args(["--auth-password", PASSWORD]).args(options);
    client.arg("--data").arg(format!("@{}", data.display()));
    tool::run(&mut client, b"", 60).expect_success();
    chain.expect_one(&mail.content);
}

#[test]
fn swaks_sends_through_starttls_with_plain() {
    check(&["--tls", "--auth", "PLAIN"]);
}

#[test]
fn swaks_sends_through_implicit_tls_with_login() {
    check(&["--tls-on-connect", "--auth", "LOGIN"]);
}

#[test]
fn swaks_pipelines() {
    check(&["--tls", "--auth", "PLAIN", "--pipeline"]);
}

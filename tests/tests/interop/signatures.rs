//! Our signatures, judged by dkimpy and by OpenDKIM.

use std::fs;
use std::process::Command;

use postern_tests::message::{Mail, find};
use postern_tests::relay::{DOMAIN, RECIPIENT, SENDER};
use postern_tests::tool;
use tempfile::TempDir;

use crate::Chain;

const SELECTOR: &str = "s2026";

/// A key, and the DNS record that verifiers are shown instead of asking anybody.
pub(crate) struct Signer {
    home: TempDir,
    record: String,
}

impl Signer {
    /// Makes a key with OpenSSL; `None` where that is missing.
    pub(crate) fn new() -> Option<Self> {
        if !tool::have(&["openssl"]) {
            return None;
        }
        let home = tempfile::tempdir().expect("a folder");
        let key = home.path().join("dkim.pem");
        let mut make = Command::new("openssl");
        make.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]);
        tool::run(make.arg(&key), b"", 60).expect_success();
        let mut public = Command::new("openssl");
        public.args(["pkey", "-pubout", "-in"]).arg(&key);
        let pem = tool::run(&mut public, b"", 20).expect_success().out;
        let base64: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
        let record = format!("v=DKIM1; k=rsa; p={base64}");
        fs::write(home.path().join("record.txt"), &record).expect("our folder");
        Some(Self { home, record })
    }

    /// For `postern init --dkim`.
    pub(crate) fn argument(&self) -> String {
        format!("{DOMAIN}:{SELECTOR}:{}", self.home.path().join("dkim.pem").display())
    }

    /// Both verifiers must accept the message, and refuse it once a byte of it is changed.
    #[track_caller]
    pub(crate) fn verify(&self, message: &[u8]) {
        let mut changed = message.to_vec();
        let body = find(message, b"\r\n\r\n").expect("a body") + 4;
        changed.insert(body, b'x');
        let second_author = [b"From: <ceo@other.example>\r\n".as_slice(), message].concat();
        if tool::have_python(&["dkim"]) {
            assert!(self.dkimpy(message), "dkimpy refuses\n{}", message.escape_ascii());
            assert!(!self.dkimpy(&changed), "dkimpy accepts a changed body");
            assert!(!self.dkimpy(&second_author), "dkimpy accepts a second author");
        }
        // Its test mode ends the header section with the first line of the body, so it sees none
        // where there is no body.
        if body < message.len() && tool::have(&["opendkim"]) {
            assert!(self.opendkim(message), "OpenDKIM refuses\n{}", message.escape_ascii());
            assert!(!self.opendkim(&changed), "OpenDKIM accepts a changed body");
        }
    }

    fn dkimpy(&self, message: &[u8]) -> bool {
        let mut verify = Command::new("python3");
        verify.arg(tool::script("interop/dkim_verify.py")).arg(self.home.path().join("record.txt"));
        let ran = tool::run(&mut verify, message, 60);
        assert!(matches!(ran.code, Some(0 | 1)), "{}{}", ran.out, ran.err);
        ran.success
    }

    fn opendkim(&self, message: &[u8]) -> bool {
        let home = self.home.path();
        let keys = home.join("keys");
        let conf = home.join("opendkim.conf");
        let mail = home.join("message.eml");
        fs::write(&keys, format!("{SELECTOR}._domainkey.{DOMAIN} {}\n", self.record))
            .expect("ours");
        fs::write(&conf, format!("Mode v\nSyslog no\nTestPublicKeys {}\n", keys.display()))
            .expect("ours");
        fs::write(&mail, message).expect("ours");
        let mut verify = Command::new(tool::find("opendkim").expect("looked up before"));
        verify.arg("-x").arg(&conf).arg("-t").arg(&mail).arg("-v");
        let ran = tool::run(&mut verify, b"", 60);
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains("verification"), "no verdict: {said}\n{}", message.escape_ascii());
        ran.success && said.contains("succeeded")
    }
}

#[test]
fn signatures_of_awkward_messages_verify() {
    let Some(chain) = Chain::start() else { return };
    let head = format!("From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: s\r\n");
    let dated = format!("{head}Message-ID: <a@b>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n");
    let contents = [
        format!("{dated}\r\n"),
        format!("{dated}\r\n\r\n\r\n"),
        format!("{dated}\r\nbody\r\n\r\n\r\n"),
        format!("{dated}\r\nbody \t \r\n  \t\r\n \r\n"),
        format!("{dated}\r\n \r\n\t\r\n"),
        format!("{dated}\r\n.\r\n..\r\n.dots\r\n"),
        format!("{dated}X-Folded: a\r\n\tb\r\n   c  \r\n\r\nbody\r\n"),
        format!("{dated}Subject: again\r\nTO: <x@y.example>\r\n\r\nbody\r\n"),
        format!("{dated}X-Empty:\r\nX-Space:   \r\n\r\nbody\r\n"),
        format!("{dated}\r\n{}\r\n", "word ".repeat(190).trim_end()),
        format!("{dated}\r\ncaf\u{e9} \u{65e5}\u{672c}\r\n"),
        format!("{head}\r\nno date, no message-id\r\n"),
        format!("{dated}\r\n{}", "line\r\n".repeat(20_000)),
    ];
    let mut client = chain.relay.connect();
    for (index, content) in contents.iter().enumerate() {
        let mail = Mail {
            from: SENDER.to_owned(),
            to: vec![RECIPIENT.to_owned()],
            content: content.clone().into_bytes(),
        };
        client.submit(&mail).expect(250);
        let stored = chain.postfix.wait_for(index + 1, 30);
        let arrived =
            stored.iter().map(|stored| postern_tests::postfix::Postfix::as_received(stored));
        let arrived: Vec<Vec<u8>> =
            arrived.filter(|got| got.ends_with(content.as_bytes())).collect();
        assert!(!arrived.is_empty(), "not byte-exact: {content:?}");
        arrived.iter().for_each(|arrived| chain.signer.verify(arrived));
    }
}

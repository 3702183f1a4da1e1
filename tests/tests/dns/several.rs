//! Several signatures on one message, each with its record in DNS: the author's domain with RSA and
//! Ed25519, an application with a selector of its own, the organisation's. Revoking one record fails
//! that one signature and no other.

use std::time::Duration;

use postern::control::dns::{Change, Done};
use postern_signer::dns::revoked_text;
use postern_tests::client::Client;
use postern_tests::dns::{self, Named, Unbound};
use postern_tests::message::Mail;
use postern_tests::relay::{DOMAIN, RECIPIENT, Relay, SENDER, Setup};
use postern_tests::sink::Sink;
use postern_tests::verifier::Verifier;

use crate::{updater, wait};

/// Of the organisation, in another zone of the test's server.
const ORGANISATION: &str = dns::OTHER_ZONE;
const TTL_S: u32 = 1;

/// One `[[dkim]]`, and what it publishes.
struct Entry {
    domain: &'static str,
    selector: &'static str,
    algorithm: &'static str,
    more: &'static [(&'static str, &'static str)],
}

const ENTRIES: &[Entry] = &[
    Entry {
        domain: ORGANISATION,
        selector: "corp",
        algorithm: "rsa",
        more: &[("authors", "*"), ("agent", "@keys.example")],
    },
    Entry { domain: DOMAIN, selector: "all", algorithm: "rsa", more: &[] },
    Entry { domain: DOMAIN, selector: "all-ed", algorithm: "ed25519", more: &[] },
    Entry { domain: DOMAIN, selector: "billing", algorithm: "rsa", more: &[("apps", "billing")] },
];

impl Entry {
    fn name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// Makes the key; returns its file and the text of its record.
    fn make(&self, relay: &Relay) -> (String, String) {
        let file = relay.home().join(format!("{}.pem", self.selector)).display().to_string();
        let (domain, selector) = (self.domain, self.selector);
        let new = ["keys", "new", domain, selector, "--algorithm", self.algorithm];
        let new: Vec<_> = new.into_iter().chain(["--out", &file, "--json"]).collect();
        let made: serde_json::Value =
            serde_json::from_str(&relay.command(&new).expect_success().out).expect("JSON");
        (file, made["record_text"].as_str().expect("the record's text").to_owned())
    }

    fn table(&self, file: &str) -> toml::Value {
        let fixed = [("domain", self.domain), ("selector", self.selector), ("key_file", file)];
        let all = fixed.iter().chain(self.more);
        let table = all.map(|(name, value)| ((*name).to_owned(), (*value).into()));
        toml::Value::Table(table.collect())
    }
}

#[test]
fn each_signature_stands_and_falls_with_its_own_record() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "");
    let unbound = Unbound::resolver(named.addr);
    let updater = updater(&named);
    let sink = Sink::start();
    let mut relay =
        Setup::new(sink.addr()).trusting_loopback().app("alerts", "a-password", DOMAIN).prepare();
    let mut records = Vec::new();
    let mut tables = Vec::new();
    for entry in ENTRIES {
        let (file, text) = entry.make(&relay);
        let add = Change::Add { text: &text };
        assert_eq!(wait(updater.update(&entry.name(), TTL_S, add)), Ok(Done::Changed));
        tables.push(entry.table(&file));
        records.push(text);
    }
    relay.reconfigure(|table| drop(table.insert("dkim".to_owned(), tables.into())));
    relay.start();

    // Without AUTH it is the first application, `billing`, which has a selector of its own.
    let mail = Mail::with_body(SENDER, RECIPIENT, b"an invoice\r\n");
    relay.connect().submit(&mail).expect(250);
    let received = sink.wait_for(1, 30).remove(0).content;
    let verifier = Verifier::new(unbound.addr);
    let good =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), true)).collect::<Vec<_>>();
    let text = String::from_utf8_lossy(&received);
    assert_eq!(verifier.verify_each(&received), good(&["billing", "corp", "all-ed"]), "{text}");
    assert!(text.contains("i=@keys.example;"), "{text}");

    // The application's key is revoked: its signature fails, the others hold.
    let revoke = Change::Replace { known: &records[3], text: revoked_text() };
    assert_eq!(wait(updater.update(&ENTRIES[3].name(), TTL_S, revoke)), Ok(Done::Changed));
    std::thread::sleep(Duration::from_secs(u64::from(TTL_S) + 1));
    let mut expected = good(&["billing", "corp", "all-ed"]);
    expected[0].1 = false;
    assert_eq!(verifier.verify_each(&received), expected);

    // Another application of the same domain is not touched by that.
    Client::authenticated(relay.addr, "alerts", "a-password").submit(&mail).expect(250);
    let received = sink.wait_for(2, 30).remove(1).content;
    assert_eq!(verifier.verify_each(&received), good(&["all", "corp", "all-ed"]));
    assert!(relay.terminate().success());
    sink.stop();
}

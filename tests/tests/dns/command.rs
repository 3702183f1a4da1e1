//! `postern keys export`, `publish`, `check` and `withdraw`, from outside, against BIND and unbound.

use std::net::SocketAddr;

use postern_tests::dns::{self, KEY, Named, Unbound, ZONE};
use postern_tests::relay::{Relay, Setup};

/// A relay that signs for the zone with RSA and Ed25519; it is never started.
fn relay() -> Relay {
    let next_hop = SocketAddr::from(([127, 0, 0, 1], 9));
    let key = |name: &str| format!("{ZONE}:{name}:{name}.pem");
    Setup::new(next_hop).option("--dkim", &key("2026a")).prepare()
}

/// The arguments of a change at the test's server.
fn at(named: &Named) -> Vec<String> {
    let secret = named.secret_file().display().to_string();
    let server = named.addr.to_string();
    ["--server", &server, "--tsig-name", KEY, "--tsig-secret-file", &secret]
        .map(str::to_owned)
        .to_vec()
}

fn run(relay: &Relay, arguments: &[&str], more: &[String]) -> postern_tests::tool::Ran {
    let all: Vec<_> = arguments.iter().copied().chain(more.iter().map(String::as_str)).collect();
    relay.command(&all)
}

#[test]
fn a_key_is_published_seen_everywhere_and_withdrawn() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "");
    let unbound = Unbound::resolver(named.addr);
    let relay = relay();
    let servers =
        ["--resolver", &unbound.addr.to_string(), "--authoritative", &named.addr.to_string()]
            .map(str::to_owned);

    let exported = run(&relay, &["keys", "export"], &[]).expect_success().out;
    assert!(exported.starts_with(&format!("2026a._domainkey.{ZONE}. 3600 IN TXT (")), "{exported}");

    // An authoritative server alone, so that no resolver remembers that there was nothing.
    let missing = run(&relay, &["keys", "check", "--json"], &servers[2..]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    let published = run(&relay, &["keys", "publish", ZONE, "2026a"], &at(&named)).expect_success();
    assert!(published.out.contains("is published"), "{}", published.out);
    let again = run(&relay, &["keys", "publish", ZONE, "2026a"], &at(&named)).expect_success();
    assert!(again.out.contains("already"), "{}", again.out);

    let seen = run(&relay, &["keys", "check", "--json"], &servers).expect_success();
    let seen: serde_json::Value = serde_json::from_str(&seen.out).expect("JSON");
    assert_eq!(seen[0]["is_seen_everywhere"], true, "{seen}");
    assert_eq!(seen[0]["servers"].as_array().map(Vec::len), Some(2), "{seen}");

    let refused = run(&relay, &["keys", "withdraw", ZONE, "2026a"], &at(&named));
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("still signs with this key"), "{}", refused.err);
    run(&relay, &["keys", "withdraw", ZONE, "2026a", "--force"], &at(&named)).expect_success();
    let revoked = run(&relay, &["keys", "check"], &servers[2..]);
    assert_eq!(revoked.code, Some(1));
    assert!(revoked.out.contains("has the key revoked"), "{}", revoked.out);
}

#[test]
fn a_wrong_secret_and_an_unknown_key_are_told() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "");
    let relay = relay();
    let mut wrong = at(&named);
    wrong[3] = "stranger".to_owned();
    let refused = run(&relay, &["keys", "publish", ZONE, "2026a"], &wrong);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("key"), "{}", refused.err);
    let unknown = run(&relay, &["keys", "publish", ZONE, "2030a"], &at(&named));
    assert!(unknown.err.contains("no usable key 2030a"), "{}", unknown.err);
    let nothing = run(&relay, &["keys", "check", "example.net"], &[]);
    assert!(nothing.err.contains("signs with no such key"), "{}", nothing.err);
}

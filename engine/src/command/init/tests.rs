//! What `init` writes is accepted, does what the flags say, and destroys nothing.

use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use super::super::load;
use super::*;
use crate::access::check_password;
use crate::config::{ListenerTls, NextHopTls, Snapshot};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// Flags as on the command line; `--out` and `--dir` are added.
fn init(folder: &Path, flags: &[&str]) -> Result<(), Failure> {
    let out = folder.join("etc/postern.toml").display().to_string();
    let dir = folder.join("data").display().to_string();
    fs::create_dir_all(folder.join("etc")).expect("a writable folder");
    let base = ["init", "--out", &out, "--dir", &dir];
    let line = Line::try_parse_from(base.iter().chain(flags)).map_err(Failure::usage)?;
    execute(&line.args, &GlobalOptions { config: None, json: true })
}

fn made(folder: &Path) -> std::sync::Arc<Snapshot> {
    match load(&folder.join("etc/postern.toml")) {
        Ok(loaded) => loaded.snapshot,
        Err(report) => panic!("{report}"),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

const APP: &str = "billing:pass:word:example.com";

#[test]
fn the_least_flags_give_a_usable_configuration() {
    let folder = folder();
    init(folder.path(), &["--app", APP, "--next-hop", "mail.example.com:587"]).expect("works");
    let snapshot = made(folder.path());
    assert!(matches!(snapshot.listeners[0].tls, ListenerTls::StartTls(_)));
    let app = snapshot.access.app("billing").expect("the application");
    let hash = app.password_hash.as_ref().expect("a hash");
    assert!(check_password(hash.expose(), b"pass:word"));
    assert!(app.senders.contains("anybody@example.com"));
    let route = snapshot.routes.of("example.org").expect("a route");
    assert_eq!(route.tls, NextHopTls::RequireVerified);
    assert!(snapshot.spool.seal.is_some() && snapshot.filters.enabled && !snapshot.queue.hold);
    let mode = |name: &str| {
        let found = fs::metadata(folder.path().join(name)).expect("made");
        found.permissions().mode() & 0o777
    };
    assert_eq!(mode("etc/postern.toml"), 0o600);
    assert_eq!(mode("data"), 0o700);
    assert_eq!(mode("data/relay.key"), 0o600);
    assert_eq!(mode("data/spool.key"), 0o600);
}

#[test]
fn all_flags_arrive() {
    let folder = folder();
    let key = folder.path().join("keys/dkim.pem").display().to_string();
    let dkim = format!("example.com:2026a:{key}");
    let flags = [
        "--hostname",
        "relay.example.com",
        "--listen",
        "127.0.0.1:2525",
        "--listen",
        "[::1]:2525",
        "--listen-tls",
        "0.0.0.0:4650",
        "--next-hop",
        "127.0.0.1:2526",
        "--next-hop",
        "[::1]:2526",
        "--next-hop-tls",
        "none",
        "--app",
        APP,
        "--app",
        "codes:secret:codes.example.com",
        "--allow-network",
        "192.0.2.0/24",
        "--allow-network",
        "2001:db8::/32",
        "--dkim",
        &dkim,
        "--cores",
        "0",
        "--no-filters",
        "--hold",
        "--insecure-plaintext-auth",
    ];
    init(folder.path(), &flags).expect("works");
    let snapshot = made(folder.path());
    assert_eq!(snapshot.server.hostname, "relay.example.com");
    assert_eq!(snapshot.server.cores, [0]);
    let [first, second, third] = &*snapshot.listeners else { panic!("three listeners") };
    assert!(first.insecure_plaintext_auth && second.insecure_plaintext_auth);
    assert!(!third.insecure_plaintext_auth && matches!(third.tls, ListenerTls::Implicit(_)));
    let route = snapshot.routes.of("example.org").expect("a route");
    assert_eq!((route.next_hops.len(), route.tls), (2, NextHopTls::None));
    let found = snapshot.access.app_at("192.0.2.9".parse().expect("an address"));
    assert_eq!(found.map(|app| &*app.id), Some("billing"));
    assert!(snapshot.access.app("codes").is_some_and(|app| app.networks.is_empty()));
    assert!(snapshot.dkim.of("example.com").is_some(), "the key was made");
    assert!(!snapshot.filters.enabled && snapshot.queue.hold);
}

#[test]
fn a_network_alone_is_enough_and_hold_needs_no_next_hop() {
    let folder = folder();
    let flags = ["--app", "legacy::example.com", "--allow-network", "127.0.0.1", "--hold"];
    init(folder.path(), &flags).expect("works");
    let snapshot = made(folder.path());
    assert!(snapshot.access.app("legacy").is_some_and(|app| app.password_hash.is_none()));
    assert!(snapshot.routes.of("example.org").is_none());
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_no_configuration() {
    for (flags, expected) in [
        (vec!["--next-hop", "a:25"], "--app"),
        (vec!["--app", APP], "--next-hop"),
        (vec!["--app", "billing", "--hold"], "ID:PASSWORD:SENDER-DOMAIN"),
        (vec!["--app", "billing:x:not a domain", "--hold"], "not a domain name"),
        (vec!["--app", "billing::example.com", "--hold"], "no password"),
        (vec!["--app", APP, "--next-hop", "mail.example.com"], "no port"),
        (vec!["--app", APP, "--hold", "--allow-network", "office"], "not an IP network"),
        (vec!["--app", APP, "--hold", "--dkim", "example.com"], "DOMAIN:SELECTOR:KEYFILE"),
        (vec!["--app", APP, "--hold", "--cert", "/nonexistent", "--key", "/nonexistent"], "--cert"),
        (vec!["--app", APP, "--hold", "--cert", "/nonexistent"], "--key"),
        (vec!["--app", APP, "--hold", "--cores", "9999"], "no core 9999"),
        (vec!["--app", "two words:x:example.com", "--hold"], "cannot be an application's id"),
        (
            vec!["--app", APP, "--hold", "--listen", "0.0.0.0:25", "--insecure-plaintext-auth"],
            "loopback",
        ),
    ] {
        let folder = folder();
        let failure = init(folder.path(), &flags).expect_err("refused");
        assert!(failure.text.contains(expected), "{flags:?}: {failure}");
        assert!(!folder.path().join("etc/postern.toml").exists(), "{flags:?}");
    }
}

#[test]
fn nothing_is_overwritten() {
    let folder = folder();
    init(folder.path(), &["--app", APP, "--hold"]).expect("works");
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    let names = ["etc/postern.toml", "data/spool.key", "data/relay.key"];
    let before = names.map(read);
    let failure = init(folder.path(), &["--app", APP, "--hold"]).expect_err("refused");
    assert!(failure.text.contains("not overwritten"), "{failure}");
    fs::remove_file(folder.path().join("etc/postern.toml")).expect("removed");
    init(folder.path(), &["--app", APP, "--hold"]).expect("works again");
    assert_eq!(before[1..], names.map(read)[1..], "keys are kept");
}

//! The folder's rules, and how claims are told; the story itself is played in `tests/`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::claim::Claim;
use super::folder::{APPS, Folder};
use crate::config::Lane;

#[test]
fn the_folder_is_private_and_holds_a_usable_configuration() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let path = base.path().join("demo");
    let folder = Folder::open(&path, false, [0; 3]).expect("is made");
    assert!(!folder.is_reused);
    let mode =
        |name: &str| fs::metadata(path.join(name)).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for secret in ["relay.key", "dkim.pem", "passwords.toml", "postern.toml", "data/spool.key"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    for (id, lane) in APPS {
        let app = folder.snapshot.access.app(id).expect("is configured");
        assert_eq!(app.lane, lane);
        assert!(folder.password(id).is_ok());
    }
    assert_eq!(APPS.map(|(_, lane)| lane), [Lane::Normal, Lane::Urgent, Lane::Bulk]);
    assert!(folder.bind_next_hop().is_ok());
}

#[test]
fn a_second_run_reuses_it_and_fresh_does_not() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let path = base.path().join("demo");
    let read = |name: &str| fs::read(path.join(name)).expect("is there");
    Folder::open(&path, false, [0; 3]).expect("is made");
    let first = read("dkim.pem");
    assert!(Folder::open(&path, false, [0; 3]).expect("is there").is_reused);
    assert_eq!(read("dkim.pem"), first);
    // As an interrupted run leaves it.
    fs::remove_file(path.join("postern.toml")).expect("is there");
    assert!(!Folder::open(&path, false, [0; 3]).expect("is made anew").is_reused);
    let second = read("dkim.pem");
    assert_ne!(second, first);
    assert!(!Folder::open(&path, true, [0; 3]).expect("is made anew").is_reused);
    assert_ne!(read("dkim.pem"), second);
}

#[test]
fn what_carries_no_mark_is_neither_used_nor_deleted() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let empty = base.path().join("empty");
    fs::create_dir(&empty).expect("a writable folder");
    assert!(Folder::open(&empty, true, [0; 3]).is_ok(), "an empty folder is as good as none");
    let full = base.path().join("full");
    fs::create_dir(&full).expect("a writable folder");
    fs::write(full.join("file"), "").expect("a writable folder");
    assert!(Folder::open(&full, true, [0; 3]).is_err());
    assert!(full.join("file").exists());
    let link = base.path().join("link");
    std::os::unix::fs::symlink(&empty, &link).expect("a writable folder");
    assert!(Folder::open(&link, true, [0; 3]).is_err(), "a link may lead anywhere");
    assert!(empty.join("postern.toml").exists());
}

#[test]
fn a_taken_port_is_told_with_the_way_out() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let path = base.path().join("demo");
    let folder = Folder::open(&path, false, [0; 3]).expect("is made");
    let held = std::net::TcpListener::bind(folder.snapshot.listeners[0].address).expect("is free");
    let failure = Folder::open(&path, false, [0; 3]).err().expect("the port is taken");
    assert!(failure.text.contains("cannot listen on") && failure.text.contains("--fresh"));
    drop(held);
    assert!(Folder::open(&path, false, [0; 3]).is_ok());
}

#[test]
fn a_claim_is_a_line_of_a_hundred_columns() {
    let took = Duration::from_micros(1_234);
    let short = Claim::time("it works", true, took, "at once").lines(false);
    assert_eq!(short, " ok  it works                               1.23 ms     at once",);
    let long = Claim::time("it works", false, took, "again ".repeat(40)).lines(false);
    assert!(long.starts_with("FAIL it works") && long.ends_with("..."), "{long}");
    assert_eq!(long.lines().count(), 2);
    assert!(long.lines().all(|line| line.chars().count() <= 100), "{long}");
    let json = serde_json::to_value(Claim::count("cards", true, 550, "reply", "no")).expect("JSON");
    let expected = serde_json::json!(
        {"claim": "cards", "ok": true, "value": 550, "unit": "reply", "detail": "no"}
    );
    assert_eq!(json, expected);
    assert!(Claim::broken("cards", "why").lines(true).contains("\u{1b}[1;31mFAIL"));
}

//! Dynamic update against BIND: what is changed, what is not overwritten, what refusals say.

use std::net::TcpListener;
use std::time::Duration;

use postern::control::dns::{
    Change, Done, TsigAlgorithm, TsigKey, TsigKeyError, UpdateError, UpdateOptions, Updater,
};
use postern_signer::dns::revoked_text;
use postern_tests::dns::{
    self, BROKEN_ZONE, KEY, LONGER_KEYS, Named, OTHER_KEY, OTHER_ZONE, SECRET, ZONE,
};
use postern_tests::{address, tool};

use crate::{change, name, record, updater, updater_with, wait};

/// What the server has at a name, by a client that is not ours.
fn dig(named: &Named, name: &str) -> Option<Vec<String>> {
    if !tool::have(&["dig"]) {
        return None;
    }
    let (server, port) = (format!("@{}", named.addr.ip()), named.addr.port().to_string());
    let mut dig = std::process::Command::new("dig");
    let ran = tool::run(dig.args([&server, "-p", &port, "+short", "TXT", name]), b"", 20);
    let lines = ran.expect_success().out;
    Some(lines.lines().map(|line| line.replace("\" \"", "").replace('"', "")).collect())
}

#[test]
fn a_record_is_published_replaced_withdrawn_and_taken_away() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "");
    let updater = updater(&named);
    let (first, second) = (record(2048, 'A'), record(4096, 'B'));
    let is = |wanted: &[&str]| {
        if let Some(found) = dig(&named, &name()) {
            assert_eq!(found, wanted);
        }
    };
    assert_eq!(change(&updater, Change::Add { text: &first }), Ok(Done::Changed));
    is(&[&first]);
    assert_eq!(change(&updater, Change::Add { text: &first }), Ok(Done::AlreadyThere));
    let replace = Change::Replace { known: &first, text: &second };
    assert_eq!(change(&updater, replace), Ok(Done::Changed));
    is(&[&second]);
    assert_eq!(change(&updater, replace), Ok(Done::AlreadyThere));
    let withdraw = Change::Replace { known: &second, text: revoked_text() };
    assert_eq!(change(&updater, withdraw), Ok(Done::Changed));
    is(&[revoked_text()]);
    let remove = Change::Remove { known: revoked_text() };
    assert_eq!(change(&updater, remove), Ok(Done::Changed));
    is(&[]);
    assert_eq!(change(&updater, remove), Ok(Done::AlreadyThere));
}

#[test]
fn what_was_published_survives_a_crash_of_the_server() {
    if !dns::have() {
        return;
    }
    let mut named = Named::start("", "");
    let updater = updater(&named);
    let first = record(2048, 'A');
    assert_eq!(change(&updater, Change::Add { text: &first }), Ok(Done::Changed));
    named.kill();
    let down = change(&updater, Change::Remove { known: &first });
    assert!(matches!(down, Err(UpdateError::Unreachable(_))), "{down:?}");
    named.start_again();
    assert_eq!(change(&updater, Change::Add { text: &first }), Ok(Done::AlreadyThere));
}

#[test]
fn a_second_writer_is_noticed_and_not_overwritten() {
    if !dns::have() {
        return;
    }
    let (ours, theirs) = (record(2048, 'A'), record(2048, 'B'));
    let line = format!(
        "2026h2._domainkey 60 IN TXT \"{}\" \"{}\"\n\
         two._domainkey 60 IN TXT \"one\"\ntwo._domainkey 60 IN TXT \"two\"",
        &theirs[..200],
        &theirs[200..]
    );
    let named = Named::start(&line, "");
    let updater = updater(&named);
    let noticed = Err(UpdateError::SecondWriter(Some(theirs.clone())));
    for attempt in [
        Change::Add { text: &ours },
        Change::Replace { known: &ours, text: revoked_text() },
        Change::Remove { known: &ours },
    ] {
        assert_eq!(change(&updater, attempt), noticed);
    }
    // What was cut elsewhere than we cut is still the value that was known.
    let replace = Change::Replace { known: &theirs, text: &ours };
    assert_eq!(change(&updater, replace), Ok(Done::Changed));
    let two = format!("two._domainkey.{ZONE}");
    let several = wait(updater.update(&two, 60, Change::Remove { known: "one" }));
    assert!(matches!(several, Err(UpdateError::SecondWriter(Some(_)))), "{several:?}");
}

/// Two who replace the same value at the same time: the server's check of the prerequisite lets
/// exactly one win.
#[test]
fn of_two_writers_at_once_one_wins() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "");
    let updater = updater(&named);
    let mut known = record(2048, 'A');
    assert_eq!(change(&updater, Change::Add { text: &known }), Ok(Done::Changed));
    for round in 0..20_u8 {
        let texts =
            [record(2048, char::from(b'B' + round)), record(2048, char::from(b'b' + round))];
        let change = |text| Change::Replace { known: &known, text };
        let (name, other) = (name(), updater.clone());
        let outcomes = wait(async {
            tokio::join!(
                updater.update(&name, 60, change(&texts[0])),
                other.update(&name, 60, change(&texts[1])),
            )
        });
        let winner = match outcomes {
            (Ok(Done::Changed), Err(UpdateError::SecondWriter(_))) => 0,
            (Err(UpdateError::SecondWriter(_)), Ok(Done::Changed)) => 1,
            both => panic!("round {round}: {both:?}"),
        };
        known = texts[winner].clone();
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    if !dns::have() {
        return;
    }
    let line = format!("moved._domainkey 60 IN CNAME moved.{OTHER_ZONE}.");
    let named = Named::start(&line, "");
    let (text, updater) = (record(2048, 'A'), updater(&named));
    let add = Change::Add { text: &text };
    let by = |key, secret: &[u8]| change(&updater_with(&named, key, secret), add);
    assert_eq!(by("nobody", SECRET), Err(UpdateError::BadKey));
    assert_eq!(by(KEY, b"another secret of thirty-two oct"), Err(UpdateError::BadSignature));
    assert_eq!(by(OTHER_KEY, SECRET), Err(UpdateError::Refused));
    let at = |name: &str| wait(updater.update(name, 60, add));
    assert_eq!(at(&format!("2026h2.{ZONE}")), Err(UpdateError::Refused));
    assert_eq!(at("s._domainkey.nowhere.example"), Err(UpdateError::Refused));
    assert_eq!(at(&format!("s._domainkey.{BROKEN_ZONE}")), Err(UpdateError::ServFail));
    assert_eq!(at("no..name"), Err(UpdateError::NoZone("no..name".to_owned())));
    let delegated = UpdateError::Delegated(format!("moved.{OTHER_ZONE}"));
    assert_eq!(at(&format!("moved._domainkey.{ZONE}")), Err(delegated));
}

#[test]
fn updates_are_signed_with_longer_hashes_too() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "");
    let mut known = record(2048, 'A');
    assert_eq!(change(&updater(&named), Change::Add { text: &known }), Ok(Done::Changed));
    for (fill, (key, algorithm)) in ['B', 'C'].into_iter().zip(LONGER_KEYS) {
        let algorithm = algorithm.parse().expect("is one");
        let key = TsigKey::new(key, algorithm, SECRET.to_vec());
        let updater = Updater::new(UpdateOptions {
            server: named.addr,
            key: key.unwrap_or_else(|why| panic!("{why}")),
            timeout: Duration::from_secs(3),
            attempts: 1,
        });
        let text = record(2048, fill);
        let replace = Change::Replace { known: &known, text: &text };
        assert_eq!(change(&updater, replace), Ok(Done::Changed));
        known = text;
    }
}

#[test]
fn a_clock_that_is_wrong_is_named() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "");
    let text = record(2048, 'A');
    for (hours, word) in [(-2_i64, "ahead of"), (3, "behind")] {
        let updater = updater(&named).with_clock_off_s(hours * 3_600);
        let Err(UpdateError::BadTime(Some(skew))) = change(&updater, Change::Add { text: &text })
        else {
            panic!("the server took an update of another hour")
        };
        assert!((skew + hours * 3_600).abs() < 60, "{skew}");
        assert!(UpdateError::BadTime(Some(skew)).to_string().contains(word));
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let silent = TcpListener::bind(address::own_port(5300)).expect("a listener");
    let socket = std::net::UdpSocket::bind(silent.local_addr().expect("has one"));
    let socket = socket.expect("a socket");
    let key = TsigKey::new(KEY, TsigAlgorithm::HmacSha512, SECRET.to_vec());
    let options = UpdateOptions {
        server: socket.local_addr().expect("has one"),
        key: key.unwrap_or_else(|why| panic!("{why}")),
        timeout: Duration::from_millis(100),
        attempts: 2,
    };
    let text = record(2048, 'A');
    let outcome = change(&Updater::new(options), Change::Add { text: &text });
    assert_eq!(outcome, Err(UpdateError::Timeout));
}

#[test]
fn a_secret_is_read_from_a_file_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    let read = |content: &str| {
        std::fs::write(&path, content).expect("is written");
        TsigKey::read(&path, KEY, TsigAlgorithm::HmacSha256)
    };
    assert!(read(" dGhpcnR5LXR3byBvY3RldHMgZm9yIHRoZSB0ZXN0cy4=\n").is_ok());
    assert!(matches!(read("c2hvcnQ="), Err(TsigKeyError::Short(_, 5))));
    let clause = "key \"postern\" { algorithm hmac-sha256; secret \"c2hvcnQ=\"; };";
    let Err(error) = read(clause) else { panic!("a clause is no secret") };
    assert!(error.to_string().contains("the secret alone") && !error.to_string().contains("c2h"));
    std::fs::remove_file(&path).expect("is there");
    let missing = TsigKey::read(&path, KEY, TsigAlgorithm::HmacSha256);
    assert!(matches!(missing, Err(TsigKeyError::File(..))));
}

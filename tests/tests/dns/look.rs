//! What a look says of BIND and unbound, sound and otherwise.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use postern::control::dns::{Change, Done, Look, LookOptions, Looker, Role, Sighting};
use postern_signer::dns::{Difference, Expected, Split, revoked_text};
use postern_tests::dns::{self, BROKEN_ZONE, NEGATIVE_TTL_S, Named, OTHER_ZONE, Unbound, ZONE};
use postern_tests::{address, tool};

use crate::{change, looker, name, record, updater, wait};

fn expected(text: &str) -> Expected {
    Expected::new(text).expect("is a record")
}

/// What the authoritative server and the resolver have.
fn both(look: Look) -> (Sighting, Sighting) {
    let [authoritative, resolver] = look.sightings.try_into().expect("one of each");
    assert_eq!(authoritative.server.role, Role::Authoritative);
    assert_eq!(resolver.server.role, Role::Resolver);
    (authoritative.sighting, resolver.sighting)
}

#[test]
fn a_record_is_seen_as_it_comes_changes_and_goes() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "");
    let unbound = Unbound::resolver(named.addr);
    let (looker, updater) = (looker(&named, &unbound), updater(&named));
    let (first, second) = (record(2048, 'A'), record(2048, 'B'));
    let look = |text: &str, older: &str| {
        let expected = expected(text).with_older(older).expect("is a record");
        wait(looker.look(&name(), &expected))
    };
    let missing = look(&first, &second);
    assert!(!missing.is_seen_everywhere() && missing.seen(Role::Resolver) == (0, 1));
    let (authoritative, resolver) = both(missing);
    assert_eq!(authoritative, Sighting::Missing { negative_ttl_s: Some(NEGATIVE_TTL_S) });
    assert!(matches!(resolver, Sighting::Missing { negative_ttl_s: Some(_) }), "{resolver:?}");

    assert_eq!(change(&updater, Change::Add { text: &first }), Ok(Done::Changed));
    // The resolver may still say that there is nothing: for as long as it was told.
    let (authoritative, resolver) = both(look(&first, &second));
    assert_eq!(authoritative, Sighting::Seen { ttl_s: 60 });
    assert!(matches!(resolver, Sighting::Missing { .. }), "{resolver:?}");
    std::thread::sleep(Duration::from_secs(u64::from(NEGATIVE_TTL_S) + 1));
    let seen = look(&first, &second);
    assert!(seen.is_seen_everywhere(), "{seen:?}");
    assert_eq!(seen.ttl_max(), Duration::from_secs(60));
    assert_eq!(seen.obstacles().count(), 0);

    // The resolver keeps the old value for the rest of its time to live.
    let replace = Change::Replace { known: &first, text: &second };
    assert_eq!(change(&updater, replace), Ok(Done::Changed));
    let (authoritative, resolver) = both(look(&second, &first));
    assert_eq!(authoritative, Sighting::Seen { ttl_s: 60 });
    let Sighting::Wrong { what: Difference::Stale, ttl_s } = resolver else {
        panic!("{resolver:?}")
    };
    assert!((30..=60).contains(&ttl_s), "{ttl_s}");

    let withdraw = Change::Replace { known: &second, text: revoked_text() };
    assert_eq!(change(&updater, withdraw), Ok(Done::Changed));
    let (authoritative, _) = both(look(&second, &first));
    assert_eq!(authoritative, Sighting::Revoked { ttl_s: 60 });
    let (authoritative, _) = both(look(revoked_text(), &second));
    assert_eq!(authoritative, Sighting::Seen { ttl_s: 60 });
}

#[test]
fn wrong_records_are_told_apart() {
    if !dns::have() {
        return;
    }
    let (right, other) = (record(2048, 'A'), record(2048, 'B'));
    let (first, second) = right.split_at(255);
    let lines = [
        format!("other._domainkey IN TXT ( \"{}\" \"{}\" )", &other[..255], &other[255..]),
        "spf._domainkey IN TXT \"v=spf1 -all\"".to_owned(),
        format!(
            "quotes._domainkey IN TXT ( \"\\\"{}\" \"{}\\\" \\\"\" \"{second}\\\"\" )",
            &first[..200],
            &first[200..]
        ),
        format!("pieces._domainkey IN TXT \"{first}\"\npieces._domainkey IN TXT \"{second}\""),
        format!("cut._domainkey IN TXT \"{first}\""),
        "twice._domainkey IN TXT \"a\"\ntwice._domainkey IN TXT \"v=DKIM1; p=QUJD\"".to_owned(),
        format!("testing._domainkey IN TXT ( \"t=y; {}\" \"{second}\" )", &first[9..]),
        format!("apart._domainkey IN TXT ( \"{}\" \"{}\" )", &right[..80], &right[80..300]),
        "revoked._domainkey IN TXT \"p=\"".to_owned(),
        "*.wild._domainkey IN TXT \"v=spf1 -all\"".to_owned(),
    ];
    let named = Named::start(&lines.join("\n"), "");
    let unbound = Unbound::resolver(named.addr);
    let looker = looker(&named, &unbound);
    let fault = Difference::Unparsable;
    let version = postern_signer::dns::RecordFault::Version;
    for (selector, wanted) in [
        ("other", Difference::OtherKey),
        ("spf", fault(version.clone())),
        ("quotes", Difference::SplitWrong(Split::QuotesInside)),
        ("pieces", Difference::SplitWrong(Split::StringPerRecord)),
        ("cut", Difference::SplitWrong(Split::CutOff)),
        ("twice", Difference::SeveralRecords(2)),
        ("testing", Difference::Unusable("t")),
        ("apart", Difference::SplitWrong(Split::CutOff)),
        ("a.wild", fault(version)),
    ] {
        let look = wait(looker.look(&format!("{selector}._domainkey.{ZONE}"), &expected(&right)));
        assert!(look.obstacles().count() == 2, "{look:?}");
        for sighting in <[_; 2]>::from(both(look)) {
            let Sighting::Wrong { what, .. } = &sighting else {
                panic!("{selector}: {sighting:?}")
            };
            assert_eq!(*what, wanted, "{selector}");
            assert!(!sighting.advice().is_empty());
        }
    }
    let look = wait(looker.look(&format!("revoked._domainkey.{ZONE}"), &expected(&right)));
    assert!(matches!(both(look), (Sighting::Revoked { .. }, Sighting::Revoked { .. })));
}

#[test]
fn servers_that_fail_are_told_apart() {
    if !dns::have() {
        return;
    }
    let mut named = Named::start("", "");
    let unbound = Unbound::resolver(named.addr);
    let silent = UdpSocket::bind(address::own_port(5300)).expect("a socket");
    let nobody = SocketAddr::new(address::own(), 5300);
    let text = expected(&record(2048, 'A'));
    let options = |authoritative, resolver| LookOptions {
        resolvers: vec![resolver],
        authoritative: vec![authoritative],
        timeout: Duration::from_millis(500),
        attempts: 2,
    };
    let look = |authoritative, resolver, name: &str| {
        both(wait(Looker::new(options(authoritative, resolver)).look(name, &text)))
    };
    let broken = format!("s._domainkey.{BROKEN_ZONE}");
    let servfail = (Sighting::ServFail, Sighting::ServFail);
    assert_eq!(look(named.addr, unbound.addr, &broken), servfail);
    let began = Instant::now();
    let quiet = silent.local_addr().expect("has one");
    assert_eq!(look(quiet, quiet, &name()), (Sighting::Timeout, Sighting::Timeout));
    assert!(began.elapsed() < Duration::from_secs(5));
    let (one, two) = look(nobody, nobody, &name());
    assert!(matches!((one, two), (Sighting::Unreachable(_), Sighting::Unreachable(_))));
    // A resolver is no authoritative server; one that is does not resolve for us.
    let (lame, refused) = look(unbound.addr, named.addr, "s._domainkey.nowhere.example");
    assert!(matches!(lame, Sighting::ServFail | Sighting::Refused | Sighting::NotAuthoritative));
    assert_eq!(refused, Sighting::Refused);
    let (lame, _) = look(unbound.addr, unbound.addr, &name());
    assert_eq!(lame, Sighting::NotAuthoritative);
    named.pause();
    let (authoritative, _) = look(named.addr, unbound.addr, &name());
    assert_eq!(authoritative, Sighting::Timeout);
    named.resume();
    named.kill();
    let (authoritative, _) = look(named.addr, unbound.addr, &name());
    assert!(matches!(authoritative, Sighting::Unreachable(_)), "{authoritative:?}");
}

#[test]
fn a_delegation_is_followed_to_the_zone_that_has_the_record() {
    if !dns::have() {
        return;
    }
    let text = record(2048, 'A');
    let target = format!("2026h2._domainkey.{OTHER_ZONE}");
    let named = Named::start(&format!("2026h2._domainkey IN CNAME {target}."), "");
    let unbound = Unbound::resolver(named.addr);
    let looker = looker(&named, &unbound);
    let missing = wait(looker.look(&name(), &expected(&text)));
    assert_eq!(missing.name, target);
    assert!(matches!(both(missing), (Sighting::Missing { .. }, Sighting::Missing { .. })));
    let added = wait(updater(&named).update(&target, 60, Change::Add { text: &text }));
    assert_eq!(added, Ok(Done::Changed));
    std::thread::sleep(Duration::from_secs(u64::from(NEGATIVE_TTL_S) + 1));
    let look = wait(looker.look(&name(), &expected(&text)));
    assert!(look.is_seen_everywhere() && look.name == target, "{look:?}");
}

#[test]
fn an_answer_that_does_not_fit_comes_over_tcp() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "max-udp-size 512;");
    let unbound = Unbound::resolver(named.addr);
    let text = record(4096, 'A');
    assert_eq!(change(&updater(&named), Change::Add { text: &text }), Ok(Done::Changed));
    let look = wait(looker(&named, &unbound).look(&name(), &expected(&text)));
    assert!(look.is_seen_everywhere(), "{look:?}");
    // BIND marks a question over TCP with a T.
    let log = named.log();
    let over_tcp = |line: &&str| line.contains("IN TXT -E(0)T");
    assert!(log.lines().find(over_tcp).is_some_and(|line| line.contains(&name())), "{log}");
}

#[test]
fn authoritative_servers_are_found_by_ns_records() {
    if !dns::have() || !tool::is_root() {
        return;
    }
    let text = record(2048, 'A');
    let (first, second) = text.split_at(255);
    let line = format!("2026h2._domainkey IN TXT ( \"{first}\" \"{second}\" )");
    let authority = Unbound::authoritative(&line);
    let unbound = Unbound::resolver(authority.addr);
    let options = LookOptions { resolvers: vec![unbound.addr], ..LookOptions::default() };
    let looker = Looker::new(options);
    let look = wait(looker.look(&name(), &expected(&text)));
    assert!(look.is_seen_everywhere(), "{look:?}");
    let server = &look.sightings[0].server;
    assert_eq!((&*server.name, server.address), ("ns1.one.example", Some(authority.addr)));
    let look = wait(looker.look("s._domainkey.nowhere.nothere", &expected(&text)));
    assert!(matches!(look.sightings[0].sighting, Sighting::NoServers(_)), "{look:?}");
}

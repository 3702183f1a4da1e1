//! What is covered, what is hashed, and how the field looks.

use super::*;
use crate::canon::BodyHasher;
use crate::key::Ed25519PrivateKey;

const NOW_UNIX_S: u64 = 1_790_000_000;

fn profile() -> Profile {
    Profile::new("example.org".parse().expect("is valid"), "2026h2".parse().expect("is valid"))
}

fn body() -> BodyHash {
    BodyHasher::new(Canonicalization::Relaxed).finish()
}

fn prepare(profile: &Profile, section: &[u8]) -> Unsigned {
    profile.prepare(&[section], &body(), NOW_UNIX_S).expect("has one From")
}

/// The value of a tag of the field, unfolded.
fn tag(field: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8(field.to_vec()).expect("is ASCII").replace("\r\n\t", "");
    let list = text.strip_prefix("DKIM-Signature: ")?.to_owned();
    let mut tags = list.split(';').map(str::trim).filter_map(|tag| tag.split_once('='));
    tags.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

#[test]
fn the_whole_field() {
    let unsigned = prepare(&profile(), b"From: a@example.org\r\nSubject: hi\r\n");
    let field = String::from_utf8(unsigned.complete(&[7; 256])).expect("is ASCII");
    let expected = "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org;\r\n\
        \ts=2026h2; t=1790000000; h=from:from:to:cc:subject:subject:reply-to;\r\n\
        \tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\
        \tb=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw\r\n";
    assert_eq!(&field[..expected.len()], expected);
    let input = "from:a@example.org\r\nsubject:hi\r\n\
        dkim-signature:v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=2026h2; \
        t=1790000000; h=from:from:to:cc:subject:subject:reply-to; \
        bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=";
    assert_eq!(String::from_utf8_lossy(unsigned.input()), input);
    assert_eq!(
        unsigned.digest(),
        ring::digest::digest(&ring::digest::SHA256, input.as_bytes()).as_ref()
    );
}

#[test]
fn lines_have_at_most_76_columns() {
    let mut section = b"From: a@example.org\r\n".to_vec();
    for (name, _) in DEFAULT_FIELDS.iter().skip(1) {
        section.extend_from_slice(format!("{name}: x\r\n{name}: y\r\n").as_bytes());
    }
    for domain in ["example.org", "a-rather-long-department-name.subsidiary.example.org"] {
        let selector = "selector-of-thirty-characters0".parse().expect("is valid");
        let agent = format!("@{domain}").parse().expect("is valid");
        let profile = Profile::new(domain.parse().expect("is valid"), selector)
            .with_agent(agent)
            .expect("is inside")
            .with_validity_s(Some(604_800));
        for signature_bytes in [256, 384, 512] {
            let field = prepare(&profile, &section).complete(&vec![0xff; signature_bytes]);
            let field = String::from_utf8(field).expect("is ASCII");
            let lines: Vec<_> =
                field.strip_suffix("\r\n").expect("ends a line").split("\r\n").collect();
            for (index, line) in lines.iter().enumerate() {
                let columns = line.replace('\t', "        ").len();
                assert!(columns <= COLUMNS_MAX, "{columns} columns: {line}");
                assert_eq!(line.starts_with('\t'), index > 0, "{line}");
                assert!(line.trim().len() > 1, "{line}");
            }
            let value = tag(field.as_bytes(), "b").expect("has b=");
            assert_eq!(value.trim(), STANDARD.encode(vec![0xff; signature_bytes]));
        }
    }
}

#[test]
fn optional_tags() {
    let field = |profile: &Profile| prepare(profile, b"From: a@b.example\r\n").complete(&[]);
    let plain = field(&profile());
    for absent in ["i", "x", "l", "q", "z"] {
        assert_eq!(tag(&plain, absent), None, "{absent}=");
    }
    let agent = "Billing@mail.example.org".parse().expect("is valid");
    let profile = profile().with_agent(agent).expect("is inside").with_validity_s(Some(3_600));
    let full = field(&profile);
    assert_eq!(tag(&full, "i").as_deref(), Some("Billing@mail.example.org"));
    assert_eq!(tag(&full, "t").as_deref(), Some("1790000000"));
    assert_eq!(tag(&full, "x").as_deref(), Some("1790003600"));
    let instant = field(&profile.with_validity_s(Some(0)));
    assert_eq!(tag(&instant, "x").as_deref(), Some("1790000001"));
}

#[test]
fn the_c_tag_tells_what_was_done() {
    let header = Canonicalization::Simple;
    let profile = profile().with_header_canonicalization(header);
    for (body_by, expected) in
        [(Canonicalization::Simple, "simple/simple"), (Canonicalization::Relaxed, "simple/relaxed")]
    {
        let body = BodyHasher::new(body_by).finish();
        let section: &[u8] = b"From:  a@b.example\r\n";
        let unsigned = profile.prepare(&[section], &body, NOW_UNIX_S).expect("has one From");
        assert_eq!(tag(&unsigned.complete(&[]), "c").as_deref(), Some(expected));
        assert!(unsigned.input().starts_with(section), "simple keeps it");
        assert!(unsigned.input().ends_with(b"\r\n\tb="));
    }
}

#[test]
fn repeated_fields_are_taken_from_the_bottom() {
    let section = b"To: one\r\nFrom: a@b.example\r\nto : two\r\nTO:three\r\n";
    let unsigned = prepare(&profile(), section);
    let input = "from:a@b.example\r\nto:three\r\nto:two\r\nto:one\r\ndkim-signature:";
    assert!(String::from_utf8_lossy(unsigned.input()).starts_with(input));
    let names = tag(&unsigned.complete(&[]), "h").expect("has h=");
    assert_eq!(names, "from:from:to:to:to:to:cc:subject:reply-to");
}

#[test]
fn coverage() {
    let section = b"From: a@b.example\r\nX-One: 1\r\nX-Two: 2\r\nX-Four: 4\r\n";
    let mut profile = profile();
    for (name, coverage) in [
        ("X-One", Coverage::Present),
        ("X-Two", Coverage::SealedIfPresent),
        ("X-Three", Coverage::SealedIfPresent),
        ("X-Five", Coverage::Present),
        ("Subject", Coverage::Present),
        ("Cc", Coverage::SealedIfPresent),
        ("X-Six", Coverage::Sealed),
    ] {
        profile = profile.with_field(name, coverage).expect("is a field");
    }
    let names = tag(&prepare(&profile, section).complete(&[]), "h").expect("has h=");
    assert_eq!(names, "from:from:to:reply-to:x-one:x-two:x-two:x-six");
}

#[test]
fn the_number_of_instances_is_bounded() {
    let mut section = b"From: a@b.example\r\n".to_vec();
    for number in 0..INSTANCES_MAX {
        section.extend_from_slice(format!("To: {number}\r\n").as_bytes());
    }
    let listed = |section: &[u8]| {
        let names = tag(&prepare(&profile(), section).complete(&[]), "h").expect("has h=");
        names.split(':').filter(|name| *name == "to").count()
    };
    assert_eq!(listed(&section), INSTANCES_MAX + 1, "sealed");
    section.extend_from_slice(b"To: last\r\n");
    assert_eq!(listed(&section), INSTANCES_MAX, "the lowest are signed");
    let input = prepare(&profile(), &section).input().to_vec();
    assert!(input.starts_with(b"from:a@b.example\r\nto:last\r\nto:15\r\nto:14\r\n"));
    assert!(memchr::memmem::find(&input, b"to:0\r\n").is_none());
}

#[test]
fn the_section_may_be_cut_anywhere_and_ends_at_an_empty_line() {
    let section = b"From: a@b.example\r\nSubject: a\r\n b\r\n\r\nTo: not-a-field\r\n";
    let whole = prepare(&profile(), section);
    assert!(memchr::memmem::find(whole.input(), b"not-a-field").is_none());
    for at in 0..=section.len() {
        let pieces = [&section[..at], &section[at..]];
        let cut = profile().prepare(&pieces, &body(), NOW_UNIX_S).expect("has one From");
        assert_eq!(cut.input(), whole.input(), "cut at {at}");
    }
}

#[test]
fn odd_sections() {
    for (section, input) in [
        // No line end, a bare line feed inside, a line without a colon, folded names.
        (&b"From: a@b.example"[..], "from:a@b.example\r\n"),
        (b"From: a\nSubject: b\r\n", "from:a\nSubject: b\r\n"),
        (b"garbage\r\nFrom: a\r\n", "from:a\r\n"),
        (b" From: b\r\nFrom: a\r\n", "from:a\r\n"),
        (b"From: caf\xc3\xa9\r\n", "from:caf\u{e9}\r\n"),
        (b"From \t: a\r\n", "from:a\r\n"),
    ] {
        let unsigned = prepare(&profile(), section);
        let found = String::from_utf8_lossy(unsigned.input()).into_owned();
        assert!(found.starts_with(&format!("{input}dkim-signature:")), "{section:?}: {found}");
    }
}

#[test]
fn from_must_be_there_once() {
    for (section, refused) in [
        (&b"Subject: hi\r\n"[..], HeaderRefused::NoFrom),
        (b"", HeaderRefused::NoFrom),
        (b"\r\nFrom: a\r\n", HeaderRefused::NoFrom),
        (b"Resent-From: a\r\n", HeaderRefused::NoFrom),
        (b"From: a\r\nFROM : b\r\n", HeaderRefused::SeveralFrom),
    ] {
        let found = profile().prepare(&[section], &body(), NOW_UNIX_S).map(|_| ());
        assert_eq!(found, Err(refused), "{section:?}");
    }
    assert_eq!(profile().prepare(&[], &body(), 0).map(|_| ()), Err(HeaderRefused::NoFrom));
}

#[test]
fn profiles_that_cannot_be() {
    let outside = "@other.example".parse().expect("is valid");
    assert_eq!(profile().with_agent(outside).map(|_| ()), Err(ProfileRefused::AgentOutside));
    for (name, coverage, refused) in [
        ("", Coverage::Present, ProfileRefused::FieldName),
        ("a b", Coverage::Present, ProfileRefused::FieldName),
        ("a:b", Coverage::Present, ProfileRefused::FieldName),
        ("a;b", Coverage::Present, ProfileRefused::FieldName),
        ("a\r\nb", Coverage::Present, ProfileRefused::FieldName),
        ("caf\u{e9}", Coverage::Present, ProfileRefused::FieldName),
        (&*"x".repeat(61), Coverage::Present, ProfileRefused::FieldName),
        ("DKIM-Signature", Coverage::Present, ProfileRefused::Unstable),
        ("received", Coverage::Sealed, ProfileRefused::Unstable),
        ("FROM", Coverage::SealedIfPresent, ProfileRefused::From),
    ] {
        let found = profile().with_field(name, coverage).map(|_| ());
        assert_eq!(found, Err(refused), "{name:?}");
    }
    let mut full = profile();
    for number in full.fields.len()..FIELDS_MAX {
        full = full.with_field(&format!("x-{number}"), Coverage::Present).expect("fits");
    }
    let found = full.with_field("x-more", Coverage::Present).map(|_| ());
    assert_eq!(found, Err(ProfileRefused::ManyFields));
}

/// RFC 8463 appendix A: Ed25519 signatures are deterministic, so its field must come out bit by bit.
#[test]
fn rfc_8463_example() {
    const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const FIELDS: [&str; 5] = [
        "From: Joe SixPack <joe@football.example.com>\r\n",
        "To: Suzie Q <suzie@shopping.example.net>\r\n",
        "Subject: Is dinner ready?\r\n",
        "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n",
        "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n",
    ];
    const BODY: &[u8] = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
    const OPEN: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n \
        d=football.example.com; i=@football.example.com;\r\n \
        q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n \
        subject : date : message-id : from : subject : date;\r\n \
        bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
    const SIGNATURE: &str = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\
        Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==";

    let mut body = BodyHasher::new(Canonicalization::Relaxed);
    body.update(BODY);
    assert!(OPEN.contains(&STANDARD.encode(body.finish().digest())), "the body hash");

    let mut input = Vec::new();
    for field in FIELDS {
        let mut canon = FieldCanon::new(Canonicalization::Relaxed, &mut input);
        canon.update(field.as_bytes());
        canon.finish();
    }
    let mut canon = FieldCanon::new(Canonicalization::Relaxed, &mut input);
    canon.update(OPEN.as_bytes());
    canon.finish_open();
    let unsigned = Unsigned { field: OPEN.into(), input };

    let seed = STANDARD.decode(SEED).expect("is base64");
    let key = Ed25519PrivateKey::from_seed(&seed).expect("is a seed");
    assert_eq!(STANDARD.encode(key.public().as_bytes()), PUBLIC);
    assert_eq!(STANDARD.encode(key.sign(&unsigned.digest())), SIGNATURE);
}

#[test]
fn the_algorithm_is_the_keys() {
    for algorithm in [Algorithm::RsaSha256, Algorithm::Ed25519Sha256] {
        let profile =
            Profile::new("example.org".parse().expect("valid"), "s".parse().expect("valid"))
                .with_algorithm(algorithm);
        let body = BodyHasher::new(Canonicalization::Relaxed).finish();
        let section: &[&[u8]] = &[b"From: a@example.org\r\n"];
        let field = profile.prepare(section, &body, 1).expect("has one From").complete(b"x");
        let start = format!("DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed;");
        assert!(field.starts_with(start.as_bytes()), "{}", String::from_utf8_lossy(&field));
    }
}

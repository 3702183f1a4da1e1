//! Which entries sign which mail.

use super::*;

const HEAD: &str = r#"
[server]
hostname = "relay.example.com"
[[listener]]
address = "127.0.0.1:2525"
certificate = "cert.pem"
key = "key.pem"
[[app]]
id = "billing"
owner = "billing team"
networks = ["192.0.2.0/24"]
senders = ["example.com"]
[[app]]
id = "alerts"
owner = "alerts team"
networks = ["198.51.100.0/24"]
senders = ["example.com"]
[spool]
directory = "spool"
seal = false
[[route]]
next_hops = ["mail.example.com:25"]
"#;

/// Selectors of what signs, in order; `["-"]` where mail must wait for a key.
fn signers(keys: &DkimKeys, author_domain: &str, app: &str) -> Vec<String> {
    match keys.for_message(author_domain, app) {
        Signers::Nobody => Vec::new(),
        Signers::NoKey => vec!["-".to_owned()],
        Signers::Entries(entries) => {
            entries.iter().map(|dkim| dkim.profile.selector().as_str().to_owned()).collect()
        }
    }
}

fn load(entries: &str) -> Loaded {
    let folder = Folder::new();
    folder.parse(&format!("{HEAD}{entries}")).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn rsa_goes_first_and_the_authors_own_domain_before_others() {
    let loaded = load(
        r#"
        [[dkim]]
        domain = "corp.example"
        selector = "corp-ed"
        key_file = "dkim-ed25519.pem"
        authors = "*"
        [[dkim]]
        domain = "corp.example"
        selector = "corp"
        key_file = "dkim.pem"
        authors = "*"
        [[dkim]]
        domain = "example.com"
        selector = "own-ed"
        key_file = "dkim-ed25519.pem"
        [[dkim]]
        domain = "example.com"
        selector = "own"
        key_file = "dkim.pem"
        "#,
    );
    let keys = &loaded.snapshot.dkim;
    assert_eq!(signers(keys, "example.com", "billing"), ["own", "corp", "own-ed", "corp-ed"]);
    assert_eq!(signers(keys, "example.org", "billing"), ["corp", "corp-ed"]);
    assert!(keys.body_canonicalization("example.org").is_some());
}

#[test]
fn an_applications_own_key_takes_the_place_of_the_domains() {
    let loaded = load(
        r#"
        [[dkim]]
        domain = "example.com"
        selector = "all"
        key_file = "dkim.pem"
        [[dkim]]
        domain = "example.com"
        selector = "all-ed"
        key_file = "dkim-ed25519.pem"
        [[dkim]]
        domain = "example.com"
        selector = "billing"
        key_file = "dkim.pem"
        apps = ["billing"]
        "#,
    );
    let keys = &loaded.snapshot.dkim;
    assert_eq!(signers(keys, "example.com", "billing"), ["billing", "all-ed"]);
    assert_eq!(signers(keys, "example.com", "alerts"), ["all", "all-ed"]);
    assert!(signers(keys, "sub.example.com", "billing").is_empty());
    assert!(keys.body_canonicalization("sub.example.com").is_none());
}

#[test]
fn a_bad_key_is_left_out_only_if_that_is_said_and_then_mail_waits() {
    let loaded = load(
        r#"
        [[dkim]]
        domain = "example.com"
        selector = "short"
        key_file = "dkim-1024.pem"
        on_bad_key = "skip"
        [[dkim]]
        domain = "example.com"
        selector = "billing"
        key_file = "dkim.pem"
        apps = ["billing"]
        "#,
    );
    assert_eq!((loaded.report.errors(), loaded.report.warnings()), (0, 1));
    let text = loaded.report.render(false);
    assert!(text.contains("dkim-1024.pem cannot be used to sign: the key has 1024 bits"), "{text}");
    let keys = &loaded.snapshot.dkim;
    assert_eq!(signers(keys, "example.com", "billing"), ["billing"]);
    assert_eq!(signers(keys, "example.com", "alerts"), ["-"]);
    assert!(keys.body_canonicalization("example.com").is_some(), "its body is hashed all the same");
}

#[test]
fn a_managed_key_takes_over_from_a_file_once_it_is_there() {
    let folder = Folder::new();
    let loaded = folder.parse(&format!(
        r#"{HEAD}
        [[dkim]]
        domain = "example.com"
        selector = "by-hand"
        key_file = "dkim.pem"
        [[dkim]]
        domain = "example.com"
        managed = true
        [[dkim]]
        domain = "example.com"
        managed = true
        apps = ["alerts"]
        selector_prefix = "alerts"
        [keys]
        directory = "keys"
        key_file = "seal.key"
        "#
    ));
    let loaded = loaded.unwrap_or_else(|report| panic!("{report}"));
    let keys = &loaded.snapshot.dkim;
    assert_eq!(signers(keys, "example.com", "billing"), ["by-hand"]);
    assert_eq!(signers(keys, "example.com", "alerts"), ["by-hand"]);
    let key = Arc::new(keys.all()[0].key.as_deref().expect("a key").clone());
    let active = |line: &str, selector: &str| {
        let (line, selector) = (line.to_owned(), selector.parse().expect("a selector"));
        let key = Arc::clone(&key);
        move |name: &str| (name == line).then(|| (Clone::clone(&selector), Arc::clone(&key)))
    };
    let with_one = keys.with_managed(active("example.com postern", "postern7"));
    assert_eq!(signers(&with_one, "example.com", "billing"), ["postern7"]);
    assert_eq!(signers(&with_one, "example.com", "alerts"), ["postern7"]);
    let with_both = with_one.with_managed(active("example.com alerts", "alerts2"));
    assert_eq!(signers(&with_both, "example.com", "billing"), ["postern7"]);
    assert_eq!(signers(&with_both, "example.com", "alerts"), ["alerts2"]);
}

#[test]
fn mail_waits_for_the_signature_that_matters() {
    let loaded = load(
        r#"
        [[dkim]]
        domain = "example.com"
        selector = "short"
        key_file = "dkim-1024.pem"
        on_bad_key = "skip"
        [[dkim]]
        domain = "example.com"
        selector = "own-ed"
        key_file = "dkim-ed25519.pem"
        [[dkim]]
        domain = "corp.example"
        selector = "corp"
        key_file = "dkim.pem"
        authors = "*"
        [[dkim]]
        domain = "corp.example"
        selector = "short"
        key_file = "dkim-1024.pem"
        on_bad_key = "skip"
        authors = "other.example"
        "#,
    );
    let keys = &loaded.snapshot.dkim;
    assert_eq!(signers(keys, "example.com", "billing"), ["-"], "neither Ed25519 nor corp.example");
    assert_eq!(signers(keys, "other.example", "billing"), ["corp"], "another of corp.example's");
}

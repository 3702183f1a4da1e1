//! Good configurations, and the snapshots they give.

use postern_signer::batch::Backend;

use super::*;

/// The least that can be written.
const LEAST: &str = r#"
[server]
hostname = "Relay.Example.com"

[[listener]]
address = "127.0.0.1:2525"
certificate = "cert.pem"
key = "key.pem"

[[app]]
id = "billing"
owner = "billing@example.com"
password_hash = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
senders = ["example.com"]

[spool]
directory = "spool"
key_file = "seal.key"

[[route]]
next_hops = ["mail.example.com:587"]
"#;

/// Every key there is.
const EVERYTHING: &str = include_str!("everything.toml");

fn good(folder: &Folder, source: &str) -> Arc<Snapshot> {
    match folder.parse(source) {
        Ok(loaded) => {
            assert_eq!(loaded.report.lines(), Vec::<String>::new());
            loaded.snapshot
        }
        Err(report) => panic!("{report}"),
    }
}

#[test]
fn the_least_gets_the_documented_defaults() {
    let folder = Folder::new();
    let snapshot = good(&folder, LEAST);
    assert_eq!(snapshot.server.hostname, "relay.example.com");
    assert_eq!(snapshot.server.cores, [0, 1, 2, 3]);
    assert_eq!(snapshot.server.memory_bytes, 64 << 20);
    assert_eq!(snapshot.server.control_socket, Path::new("/run/postern/control.sock"));
    let listener = &snapshot.listeners[0];
    let files = listener.tls.files().expect("STARTTLS by default");
    assert_eq!(files.key, folder.0.path().join("key.pem"), "relative to the file");
    assert_eq!(listener.limits, SessionLimits::default());
    let app = snapshot.access.app("billing").expect("an application");
    assert_eq!(app.lane, Lane::Normal);
    assert!(app.recipients.is_none() && !app.null_reverse_path);
    assert_eq!(app.limits, AppLimits::default());
    assert_eq!(snapshot.spool.directory, folder.0.path().join("spool"));
    assert_eq!(snapshot.spool.seal.as_ref().expect("sealed").expose(), [7; 32].as_slice());
    let route = snapshot.routes.of("anywhere.example").expect("a default");
    assert_eq!(route.tls, NextHopTls::RequireVerified);
    assert_eq!(snapshot.queue, Queue::default());
    assert_eq!(snapshot.signer, Signer::default());
    assert!(snapshot.filters.enabled);
}

#[test]
fn cores_that_sign_are_left_out_of_all_cores() {
    let folder = Folder::new();
    let snapshot = good(&folder, &format!("{LEAST}\n[signer]\ncores = [1, 3]\n"));
    assert_eq!(snapshot.server.cores, [0, 2]);
    assert_eq!(snapshot.signer.cores, [1, 3]);
}

#[test]
fn everything_that_can_be_set_is_read() {
    let folder = Folder::new();
    let snapshot = good(&folder, EVERYTHING);
    let server = &snapshot.server;
    assert_eq!((server.cores.as_slice(), server.io), ([0, 2].as_slice(), IoChoice::Epoll));
    assert_eq!((server.memory_bytes, server.receive_memory_bytes), (128 << 20, 4 << 20));
    assert_eq!(server.log.format, LogFormat::Json);
    assert_eq!(server.log.level, LogLevel::Warn);
    assert_eq!(server.log.target, LogTarget::File(folder.0.path().join("log/postern.log")));
    assert_eq!(server.drain_timeout, Duration::from_secs(90));
    assert!(server.core_dumps);

    let [listener, plain] = &*snapshot.listeners else { panic!("two listeners") };
    assert!(matches!(&listener.tls, ListenerTls::Implicit(files) if files.client_ca.is_some()));
    assert_eq!(listener.bare_newlines, BareNewlines::Normalize);
    assert_eq!(listener.limits.message_bytes_max, 25 << 20);
    assert_eq!(listener.limits.errors_max, 5);
    assert_eq!(listener.timeouts.message, Duration::from_secs(600));
    assert!(plain.insecure_plaintext_auth && plain.tls == ListenerTls::None);

    let app = snapshot.access.app("login-codes").expect("an application");
    assert_eq!(app.lane, Lane::Urgent);
    assert!(app.null_reverse_path);
    assert!(app.senders.contains("codes@example.com") && !app.senders.contains("a@example.com"));
    let recipients = app.recipients.as_ref().expect("limited");
    assert!(recipients.contains("x@example.org") && !recipients.contains("x@sub.example.org"));
    assert_eq!(app.limits.messages_per_minute, Some(600));
    assert_eq!(app.limits.message_bytes_max, Some(65_536));
    let found = snapshot.access.app_at("192.0.2.7".parse().expect("an address"));
    assert_eq!(found.map(|app| &*app.id), Some("login-codes"));

    assert_eq!(snapshot.spool.segment_bytes, 16 << 20);
    assert_eq!(snapshot.queue.retry.factor_percent, 150);
    assert_eq!(snapshot.queue.retry.jitter_percent, 10);
    assert_eq!(snapshot.queue.expiry.of(Lane::Bulk), Duration::from_secs(86_400));
    assert_eq!(snapshot.queue.weights.of(Lane::Urgent), 9);
    assert!(snapshot.queue.hold);

    let hops = |domain: &str| {
        snapshot.routes.of(domain).map(|route| route.next_hops[0].to_string()).unwrap_or_default()
    };
    assert_eq!(hops("example.org"), "[2001:db8::1]:25");
    assert_eq!(hops("a.example.org"), "192.0.2.9:2525");
    assert_eq!(hops("a.b.EXAMPLE.org"), "192.0.2.9:2525");
    assert_eq!(hops("example.net"), "mail.example.com:587");
    let login = snapshot.routes.of("example.net").and_then(|route| route.auth.clone());
    assert_eq!(login.expect("a login").password.expose(), b"hunter2");

    let dkim = snapshot.dkim.of("example.com").expect("a key");
    assert_eq!(dkim.profile.selector().as_str(), "2026a");
    assert_eq!(dkim.body.as_str(), "simple");
    assert!(snapshot.dkim.of("sub.example.com").is_none());
    let managed = snapshot.dkim.of("example.net").expect("a managed key");
    assert_eq!(managed.line_name().as_deref(), Some("example.net net"));
    let of = managed.managed().expect("is managed");
    assert_eq!((of.selectors, of.record_domain.as_deref()), (Some(8), Some("keys.example.com")));
    let keys = snapshot.keys.as_ref().expect("[keys]");
    assert_eq!(keys.rotate_every, Duration::from_secs(90 * 86_400));
    assert_eq!((keys.jitter_percent, keys.ttl_s, keys.dns.resolvers_min), (20, 1_800, Some(1)));
    assert_eq!(keys.drain_for, Duration::from_secs(7 * 86_400));
    assert_eq!(keys.emergency_drain_for, Duration::from_secs(600));
    let Publish::Update(update) = &keys.publish else { panic!("{:?}", keys.publish) };
    assert_eq!(update.server.to_string(), "192.0.2.1:53", "port 53 where none is given");
    assert_eq!(update.tsig_algorithm, "hmac-sha512");
    assert_eq!(keys.dns.resolvers[1].to_string(), "[2001:db8::53]:5353");
    assert_eq!(
        snapshot.signer,
        Signer {
            backend: Backend::Ring,
            cores: vec![1, 3],
            max_wait: Duration::from_millis(2),
            blinding: false,
        }
    );
    assert_eq!(snapshot.filters.credit_card, FilterAction::Report);
    assert_eq!(snapshot.filters.credit_card_count_min, 3);
    assert_eq!(snapshot.filters.secrets, FilterAction::Report);
    assert_eq!(snapshot.filters.jwt, FilterAction::Off);
    assert_eq!(snapshot.filters.identifiers, FilterAction::Refuse);
}

/// `everything.toml` is complete: each key of [`KEYS`] is set in it.
#[test]
fn the_complete_example_sets_every_key() {
    let table: toml::Table = EVERYTHING.parse().expect("TOML");
    let mut missing = Vec::new();
    for (section, keys) in KEYS {
        let tables = tables_at(&table, section);
        for key in *keys {
            if !tables.iter().any(|table| table.contains_key(*key)) {
                missing.push(format!("{section}.{key}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// All tables of a section, through the lists they stand in.
fn tables_at<'a>(root: &'a toml::Table, section: &str) -> Vec<&'a toml::Table> {
    let mut tables = vec![root];
    for name in section.split('.').filter(|name| !name.is_empty()) {
        let values = tables.iter().filter_map(|table| table.get(name));
        tables = values
            .flat_map(|value| match value {
                toml::Value::Array(items) => {
                    items.iter().filter_map(toml::Value::as_table).collect()
                }
                value => value.as_table().into_iter().collect::<Vec<_>>(),
            })
            .collect();
    }
    tables
}

#[test]
fn each_key_stands_in_the_reference() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = fs::read_to_string(page).expect("docs/configuration.md");
    let sections: Vec<(&str, &str)> =
        page.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let mut missing = Vec::new();
    for (section, keys) in KEYS.iter().filter(|(section, _)| !section.is_empty()) {
        let title = keys::written(section);
        let text = sections.iter().find(|(heading, _)| heading.contains(&format!("`{title}`")));
        let text = text.map_or("", |(_, text)| text);
        let absent = keys.iter().filter(|key| !text.contains(&format!("| `{key}`")));
        missing.extend(absent.map(|key| format!("{title} {key}")));
    }
    assert_eq!(missing, Vec::<String>::new(), "keys without a row in docs/configuration.md");
}

#[test]
fn a_secret_is_never_repeated() {
    let folder = Folder::new();
    for line in
        ["password = \"tr0ub4dor\"", "password_hash = \"tr0ub4dor\"", "password = \"tr0ub4dor"]
    {
        let source = LEAST.replace("[spool]", &format!("[[app]]\nid = \"x\"\n{line}\n\n[spool]"));
        let report = folder.parse(&source).expect_err("broken");
        let said = format!("{report}{report:?}{:?}", report.diagnostics());
        assert!(!said.contains("tr0ub4dor"), "{said}");
    }
}

#[test]
fn an_unreadable_file_is_one_error() {
    let report = load(Path::new("/nonexistent/postern.toml"), &SURROUNDINGS).expect_err("no file");
    assert_eq!(report.errors(), 1);
    assert!(report.to_string().contains("/nonexistent/postern.toml"), "{report}");
}

fn shareable<T: Send + Sync>() {}

#[test]
fn a_snapshot_is_for_all_threads() {
    shareable::<Snapshot>();
    shareable::<Report>();
}

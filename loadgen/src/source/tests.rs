//! Source against sink, over loopback.

use std::fs;

use super::*;
use crate::{
    ledger,
    sink::{
        Sink, SinkOptions,
        fault::{Fault, Faults},
    },
    transport::self_made_server_config,
    verify::compare,
};

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn faults(faults: &[&str]) -> Faults {
    Faults::new(faults.iter().map(|fault| fault.parse::<Fault>().unwrap()).collect(), 1)
}

async fn run_against(sink: &Sink, change: impl FnOnce(&mut SourceOptions)) -> SourceSummary {
    let mut options = SourceOptions::new(sink.addr());
    options.timeout = Duration::from_secs(10);
    change(&mut options);
    Source::new(options).unwrap().run().await.unwrap()
}

#[tokio::test]
async fn what_is_sent_arrives_whole_and_once() {
    for pipelining in [true, false] {
        for per_connection in [None, Some(1), Some(3)] {
            let sink = Sink::start(SinkOptions::new(any_port())).await.unwrap();
            let sent = run_against(&sink, |options| {
                options.sessions = 7;
                options.messages = Some(100);
                options.pipelining = pipelining;
                options.messages_per_connection = per_connection;
                options.recipients = vec!["a@x.test".to_owned(), "b@x.test".to_owned()];
            })
            .await;
            assert_eq!((sent.accepted, sent.unknown, sent.connection_failures), (100, 0, 0));
            assert_eq!(sent.r#loop, "closed");
            assert!(sent.latency_us_p50 > 0 && sent.latency_us_p50 <= sent.latency_us_p99);
            let got = sink.stop().await.unwrap();
            assert_eq!((got.received, got.distinct, got.duplicates), (100, 100, 0));
            assert_eq!((got.corrupt, got.unmarked, got.bare_line_feeds), (0, 0, 0));
            assert_eq!(got.connections, sent.connections);
        }
    }
}

#[tokio::test]
async fn sizes_from_nothing_to_megabytes_pass() {
    let sink = Sink::start(SinkOptions::new(any_port())).await.unwrap();
    for bytes in [0, 1000, 65_536, 3 << 20] {
        let sent = run_against(&sink, |options| {
            options.messages = Some(3);
            options.message_bytes = bytes;
        })
        .await;
        assert_eq!(sent.accepted, 3, "{bytes}");
    }
    let got = sink.stop().await.unwrap();
    assert_eq!((got.distinct, got.corrupt), (12, 0));
}

#[tokio::test]
async fn tls_is_spoken_both_ways_and_verified_if_asked() {
    for tls in [Tls::StartTls, Tls::Implicit] {
        let (config, certificate) = self_made_server_config("sink.test").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        fs::write(&file, certificate).unwrap();
        let mut options = SinkOptions::new(any_port());
        options.tls = Some(config);
        options.implicit_tls = tls == Tls::Implicit;
        let sink = Sink::start(options).await.unwrap();
        let attempt = async |ca: Option<PathBuf>, name: &str| {
            run_against(&sink, |options| {
                options.tls = tls;
                options.ca = ca;
                options.server_name = Some(name.to_owned());
                options.sessions = 2;
                options.messages = Some(20);
                options.credentials =
                    vec![Credential { user: "app".to_owned(), password: "secret".to_owned() }];
            })
            .await
        };
        assert_eq!(attempt(None, "anything.test").await.accepted, 20);
        assert_eq!(attempt(Some(file.clone()), "sink.test").await.accepted, 20);
        let refused = attempt(Some(file.clone()), "other.test").await;
        assert_eq!((refused.accepted, refused.connection_failures), (0, 2));
        let got = sink.stop().await.unwrap();
        assert_eq!((got.received, got.corrupt, got.encrypted), (40, 0, 4));
    }
}

#[tokio::test]
async fn refusals_are_counted_by_kind_and_the_session_goes_on() {
    for pipelining in [true, false] {
        for phase in ["mail", "rcpt", "data", "end"] {
            let mut options = SinkOptions::new(any_port());
            let (later, never) = (format!("{phase}:451:first=3"), format!("{phase}:554:first=5"));
            options.faults = faults(&[&later, &never]);
            let sink = Sink::start(options).await.unwrap();
            let sent = run_against(&sink, |options| {
                options.messages = Some(20);
                options.pipelining = pipelining;
            })
            .await;
            let counts = (sent.accepted, sent.deferred, sent.rejected, sent.unknown);
            assert_eq!(counts, (12, 3, 5, 0), "{phase} pipelining {pipelining}: {sent:?}");
            assert_eq!(sent.connections, 1);
            assert!(sent.last_refusal.unwrap().starts_with("554 "));
            let got = sink.stop().await.unwrap();
            assert_eq!((got.received, got.faults), (12, 8));
        }
    }
}

#[tokio::test]
async fn a_persistent_source_lives_through_everything_and_the_ledgers_agree() {
    let dir = tempfile::tempdir().unwrap();
    let (sent_file, got_file) = (dir.path().join("sent"), dir.path().join("got"));
    let mut options = SinkOptions::new(any_port());
    options.faults = faults(&[
        "connect:drop:every=9",
        "connect:421:every=7",
        "mail:drop:2%",
        "rcpt:450:5%",
        "data:421:3%",
        "end:drop:5%",
        "end:550:5%",
        "end:slow=1:10%",
    ]);
    options.ledger = Some(got_file.clone());
    let sink = Sink::start(options).await.unwrap();
    let sent = run_against(&sink, |options| {
        options.sessions = 8;
        options.messages = Some(400);
        options.persist = true;
        options.ledger = Some(sent_file.clone());
    })
    .await;
    let got = sink.stop().await.unwrap();
    assert_eq!(sent.accepted + sent.deferred + sent.rejected + sent.unknown, 400, "{sent:?}");
    assert!(sent.unknown > 0 && sent.connection_failures > 0, "{sent:?}");
    assert_eq!(got.duplicates, 0, "a source never sends twice");
    let comparison = compare(ledger::read(&sent_file).unwrap(), ledger::read(&got_file).unwrap());
    assert!(comparison.is_good(0), "{comparison:?}");
    assert_eq!(comparison.acknowledged as u64, sent.accepted);
    assert_eq!(comparison.unknown as u64, sent.unknown);
    assert_eq!(comparison.unknown_received as u64, sent.unknown, "dropped after the final dot");
    assert_eq!(comparison.strangers.count, 0);
}

#[tokio::test]
async fn a_source_that_does_not_persist_gives_up() {
    let mut options = SinkOptions::new(any_port());
    options.faults = faults(&["mail:drop:every=5"]);
    let sink = Sink::start(options).await.unwrap();
    let sent = run_against(&sink, |options| options.messages = Some(20)).await;
    assert_eq!((sent.accepted, sent.connection_failures), (4, 1), "{sent:?}");
    assert_eq!(sent.unsent, 16);
    // Nobody listens at all.
    let addr = sink.addr();
    sink.stop().await.unwrap();
    let mut options = SourceOptions::new(addr);
    options.sessions = 3;
    let sent = Source::new(options).unwrap().run().await.unwrap();
    assert_eq!((sent.accepted, sent.connection_failures), (0, 1), "one message, one session");
}

#[tokio::test]
async fn a_stall_ends_with_the_time_limit_and_leaves_an_unknown() {
    let mut options = SinkOptions::new(any_port());
    options.faults = faults(&["end:stall:first=1"]);
    let sink = Sink::start(options).await.unwrap();
    let sent = run_against(&sink, |options| {
        options.messages = Some(2);
        options.persist = true;
        options.timeout = Duration::from_millis(300);
    })
    .await;
    assert_eq!((sent.accepted, sent.unknown), (1, 1), "{sent:?}");
    assert_eq!(sink.stop().await.unwrap().received, 2);
}

#[tokio::test]
async fn a_full_sink_says_so() {
    let mut options = SinkOptions::new(any_port());
    options.connections_max = 1;
    options.faults = faults(&["end:slow=50"]);
    let sink = Sink::start(options).await.unwrap();
    let sent = run_against(&sink, |options| {
        options.sessions = 3;
        options.messages = Some(6);
    })
    .await;
    assert_eq!(sent.connection_failures, 2, "{sent:?}");
    assert!(sent.last_failure.unwrap().contains("421"));
    assert_eq!(sink.stop().await.unwrap().connections_refused, 2);
}

#[tokio::test]
async fn dumped_messages_are_in_plain_form() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = SinkOptions::new(any_port());
    options.dump = Some(dir.path().to_owned());
    let sink = Sink::start(options).await.unwrap();
    run_against(&sink, |options| options.messages = Some(1)).await;
    sink.stop().await.unwrap();
    let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    assert!(text.contains("\r\n.The quick"), "a dot alone, not two");
    assert!(!text.contains("\r\n.."));
    assert!(text.ends_with("-0\r\n"));
}

#[tokio::test]
async fn a_run_ends_when_its_time_is_over_or_it_is_stopped() {
    let sink = Sink::start(SinkOptions::new(any_port())).await.unwrap();
    let sent = run_against(&sink, |options| {
        options.messages = None;
        options.duration = Some(Duration::from_millis(200));
    })
    .await;
    assert!(sent.accepted > 0 && sent.seconds < 5.0);
    let mut options = SourceOptions::new(sink.addr());
    options.messages = None;
    let source = Source::new(options).unwrap();
    let stop = source.stopper();
    let running = tokio::spawn(source.run());
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop();
    let stopped = running.await.unwrap().unwrap();
    assert!(stopped.accepted > 0);
    assert_eq!(sink.stop().await.unwrap().distinct, sent.accepted + stopped.accepted);
}

//! The dispatch of one shard over a real spool and the `epoll` driver.

use std::future::pending;
use std::path::Path;

use postern_signer::batch;

use super::leased::Leased;
use super::*;
use crate::config::{self, Surroundings};
use crate::event::{Format, LogOptions, Target};
use crate::intake::meta::Recipient;
use crate::io::{Choice, IoOptions};
use crate::order::{Filter, Listed};
use crate::queue::{Backoff, Pick};
use crate::signing::SigningSeat;
use crate::spool::{self, SpoolOptions};

const CONFIG: &str = r#"
[server]
hostname = "relay.example.com"

[[listener]]
address = "127.0.0.1:2525"
tls = "none"

[[app]]
id = "billing"
owner = "billing@example.com"
networks = ["127.0.0.0/8"]
senders = ["example.com"]

[spool]
directory = "spool"
seal = false

[[route]]
next_hops = ["127.0.0.1:1"]
tls = "none"
"#;

const SURROUNDINGS: Surroundings = Surroundings {
    cores: || vec![0],
    is_volatile: |_| false,
    identity: |_, _| Ok(Vec::new()),
    certificates: |_| Ok(()),
};

/// Counts sessions that could not be opened, and panics at the first one.
#[derive(Default)]
struct PanicsOnce {
    opened: Cell<u32>,
}

impl DeliveryCounters for PanicsOnce {
    fn delivered(&self) {}
    fn relayed(&self, _: u64) {}
    fn deferred(&self) {}
    fn failed(&self) {}
    fn signed(&self, _: usize) {}
    fn opened(&self, _: bool) {
        self.opened.set(self.opened.get() + 1);
        assert!(self.opened.get() > 1, "the panic that this test is about");
    }
}

fn setup(folder: &Path) -> DeliverySetup {
    let loaded = config::parse(&folder.join("postern.toml"), CONFIG, &SURROUNDINGS);
    let snapshot = loaded.unwrap_or_else(|report| panic!("{report}")).snapshot;
    let backoff = Backoff { base_ms: 500, factor: 1.0, max_ms: 500, jitter: 0.0 };
    DeliverySetup {
        hostname: "relay.example.com".to_owned(),
        hold: false,
        lanes: [LanePolicy { weight: 1, backoff, expiry_ms: 60_000 }; LANES.len()],
        keys: Arc::new(SigningKeys::default()),
        routes: Arc::new(Routing::prepare(&snapshot.routes).expect("no TLS")),
    }
}

fn meta() -> Meta {
    let path = "somebody@two.example".into();
    Meta {
        app: "billing".into(),
        lane: 1,
        received_ms: Clock::new().now_ms(),
        reverse_path: "invoices@example.com".into(),
        recipients: vec![Recipient { path, notify: "".into(), orcpt: "".into() }],
        is_8bit: false,
        smtputf8: false,
        ret: "".into(),
        envid: "".into(),
        content_bytes: 9,
        header_bytes: 8,
        trace: "Received: by us\r\n".into(),
        added: "".into(),
        author_domain: "example.com".into(),
        body_hash: None,
    }
}

/// Runs `work` beside a dispatch that has one message, to a next hop that is not there.
fn with_one_message(hold: bool, work: impl AsyncFnOnce(&Rc<Dispatch>, &PanicsOnce)) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let work = async {
        let io_options = IoOptions { choice: Choice::Epoll, ..IoOptions::default() };
        let io = Io::start(&io_options).expect("epoll is always there");
        let spool_options = SpoolOptions {
            allow_volatile: true,
            min_free_bytes: 0,
            ..SpoolOptions::new(folder.path().join("spool"))
        };
        let (spool, recovered, _) = spool::open(&io, &spool_options, 0, 1).expect("opened");
        let target = Target::File(folder.path().join("log"));
        let log_options = LogOptions { format: Format::Text, target, level: Level::Info };
        let (log, _writer) = Log::start(&log_options).expect("a log");
        let counters = Rc::new(PanicsOnce::default());
        let backend = batch::open(&batch::SignerOptions::default()).expect("a signer");
        let signer = SigningSeat::inline(backend, 0).sit(&log);
        let key_set = SigningKeys::default().load(&signer).await.expect("no keys");
        let dispatch = Dispatch::start(DispatchOptions {
            index: 0,
            io: io.clone(),
            spool: spool.clone(),
            log,
            counters: Rc::clone(&counters),
            frozen: Vec::new(),
            signer,
            key_set,
            setup: DeliverySetup { hold, ..setup(folder.path()) },
            recovered,
        });
        let mut draft = spool.draft(None);
        draft.write(b"A: b\r\n\r\nc").expect("memory");
        spool.commit(draft, ID, &meta().encode()).await.expect("stored");
        dispatch.accept(ID, meta());
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, work(&dispatch, &counters)).await.expect("nothing hangs");
    };
    tokio::task::LocalSet::new().block_on(&runtime, work);
}

fn listed(dispatch: &Dispatch) -> Listed {
    dispatch.list(&Filter::default(), 1).pop().expect("it is queued")
}

const ID: MessageId = MessageId::from_u128(1);

#[test]
fn a_delivery_that_panics_is_deferred_and_tried_again() {
    with_one_message(false, async |dispatch, counters| {
        while counters.opened.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let listed = listed(dispatch);
        assert_ne!(listed.state, "leased");
        assert_eq!(listed.attempts, 1);
        assert!(listed.last.is_some_and(|text| text.contains("panicked")), "an operator sees why");
        assert_eq!(dispatch.in_progress(), 0);
        while counters.opened.get() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_lease_whose_task_is_dropped_goes_back_unused() {
    with_one_message(true, async |dispatch, _| {
        let now_ms = dispatch.clock.now_ms();
        let lease = dispatch.queue.borrow_mut().lease(now_ms, Pick::Any).expect("it is due");
        let leased = Leased::new(dispatch, lease);
        let task = tokio::task::spawn_local(async move {
            pending::<()>().await;
            drop(leased);
        });
        assert_eq!(listed(dispatch).state, "leased");
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
        let listed = listed(dispatch);
        assert_eq!((&*listed.state, listed.attempts), ("held", 0));
    });
}

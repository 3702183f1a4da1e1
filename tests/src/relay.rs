//! A relay under test: the real binary, set up by its own `init`, in a folder of its own.
//!
//! It is killed when dropped, and prints the end of its log when the test failed.

use std::cell::Cell;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use toml::{Table, Value};

use crate::client::Client;
use crate::message::Mail;
use crate::tool::{self, Ran};
use crate::{address, binary};

/// How long a start may take, with recovery of a large spool on a busy machine.
const START_SECONDS: u64 = 30;

/// How long a drain after SIGTERM may take.
const DRAIN_SECONDS: u64 = 60;

/// The application every relay has unless told otherwise.
pub const APP: &str = "billing";
/// Its password.
pub const PASSWORD: &str = "a pass-word: with 'signs'";
/// The domain it may send for.
pub const DOMAIN: &str = "one.example";
/// An address it may send from.
pub const SENDER: &str = "invoices@one.example";
/// A recipient somewhere else.
pub const RECIPIENT: &str = "customer@two.example";

type Edit = Box<dyn Fn(&mut Table)>;

/// How a relay is set up.
pub struct Setup {
    listen: SocketAddr,
    listen_tls: SocketAddr,
    next_hop: SocketAddr,
    next_hop_tls: &'static str,
    folder: Option<PathBuf>,
    apps: Vec<String>,
    cores: &'static str,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    edits: Vec<Edit>,
}

impl Setup {
    /// A relay with one application and this next hop, in the clear.
    pub fn new(next_hop: SocketAddr) -> Self {
        let own = address::own();
        Self {
            listen: SocketAddr::new(own, 2525),
            listen_tls: SocketAddr::new(own, 4650),
            next_hop,
            next_hop_tls: "none",
            folder: None,
            apps: vec![format!("{APP}:{PASSWORD}:{DOMAIN}")],
            cores: "0",
            arguments: Vec::new(),
            environment: Vec::new(),
            edits: Vec::new(),
        }
    }

    /// Keeps everything the relay writes in this folder instead of a temporary one.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_path_buf());
        self
    }

    /// Speaks TLS to the next hop: `none`, `opportunistic` or `require`.
    pub fn next_hop_tls(mut self, mode: &'static str) -> Self {
        self.next_hop_tls = mode;
        self
    }

    /// Runs on these cores instead of the first one.
    pub fn cores(mut self, cores: &'static str) -> Self {
        self.cores = cores;
        self
    }

    /// One more application.
    pub fn app(mut self, id: &str, password: &str, domain: &str) -> Self {
        self.apps.push(format!("{id}:{password}:{domain}"));
        self
    }

    /// One more argument for `postern init`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// One more option with its value for `postern init`.
    pub fn option(self, name: &str, value: &str) -> Self {
        self.argument(name).argument(value)
    }

    /// The first application may send from all of loopback without AUTH.
    pub fn trusting_loopback(self) -> Self {
        self.option("--allow-network", "127.0.0.0/8")
    }

    /// An environment variable of the relay.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Changes the configuration that `init` wrote.
    pub fn edit(mut self, edit: impl Fn(&mut Table) + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Sets one key, `a.b.c`, where a number is an index; tables that are missing are made.
    pub fn set(self, path: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.edit(move |table| set(table, path, value.clone()))
    }

    /// Tries again soon after a failure, so that a test sees it.
    pub fn retrying_soon(self) -> Self {
        self.set("queue.retry.base", "1s").set("queue.retry.max", "1s")
    }

    /// Gives up waiting for the next hop's replies after this long.
    pub fn hop_patience(self, time: &'static str) -> Self {
        ["connect", "command", "data_block", "data_end"].into_iter().fold(self, |setup, key| {
            setup.edit(move |table| set(table, &format!("route.0.timeouts.{key}"), time.into()))
        })
    }

    /// Gives up waiting for clients after this long.
    pub fn client_patience(self, time: &'static str) -> Self {
        self.set("listener.0.timeouts.command", time).set("listener.0.timeouts.data_block", time)
    }

    /// Makes do with a file system of a few dozen MiB.
    pub fn on_little_space(self) -> Self {
        self.set("spool.segment_mib", 4).set("spool.min_free_mib", 8)
    }

    /// Sets up the relay and starts it.
    ///
    /// # Panics
    ///
    /// When it does not listen in time.
    #[track_caller]
    pub fn start(self) -> Relay {
        let mut relay = self.prepare();
        relay.start();
        relay
    }

    /// Sets up the relay without starting it.
    ///
    /// # Panics
    ///
    /// When `postern init` fails.
    #[track_caller]
    pub fn prepare(self) -> Relay {
        let home =
            tempfile::Builder::new().prefix("postern-").tempdir().expect("a temporary folder");
        let folder = self.folder.unwrap_or_else(|| home.path().join("relay"));
        let config = home.path().join("postern.toml");
        let mut init = Command::new(binary::path());
        init.arg("init").arg("--out").arg(&config).arg("--dir").arg(&folder);
        init.args(["--listen", &self.listen.to_string()]);
        init.args(["--listen-tls", &self.listen_tls.to_string()]);
        init.args(["--next-hop", &self.next_hop.to_string()]);
        init.args(["--next-hop-tls", self.next_hop_tls, "--cores", self.cores]);
        for app in &self.apps {
            init.args(["--app", app]);
        }
        init.args(&self.arguments);
        tool::run(&mut init, b"", 60).expect_success();
        let relay = Relay {
            log: home.path().join("relay.log"),
            home,
            folder,
            config,
            addr: self.listen,
            addr_tls: self.listen_tls,
            environment: self.environment,
            child: None,
            starts: Cell::new(0),
        };
        relay.reconfigure(|table| self.edits.iter().for_each(|edit| edit(table)));
        relay
    }
}

/// Sets one key of a configuration; see [`Setup::set`].
///
/// # Panics
///
/// When the path leads through something that is no table and no list.
pub fn set(table: &mut Table, path: &str, value: Value) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut here = table;
    let mut parts = parents.split('.').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let next = here.entry(part).or_insert_with(|| Value::Table(Table::new()));
        here = match next {
            Value::Table(table) => table,
            Value::Array(list) => {
                let index = parts.next().and_then(|index| index.parse::<usize>().ok());
                let element = index.and_then(|index| list.get_mut(index));
                element.and_then(Value::as_table_mut).expect("the list has this element")
            }
            other => panic!("{part} of {path} is {other:?}"),
        };
    }
    here.insert(last.to_owned(), value);
}

/// One delivery as `postern queue list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Queue id of its message.
    pub id: String,
    /// `ready`, `deferred`, `leased`, `frozen`, `held` or `failed`.
    pub state: String,
    /// The application it came from.
    pub app: String,
    /// What the next hop said last.
    pub last: String,
    /// How many recipients it is for.
    pub recipients: u64,
}

/// A relay, running or stopped.
pub struct Relay {
    home: TempDir,
    folder: PathBuf,
    config: PathBuf,
    log: PathBuf,
    /// The port with STARTTLS.
    pub addr: SocketAddr,
    /// The port with implicit TLS.
    pub addr_tls: SocketAddr,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    starts: Cell<u32>,
}

impl Relay {
    /// Starts the relay and waits until it greets clients and answers operators.
    ///
    /// # Panics
    ///
    /// When it ends, or does not listen in time.
    #[track_caller]
    pub fn start(&mut self) {
        if let Err(why) = self.try_start() {
            panic!("{why}\n{}", self.log_end());
        }
    }

    /// As [`Relay::start`].
    ///
    /// # Errors
    ///
    /// Says how the relay ended instead of listening.
    pub fn try_start(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "the relay runs already");
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = Command::new(binary::path());
        command.arg("run").arg("--config").arg(&self.config).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second descriptor")).stderr(log);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().expect("the binary starts");
        self.starts.set(self.starts.get() + 1);
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
        loop {
            if let Some(status) = child.try_wait().expect("our child") {
                return Err(format!("the relay ended at once: {status}"));
            }
            if self.is_serving() {
                self.child = Some(child);
                return Ok(());
            }
            if Instant::now() > deadline {
                child.kill().expect("our child");
                child.wait().expect("our child");
                return Err(format!("the relay did not listen within {START_SECONDS} s"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a client is greeted and the control socket answers. An open port alone proves
    /// little: after a SIGKILL the kernel takes a moment to close what a ring held, and until then
    /// the dead relay's socket still accepts.
    fn is_serving(&self) -> bool {
        let Ok(mut client) = Client::dial(self.addr) else { return false };
        let is_greeted = client.try_reply().is_ok_and(|reply| reply.code == 220);
        is_greeted && UnixStream::connect(self.folder.join("control.sock")).is_ok()
    }

    /// Changes the configuration file.
    ///
    /// # Panics
    ///
    /// When it is no TOML.
    pub fn reconfigure(&self, edit: impl FnOnce(&mut Table)) {
        let text = fs::read_to_string(&self.config).expect("init wrote a configuration");
        let mut table: Table = text.parse().expect("init wrote TOML");
        let before = table.clone();
        edit(&mut table);
        if table != before {
            fs::write(&self.config, table.to_string()).expect("a writable folder");
        }
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where the relay keeps its state.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A folder for the test's own files, outside the relay's.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The relay's process id.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("the relay runs").id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Sends a signal to the process.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        tool::signal(self.id(), signal);
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the relay runs");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// SIGTERM, and how the process ended.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_end()
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    ///
    /// When it does not in time.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the relay runs");
        let ended = tool::wait(&mut child, DRAIN_SECONDS);
        if !ended {
            child.kill().expect("our child");
        }
        let status = child.wait().expect("our child");
        assert!(ended, "the relay did not end within {DRAIN_SECONDS} s\n{}", self.log_end());
        status
    }

    /// Runs a subcommand against this relay: `postern ARGUMENTS --config FILE`.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(binary::path());
        command.args(arguments).arg("--config").arg(&self.config);
        tool::run(&mut command, b"", 60)
    }

    /// `postern status --json`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let ran = self.command(&["status", "--json"]).expect_success();
        serde_json::from_str(&ran.out).unwrap_or_else(|why| panic!("{why}: {}", ran.out))
    }

    /// A counter of the status, over all cores.
    #[track_caller]
    pub fn counter(&self, key: &str) -> f64 {
        let status = self.status();
        let value = status["total"][key].as_f64();
        value.unwrap_or_else(|| panic!("the status has no {key}: {status:#}"))
    }

    /// `postern queue list`: every delivery that waits or has failed.
    #[track_caller]
    pub fn queue(&self) -> Vec<Queued> {
        let ran = self.command(&["queue", "list", "--json", "--limit", "10000"]).expect_success();
        let listed: serde_json::Value = serde_json::from_str(&ran.out)
            .unwrap_or_else(|why| panic!("queue list --json: {why}: {}", ran.out));
        let text = |delivery: &serde_json::Value, key: &str| {
            delivery[key].as_str().unwrap_or_default().to_owned()
        };
        let listed = listed.as_array().unwrap_or_else(|| panic!("no list: {}", ran.out));
        listed
            .iter()
            .map(|delivery| Queued {
                id: text(delivery, "id"),
                state: text(delivery, "state"),
                app: text(delivery, "app"),
                last: text(delivery, "last"),
                recipients: delivery["recipients"].as_u64().unwrap_or_default(),
            })
            .collect()
    }

    /// Waits until nothing waits and nothing has failed.
    #[track_caller]
    pub fn expect_empty_queue(&self) {
        self.wait_until("the queue is empty", 15, |relay| relay.queue().is_empty());
    }

    /// Connects to the port with STARTTLS, secured and logged in as the usual application.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::authenticated(self.addr, APP, PASSWORD)
    }

    /// Sends one message as the usual application and expects it to be accepted.
    #[track_caller]
    pub fn accept(&self, mail: &Mail) {
        let mut client = self.connect();
        client.submit(mail).expect(250);
        client.command("QUIT").expect(221);
    }

    /// Everything the relay printed.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of the log.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Memory of the process that is its own or touched, in KiB.
    ///
    /// # Panics
    ///
    /// When the process does not run.
    #[track_caller]
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
        let digits = line.split_whitespace().nth(1).expect("a number of kB");
        digits.parse().expect("a number of kB")
    }

    /// Waits until `is_so`, asking every few milliseconds.
    ///
    /// # Panics
    ///
    /// When it is not so within `seconds`.
    #[track_caller]
    pub fn wait_until(&self, what: &str, seconds: u64, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only where the process is gone already.
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            tool::say(&format!("--- end of the relay's log\n{}\n---", self.log_end()));
        }
    }
}

/// Raises this process's limit of open files as far as it may, and returns it. Children inherit it.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused only where the limit is what it is; then the old one holds.
    setrlimit(Resource::Nofile, limit).ok();
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_set_by_their_path() {
        let mut table: Table = "[[app]]\nid = \"a\"\n[spool]\nx = 1\n".parse().expect("TOML");
        set(&mut table, "app.0.lane", "bulk".into());
        set(&mut table, "spool.x", 2.into());
        set(&mut table, "new.inner.key", true.into());
        assert_eq!(table["app"][0]["lane"].as_str(), Some("bulk"));
        assert_eq!(table["spool"]["x"].as_integer(), Some(2));
        assert_eq!(table["new"]["inner"]["key"].as_bool(), Some(true));
    }
}

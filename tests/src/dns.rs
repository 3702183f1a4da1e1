//! Private DNS servers on loopback: BIND as authoritative server, unbound as resolver.
//!
//! Each has its own configuration and working folder; the system's own servers are neither read nor
//! touched. unbound listens on an address of its own; BIND takes only addresses that an interface
//! has, and so shares 127.0.0.1, on a port of its own. A server is killed when dropped, and prints
//! the end of its log when the test failed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::ledger::wait_until;
use crate::{address, tool};

/// The zone that every BIND here has, and takes updates for.
pub const ZONE: &str = "one.example";
/// A second such zone: where names are delegated to.
pub const OTHER_ZONE: &str = "keys.example";
/// A zone that cannot be loaded: every question about it is answered with SERVFAIL.
pub const BROKEN_ZONE: &str = "broken.example";
/// Name of the TSIG key, for HMAC-SHA256, that may change TXT records.
pub const KEY: &str = "postern";
/// Names of two more, and their algorithms.
pub const LONGER_KEYS: [(&str, &str); 2] =
    [("postern-384", "hmac-sha384"), ("postern-512", "hmac-sha512")];
/// Name of a TSIG key that may change nothing.
pub const OTHER_KEY: &str = "stranger";
/// The secret of all.
pub const SECRET: &[u8; 32] = b"thirty-two octets for the tests.";
/// Time to live of whatever is missing, in seconds.
pub const NEGATIVE_TTL_S: u32 = 2;

/// Where a resolver listens, on an address of its own.
const PORT: u16 = 5300;
const START_SECONDS: u64 = 20;
const STARTS_MAX: usize = 3;

/// A running server process.
struct Server {
    home: TempDir,
    program: &'static str,
    arguments: Vec<String>,
    child: Option<Child>,
}

/// BIND, with [`ZONE`], [`OTHER_ZONE`] and [`BROKEN_ZONE`].
pub struct Named {
    server: Server,
    /// Where it answers.
    pub addr: SocketAddr,
}

/// unbound: a resolver that asks one server about the zones above, or that server itself.
pub struct Unbound {
    server: Server,
    /// Where it answers.
    pub addr: SocketAddr,
}

/// Whether both servers are installed; where one is not, says so.
pub fn have() -> bool {
    tool::have(&["named", "unbound"])
}

impl Named {
    /// Starts one with more records in [`ZONE`], as zone-file lines, and more lines of options.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(records: &str, options: &str) -> Self {
        // Somebody else may take the port in between.
        (0..STARTS_MAX)
            .find_map(|_| Self::start_at(free_port(), records, options))
            .expect("BIND starts")
    }

    fn start_at(addr: SocketAddr, records: &str, options: &str) -> Option<Self> {
        let home = folder("named");
        write(&home, "named.conf", &named_conf(home.path(), addr, options));
        write(&home, ZONE, &zone(addr.ip(), records));
        write(&home, OTHER_ZONE, &zone(addr.ip(), ""));
        write(&home, BROKEN_ZONE, "; no SOA record, no NS record\n");
        let conf = home.path().join("named.conf").display().to_string();
        let arguments = ["-g", "-n", "1", "-c", &conf].map(str::to_owned).to_vec();
        let mut server = Server { home, program: "named", arguments, child: None };
        server.spawn();
        let runs =
            server.wait_for_log("all zones loaded") && server.log().contains("listening on IPv4");
        runs.then_some(Self { server, addr })
    }

    /// Starts it again after [`Self::kill`], with what it had.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.server.spawn();
        assert!(address::wait_until_open(self.addr, START_SECONDS), "{}", self.server.log());
        // It listens before it has loaded its zones.
        assert!(self.server.wait_for_log("all zones loaded"), "{}", self.server.log());
    }

    /// Kills it outright.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Stops it where it stands (SIGSTOP): it is there and says nothing.
    ///
    /// # Panics
    ///
    /// When it does not stop.
    pub fn pause(&self) {
        self.server.signal(Signal::STOP);
        // The signal is sent, but each thread stops in its own time.
        assert!(wait_until(10, || self.server.is_stopped()), "BIND does not stop");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.server.signal(Signal::CONT);
    }

    /// What it has logged, with every question.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Writes the TSIG secret as a file and returns its path.
    pub fn secret_file(&self) -> PathBuf {
        write(&self.server.home, "secret", &(BASE64.encode(SECRET) + "\n"))
    }
}

impl Unbound {
    /// Starts one that asks the server at this address about the zones above.
    pub fn resolver(authority: SocketAddr) -> Self {
        let mut stubs = String::new();
        for zone in [ZONE, OTHER_ZONE, BROKEN_ZONE] {
            let _ = writeln!(
                stubs,
                "stub-zone:\n    name: \"{zone}\"\n    stub-addr: {}@{}\n    stub-prime: no",
                authority.ip(),
                authority.port()
            );
        }
        let addr = SocketAddr::new(address::own(), PORT);
        Self::start(addr, &stubs, folder("unbound"))
    }

    /// Starts one that is an authoritative server of [`ZONE`] at port 53, for which this must be
    /// root: NS records name no ports.
    pub fn authoritative(records: &str) -> Self {
        let addr = SocketAddr::new(address::own(), 53);
        let home = folder("unbound");
        let file = write(&home, ZONE, &zone(addr.ip(), records));
        let file = file.display();
        let zone = format!(
            "auth-zone:\n    name: \"{ZONE}\"\n    zonefile: \"{file}\"\n    for-upstream: no\n"
        );
        Self::start(addr, &zone, home)
    }

    fn start(addr: SocketAddr, zones: &str, home: TempDir) -> Self {
        let conf = unbound_conf(home.path(), addr) + zones;
        let conf = write(&home, "unbound.conf", &conf).display().to_string();
        let arguments = ["-d", "-c", &conf].map(str::to_owned).to_vec();
        let server = Server { home, program: "unbound", arguments, child: None };
        let mut unbound = Self { server, addr };
        unbound.server.spawn();
        assert!(address::wait_until_open(addr, START_SECONDS), "{}", unbound.server.log());
        unbound
    }
}

impl Server {
    fn spawn(&mut self) {
        let program = tool::find(self.program).expect("the caller has asked `have`");
        let log = self.home.path().join("log");
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let both = log.try_clone().expect("a descriptor");
        let child = Command::new(program)
            .args(&self.arguments)
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(both)
            .spawn();
        self.child = Some(child.unwrap_or_else(|why| panic!("{}: {why}", self.program)));
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        tool::signal(child.id(), signal);
    }

    /// Whether every thread of it stands still.
    fn is_stopped(&self) -> bool {
        let id = self.child.as_ref().expect("it runs").id();
        let threads = fs::read_dir(format!("/proc/{id}/task")).expect("it runs");
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // proc(5): the state follows the program's name in brackets.
            stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
        })
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; SIGKILL also ends one that is stopped.
            child.kill().ok();
            child.wait().ok();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn wait_for_log(&self, text: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
        while Instant::now() < deadline {
            // The last start counts, not an earlier one.
            if self.log().rsplit("starting BIND").next().is_some_and(|log| log.contains(text)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(40)..].join("\n");
            tool::say(&format!("the end of the log of {}:\n{end}", self.program));
        }
    }
}

fn folder(name: &str) -> TempDir {
    let prefix = format!("postern-{name}-");
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder")
}

fn write(home: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, text).expect("is written");
    path
}

/// A port of 127.0.0.1 that is free now, below those that clients are given.
fn free_port() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = NEXT.fetch_add(1, Ordering::Relaxed) * 101 + std::process::id() * 7;
        let port = u16::try_from(count % 20_000).expect("is less") + 10_000;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}

fn named_conf(home: &Path, addr: SocketAddr, options: &str) -> String {
    let (home, ip, port) = (home.display(), addr.ip(), addr.port());
    let secret = BASE64.encode(SECRET);
    let mut conf = format!(
        "options {{
    directory \"{home}\";
    listen-on port {port} {{ {ip}; }};
    listen-on-v6 {{ none; }};
    pid-file \"{home}/pid\";
    session-keyfile none;
    recursion no;
    dnssec-validation no;
    notify no;
    allow-transfer {{ none; }};
    querylog yes;
    {options}
}};
controls {{ }};
key \"{KEY}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};
key \"{OTHER_KEY}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};
zone \"{BROKEN_ZONE}\" {{ type primary; file \"{BROKEN_ZONE}\"; }};
"
    );
    for (key, algorithm) in LONGER_KEYS {
        let _ = writeln!(conf, "key \"{key}\" {{ algorithm {algorithm}; secret \"{secret}\"; }};");
    }
    for zone in [ZONE, OTHER_ZONE] {
        let grants: String = [KEY, LONGER_KEYS[0].0, LONGER_KEYS[1].0]
            .map(|key| format!("grant {key} subdomain _domainkey.{zone}. TXT; "))
            .concat();
        let _ = writeln!(
            conf,
            "zone \"{zone}\" {{
    type primary;
    file \"{zone}\";
    update-policy {{ {grants}}};
}};"
        );
    }
    conf
}

fn zone(ip: IpAddr, records: &str) -> String {
    format!(
        "$TTL 60
@ IN SOA ns1 hostmaster 1 3600 600 86400 {NEGATIVE_TTL_S}
@ IN NS ns1
ns1 IN A {ip}
{records}
"
    )
}

fn unbound_conf(home: &Path, addr: SocketAddr) -> String {
    let (home, ip, port) = (home.display(), addr.ip(), addr.port());
    format!(
        "server:
    directory: \"{home}\"
    pidfile: \"{home}/pid\"
    chroot: \"\"
    username: \"\"
    use-syslog: no
    logfile: \"\"
    do-daemonize: no
    num-threads: 1
    interface: {ip}@{port}
    outgoing-interface: {ip}
    access-control: 127.0.0.0/8 allow_snoop
    do-not-query-localhost: no
    do-ip6: no
    module-config: \"iterator\"
    infra-host-ttl: 1
    infra-cache-max-rtt: 1000
remote-control:
    control-enable: no
"
    )
}

//! The relay itself: the release binary, set up by its own `init`, on one core.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use postern_loadgen::source::{Credential, SourceOptions};
use tempfile::TempDir;

use super::cpu::Tree;
use super::place;

/// The application that sends.
const APP: &str = "bench";
const PASSWORD: &str = "a password of the bench";
const DOMAIN: &str = "loadgen.invalid";
/// The domain's DKIM selector.
const SELECTOR: &str = "bench";

const START_PATIENCE: Duration = Duration::from_secs(30);

/// How a relay is set up.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    arguments: Vec<OsString>,
    is_signing: bool,
    additions: Vec<(&'static str, String)>,
}

impl Setup {
    /// Keeps what it accepts.
    pub fn holding() -> Self {
        // There must be a route, or recipients are refused; nobody is connected to.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        Self::relaying(nobody, false).argument("--hold")
    }

    /// Delivers to this next hop, encrypted where `is_tls` says so.
    pub fn relaying(next_hop: SocketAddr, is_tls: bool) -> Self {
        let tls = if is_tls { "opportunistic" } else { "none" };
        Self::default()
            .argument("--next-hop")
            .argument(&next_hop.to_string())
            .argument("--next-hop-tls")
            .argument(tls)
    }

    /// Without filters.
    #[must_use]
    pub fn without_filters(self) -> Self {
        self.argument("--no-filters")
    }

    /// Signs with an RSA key of 2048 bits.
    #[must_use]
    pub fn signing(mut self) -> Self {
        self.is_signing = true;
        self
    }

    /// Adds a line behind the head of a section that `init` writes.
    #[must_use]
    pub fn with_line(mut self, section: &'static str, line: impl Into<String>) -> Self {
        self.additions.push((section, line.into()));
        self
    }

    fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets the relay up in a temporary folder and starts it.
    ///
    /// # Errors
    /// When the binary cannot be built or started, or does not listen.
    pub fn start(&self) -> io::Result<Relay> {
        let folder = place::folder("relay")?;
        let addr = place::free_addr()?;
        let config = folder.path().join("postern.toml");
        self.init(&config, folder.path(), addr)?;
        let log = File::create(folder.path().join("relay.log"))?;
        let child = Command::new(binary()?)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let relay = Relay { addr, folder, child };
        place::wait_until_open(addr, START_PATIENCE)?;
        Ok(relay)
    }

    fn init(&self, config: &Path, folder: &Path, addr: SocketAddr) -> io::Result<()> {
        let mut init = Command::new(binary()?);
        init.arg("init").arg("--out").arg(config).arg("--dir").arg(folder.join("data"));
        init.args(["--listen", &addr.to_string(), "--insecure-plaintext-auth"]);
        init.args(["--hostname", "relay.invalid"]);
        init.args(["--app", &format!("{APP}:{PASSWORD}:{DOMAIN}")]);
        init.args(["--cores", &place::SERVER_CORE.to_string()]);
        if self.is_signing {
            let key = folder.join("dkim.pem");
            init.args(["--dkim", &format!("{DOMAIN}:{SELECTOR}:{}", key.display())]);
        }
        let output = init.args(&self.arguments).output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("postern init: {text}")));
        }
        let mut text = std::fs::read_to_string(config)?;
        for (section, line) in &self.additions {
            text = text.replacen(&format!("{section}\n"), &format!("{section}\n{line}\n"), 1);
        }
        std::fs::write(config, text)
    }
}

/// A running relay; killed with the value.
pub struct Relay {
    /// Where it takes mail.
    pub addr: SocketAddr,
    folder: TempDir,
    child: Child,
}

impl Relay {
    /// The process.
    pub fn tree(&self) -> Tree {
        Tree { pid: self.child.id() }
    }

    /// A load on it: authenticated, pipelined messages of 4 KiB.
    pub fn load(&self, sessions: usize, messages: u64) -> SourceOptions {
        SourceOptions {
            credentials: vec![Credential { user: APP.to_owned(), password: PASSWORD.to_owned() }],
            ..plain_load(self.addr, sessions, messages)
        }
    }

    /// The end of its log, for an error's text.
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("relay.log"));
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Pipelined messages of 4 KiB without AUTH.
pub fn plain_load(to: SocketAddr, sessions: usize, messages: u64) -> SourceOptions {
    SourceOptions { sessions, messages: Some(messages), ..SourceOptions::new(to) }
}

/// The relay's binary beside ours, built first if `cargo` runs us.
fn binary() -> io::Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BINARY.get_or_init(|| build().map_err(|error| error.to_string()));
    built.as_deref().map_err(|why| io::Error::other(why.clone()))
}

fn build() -> io::Result<PathBuf> {
    let folder = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
    // Set by `cargo run`. What `cargo run` builds is this package, not the relay's binary.
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--package", "postern"]);
        // Whatever folder and target directory `cargo run` was given.
        if let Some(manifest) = std::env::var_os("CARGO_MANIFEST_DIR") {
            command.current_dir(manifest);
        }
        if let Some(target) = folder.parent() {
            command.arg("--target-dir").arg(target);
        }
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        if !command.status()?.success() {
            return Err(io::Error::other("the relay could not be built"));
        }
    }
    let binary = folder.join("postern");
    if binary.is_file() {
        return Ok(binary);
    }
    let text = format!("there is no {}: `cargo build --release -p postern`", binary.display());
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

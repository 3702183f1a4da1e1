//! A private Postfix: own configuration, queue and data in a temporary folder, a port of its own on
//! loopback, run by its own `master`. The system's Postfix is neither read nor touched.
//!
//! It takes mail from loopback without AUTH (no SASL library is set up for it), which is in its
//! favour, and logs each message to a file, as the relay does. It syncs one file a message.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::rig::cpu::Tree;
use crate::rig::place;

/// The name in every line of output.
pub const NAME: &str = "postfix";

const MAIN: &str = include_str!("../../peers/postfix/main.cf");
const SERVICES: &str = include_str!("../../peers/postfix/master.cf");

const START_PATIENCE: Duration = Duration::from_secs(20);
const STARTS_MAX: usize = 3;
const POLL: Duration = Duration::from_millis(20);

/// What it does with what it accepts.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// Keeps it in the hold queue.
    Hold,
    /// Delivers it, encrypted on both sides where `is_tls` says so.
    Relay {
        /// To whom.
        next_hop: SocketAddr,
        /// Offers STARTTLS, and uses it towards the next hop.
        is_tls: bool,
    },
}

/// A running Postfix; stopped with the value.
pub struct Postfix {
    /// Where it takes mail.
    pub addr: SocketAddr,
    home: TempDir,
    program: PathBuf,
}

/// Why there is none here; `None` if there is.
pub fn absence() -> Option<String> {
    if program().is_none() {
        return Some("postfix is not installed".to_owned());
    }
    let is_root = rustix::process::geteuid().is_root();
    (!is_root).then(|| "postfix must be started by root".to_owned())
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("postfix")).find(|candidate| candidate.is_file())
}

impl Postfix {
    /// Sets one up and starts it.
    ///
    /// # Errors
    /// When it is not installed, may not be started, or does not listen.
    pub fn start(task: Task) -> io::Result<Self> {
        let program = program().ok_or_else(|| io::Error::other("postfix is not installed"))?;
        // On a busy machine its log service may hang at the start, and all that logs hangs with it.
        let mut outcome = Self::start_once(&program, task);
        for _ in 1..STARTS_MAX {
            if outcome.is_ok() {
                break;
            }
            outcome = Self::start_once(&program, task);
        }
        outcome
    }

    fn start_once(program: &Path, task: Task) -> io::Result<Self> {
        let home = place::folder("postfix")?;
        let addr = place::free_addr()?;
        let postfix = Self { addr, home, program: program.to_owned() };
        postfix.write(task)?;
        postfix.run_start()?;
        place::wait_until_open(addr, START_PATIENCE)?;
        Ok(postfix)
    }

    /// `postfix start`, which itself waits for the log service.
    fn run_start(&self) -> io::Result<()> {
        let mut starting = Command::new(&self.program)
            .arg("-c")
            .arg(self.home.path().join("etc"))
            .arg("start")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match starting.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(io::Error::other(format!("postfix start: {status}"))),
                None if Instant::now() > deadline => break,
                None => std::thread::sleep(POLL),
            }
        }
        end(&Tree { pid: starting.id() }.members());
        starting.wait()?;
        Err(io::Error::new(io::ErrorKind::TimedOut, "postfix start hangs"))
    }

    fn write(&self, task: Task) -> io::Result<()> {
        let home = self.home.path();
        // Its daemons give up root's rights and must still get here.
        fs::set_permissions(home, fs::Permissions::from_mode(0o755))?;
        for name in ["etc", "queue", "data", "log"] {
            fs::create_dir(home.join(name))?;
        }
        let owned = Command::new("chown").arg("postfix").arg(home.join("data")).status()?;
        if !owned.success() {
            return Err(io::Error::other("chown postfix failed"));
        }
        let places = format!(
            "queue_directory = {0}/queue\ndata_directory = {0}/data\nmaillog_file = {0}/log/maillog\n",
            home.display()
        );
        let etc = home.join("etc");
        let task = self.task_lines(task, &etc)?;
        fs::write(etc.join("main.cf"), format!("{MAIN}{places}{task}"))?;
        let listen = format!("{} inet n - n - 1200 smtpd\n", self.addr);
        fs::write(etc.join("master.cf"), format!("{listen}{SERVICES}"))
    }

    fn task_lines(&self, task: Task, etc: &Path) -> io::Result<String> {
        let Task::Relay { next_hop, is_tls } = task else {
            return Ok("smtpd_client_restrictions = static:HOLD\n".to_owned());
        };
        let mut lines = format!("relayhost = [{}]:{}\n", next_hop.ip(), next_hop.port());
        if is_tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
                .map_err(io::Error::other)?;
            let path = etc.join("pair.pem");
            fs::write(&path, made.signing_key.serialize_pem() + &made.cert.pem())?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            let path = path.display();
            lines.push_str(&format!(
                "smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {path}\n\
                 smtp_tls_security_level = encrypt\nsmtp_tls_connection_reuse = yes\n"
            ));
        }
        Ok(lines)
    }

    /// Its master with all it has started.
    ///
    /// # Errors
    /// When it does not run.
    pub fn tree(&self) -> io::Result<Tree> {
        let text = fs::read_to_string(self.home.path().join("queue/pid/master.pid"))?;
        let pid = text.trim().parse().map_err(io::Error::other)?;
        Ok(Tree { pid })
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // `postfix abort` asks the log service first, and hangs where that hangs. The folder goes
        // next, and nothing else of it is left.
        if let Ok(tree) = self.tree() {
            end(&tree.members());
        }
    }
}

/// Ends processes that we started, the master first so that it starts none anew.
fn end(pids: &[u32]) {
    for pid in pids {
        let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that has ended by itself is what we want.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

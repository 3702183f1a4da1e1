//! A private Postfix on loopback: own configuration, queue and mailboxes in a temporary folder.
//!
//! It accepts mail for every domain from loopback and keeps it in maildirs. The system's own
//! Postfix is neither read nor touched.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::address;
use crate::message;
use crate::tls::Pair;
use crate::tool;

/// Everything Postfix needs as a next hop, without its network defaults.
const MAIN: &str = "\
compatibility_level = 3.6
myhostname = hop.example
mydestination =
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
maillog_file_prefixes = /
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_forbid_bare_newline = normalize
disable_dns_lookups = yes
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 100
local_recipient_maps =
alias_maps =
alias_database =
message_size_limit = 104857600
mailbox_size_limit = 0
virtual_mailbox_limit = 0
line_length_limit = 2048
smtputf8_enable = yes
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
in_flow_delay = 0
";

/// Service, type, and the rest of each line of `master.cf`; the listening lines come first.
const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

/// How often one is started before that counts as a failure.
const STARTS_MAX: usize = 3;

/// A running Postfix; it is stopped when dropped.
pub struct Postfix {
    home: TempDir,
    /// Where it takes mail, in the clear and after STARTTLS.
    pub addr: SocketAddr,
    /// Its certificate.
    pub pair: Pair,
}

impl Postfix {
    /// Starts one, or says why it is skipped: Postfix is not installed, or this is not root.
    pub fn start() -> Option<Self> {
        Self::with("")
    }

    /// Starts one with more lines of `main.cf`.
    pub fn with(lines: &str) -> Option<Self> {
        if !tool::have(&["postfix"]) || !tool::is_root() {
            return None;
        }
        // On a busy machine its log service may not come up, and then none of it does.
        for _ in 0..STARTS_MAX {
            let postfix = Self::new(lines);
            tool::run(&mut postfix.control("start"), b"", 60).expect_success();
            if address::wait_until_open(postfix.addr, 20) {
                return Some(postfix);
            }
            tool::say(&format!("Postfix does not listen on {}, once more", postfix.addr));
        }
        panic!("Postfix does not start");
    }

    fn new(lines: &str) -> Self {
        let home = tempfile::Builder::new().prefix("postern-postfix-").tempdir().expect("a folder");
        let addr = address::own_port(2600);
        let pair = Pair::new(addr.ip());
        let postfix = Self { home, addr, pair };
        postfix.write(lines);
        postfix
    }

    fn write(&self, lines: &str) {
        let home = self.home.path();
        fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("our folder");
        for name in ["etc", "queue", "data", "log", "mail"] {
            fs::create_dir(home.join(name)).expect("our folder");
        }
        let owner = |name: &str, user: &str| {
            let path = home.join(name);
            tool::run(Command::new("chown").arg(user).arg(path), b"", 10).expect_success();
        };
        owner("data", "postfix");
        owner("mail", "65534:65534");
        self.pair.write(&home.join("etc"));
        let home = home.display();
        let places = format!(
            "queue_directory = {home}/queue\ndata_directory = {home}/data\n\
             maillog_file = {home}/log/maillog\nvirtual_mailbox_base = {home}/mail\n\
             smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {home}/etc/cert.pem\n\
             smtpd_tls_key_file = {home}/etc/key.pem\n"
        );
        let listen = format!("{} inet n - n - - smtpd\n", self.addr);
        let etc = self.home.path().join("etc");
        fs::write(etc.join("main.cf"), format!("{MAIN}{places}{lines}")).expect("our folder");
        fs::write(etc.join("master.cf"), format!("{listen}{SERVICES}")).expect("our folder");
    }

    fn control(&self, verb: &str) -> Command {
        let postfix = tool::find("postfix").expect("looked up before");
        let mut command = Command::new(postfix);
        command.arg("-c").arg(self.home.path().join("etc")).arg(verb);
        command
    }

    /// What Postfix logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log/maillog")).unwrap_or_default()
    }

    /// Every message delivered so far, lines ended by LF as a maildir has them.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let folder = self.home.path().join("mail").join("all").join("new");
        collect(&folder, &mut found);
        found
    }

    /// Waits until `count` messages were delivered.
    ///
    /// # Panics
    ///
    /// When they were not within `seconds`.
    #[track_caller]
    pub fn wait_for(&self, count: usize, seconds: u64) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let messages = self.messages();
            if messages.len() >= count {
                return messages;
            }
            let log = self.log();
            assert!(Instant::now() < deadline, "{} of {count} messages\n{log}", messages.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The message as it came in: without the fields that Postfix put before it, lines ended by
    /// CRLF again.
    ///
    /// # Panics
    ///
    /// When it does not start with Postfix's own fields.
    pub fn as_received(stored: &[u8]) -> Vec<u8> {
        let mut rest = stored;
        for name in ["Return-Path:", "X-Original-To:", "Delivered-To:", "Received:"] {
            if rest.starts_with(name.as_bytes()) {
                rest = after_field(rest);
            }
        }
        assert!(rest.len() < stored.len(), "no fields of Postfix");
        let text = rest.to_vec();
        let mut wire = Vec::with_capacity(text.len() + text.len() / 32);
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    wire.extend_from_slice(line);
                    wire.extend_from_slice(b"\r\n");
                }
                None => wire.extend_from_slice(line),
            }
        }
        wire
    }

    /// Kills the master and all it has started, if it has.
    fn kill(&self) {
        let file = self.home.path().join("queue/pid/master.pid");
        let id = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(master) = id.and_then(Pid::from_raw) {
            // Those that have ended already need no killing.
            kill_process_group(master, Signal::KILL).ok();
        }
    }

    /// The folder of its configuration.
    pub fn etc(&self) -> PathBuf {
        self.home.path().join("etc")
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // Ends it at once; the folder goes next, and nothing else of it is left. `postfix abort` asks
        // the log service, which is no help when that hangs.
        self.kill();
        if std::thread::panicking() {
            tool::say(&format!("--- Postfix's log\n{}\n---", self.log()));
        }
    }
}

/// What follows the first header field.
fn after_field(text: &[u8]) -> &[u8] {
    let mut at = 0;
    loop {
        let Some(end) = message::find(&text[at..], b"\n") else { return b"" };
        at += end + 1;
        if !matches!(text.get(at), Some(b' ' | b'\t')) {
            return &text[at..];
        }
    }
}

fn collect(folder: &Path, found: &mut Vec<Vec<u8>>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    found.extend(paths.iter().filter_map(|path| fs::read(path).ok()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::message::{Mail, added_fields};

    #[test]
    fn postfix_keeps_what_it_is_given() {
        let Some(postfix) = Postfix::start() else { return };
        let mail = Mail::numbered(1, "a@one.example", "b@two.example", 20_000);
        let mut client = Client::secured(postfix.addr);
        client.submit(&mail).expect(250);
        let stored = postfix.wait_for(1, 20).remove(0);
        added_fields(&mail.content, &Postfix::as_received(&stored)).expect("byte-exact");
    }
}

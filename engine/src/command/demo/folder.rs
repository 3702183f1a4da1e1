//! The demonstration's folder: everything it makes is in there, and only a folder that carries its
//! mark is ever written to again or deleted.
//!
//! Holds `postern.toml` (written by the code behind `postern init`), the CA and the relay's
//! certificate, the DKIM key, the applications' passwords, the log and, under `data/`, what a relay
//! keeps. Mode 0700. The CA's own key is thrown away: no other certificate can come from it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::command::files::{create_directory, create_private, create_public};
use crate::command::init::plan::random_password;
use crate::command::init::{self, Extras, HopTls};
use crate::command::{Failure, load, surroundings};
use crate::config::{Lane, Snapshot};
use crate::control::client;
use crate::io::tls::generate::Authority;
use crate::order::{Answer, Request};

/// A folder that is ready to be used.
pub(super) struct Folder {
    path: PathBuf,
    /// The applications' passwords by id.
    pub(super) passwords: BTreeMap<String, String>,
    /// The configuration, as `postern run` would read it.
    pub(super) snapshot: Arc<Snapshot>,
    /// Whether an earlier demonstration made it.
    pub(super) is_reused: bool,
}

/// The ports to use where they are free: STARTTLS, TLS, next hop. 0 is any.
pub(super) type Ports = [u16; 3];

/// The applications, each with its lane.
pub(super) const APPS: [(&str, Lane); 3] =
    [(BILLING, Lane::Normal), (LOGIN_CODES, Lane::Urgent), (NEWSLETTER, Lane::Bulk)];
/// Sends invoices.
pub(super) const BILLING: &str = "billing";
/// Sends what somebody waits for.
pub(super) const LOGIN_CODES: &str = "login-codes";
/// Sends what nobody waits for.
pub(super) const NEWSLETTER: &str = "newsletter";
/// The domain they all send for.
pub(super) const DOMAIN: &str = "example.com";
/// The DKIM selector.
const SELECTOR: &str = "demo";

impl Folder {
    /// Opens the folder an earlier demonstration left, or makes one.
    ///
    /// # Errors
    /// The folder is somebody else's, a demonstration uses it now, or the system says no.
    pub(super) fn open(path: &Path, is_fresh: bool, ports: Ports) -> Result<Self, Failure> {
        let state = State::of(path)?;
        let config = path.join(CONFIG);
        if state == State::Marked {
            refuse_if_running(&path.join(DATA).join("control.sock"))?;
        }
        // Without a configuration an earlier demonstration was interrupted while making it.
        let is_reused = state == State::Marked && !is_fresh && config.exists();
        if state == State::Marked && !is_reused {
            fs::remove_dir_all(path).map_err(|error| cannot("delete", path, &error))?;
        }
        if !is_reused {
            make(path, ports)?;
        }
        let loaded = load(&config).map_err(|report| {
            Failure::problem(format!("{}\n{}", report.render(false), BEGIN_ANEW))
        })?;
        let folder = Self {
            path: path.to_owned(),
            passwords: read_passwords(&path.join(PASSWORDS))?,
            snapshot: loaded.snapshot,
            is_reused,
        };
        folder.check_ports()?;
        Ok(folder)
    }

    /// The configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// The log.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where mail is written that arrives after the story; made if need be.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn received(&self) -> Result<PathBuf, Failure> {
        let path = self.path.join(RECEIVED);
        create_directory(&path)?;
        Ok(path)
    }

    /// The certificate to trust.
    pub(super) fn authority(&self) -> PathBuf {
        self.path.join(AUTHORITY)
    }

    /// The password of one application.
    ///
    /// # Errors
    /// It is not in the file any more.
    pub(super) fn password(&self, app: &str) -> Result<&str, Failure> {
        let missing = || {
            let file = self.path.join(PASSWORDS);
            Failure::problem(format!("{} has no password for {app}{BEGIN_ANEW}", file.display()))
        };
        self.passwords.get(app).map(String::as_str).ok_or_else(missing)
    }

    /// Binds the next hop that the configuration names.
    ///
    /// # Errors
    /// It names none on this machine, or the port is taken.
    pub(super) fn bind_next_hop(&self) -> Result<TcpListener, Failure> {
        let route = self.snapshot.routes.of("example.net");
        let hop = route.and_then(|route| route.next_hops.first());
        let address = hop.and_then(|hop| hop.to_string().parse::<SocketAddr>().ok());
        let Some(address) = address.filter(|address| address.ip().is_loopback()) else {
            let text = "the configuration names no next hop on this machine any more";
            return Err(Failure::problem(format!("{text}{BEGIN_ANEW}")));
        };
        TcpListener::bind(address).map_err(|error| taken(address, &error))
    }

    /// The relay's own listeners would share a port with another relay of the same user.
    fn check_ports(&self) -> Result<(), Failure> {
        for listener in &self.snapshot.listeners {
            let bound = TcpListener::bind(listener.address);
            drop(bound.map_err(|error| taken(listener.address, &error))?);
        }
        Ok(())
    }
}

/// What is there before the demonstration.
#[derive(PartialEq, Eq)]
enum State {
    Absent,
    Empty,
    Marked,
}

impl State {
    fn of(path: &Path) -> Result<Self, Failure> {
        let is_directory = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            Err(error) => return Err(cannot("look at", path, &error)),
            Ok(found) => found.is_dir(),
        };
        if is_directory && path.join(MARK).is_file() {
            return Ok(Self::Marked);
        }
        let is_empty = is_directory
            && fs::read_dir(path)
                .map_err(|error| cannot("look into", path, &error))?
                .next()
                .is_none();
        if is_empty {
            return Ok(Self::Empty);
        }
        Err(Failure::problem(format!(
            "{} exists and no demonstration made it; name another place with --dir",
            path.display()
        )))
    }
}

fn make(path: &Path, ports: Ports) -> Result<(), Failure> {
    create_directory(path)?;
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(path, mode).map_err(|error| cannot("protect", path, &error))?;
    create_public(&path.join(MARK), MARK_TEXT.as_bytes())?;
    let (certificate, key) = make_certificates(path)?;
    let mut apps = Vec::new();
    let mut passwords = String::from("# Passwords of the demonstration's applications.\n");
    for (id, _) in APPS {
        let password = random_password()?;
        apps.push(format!("{id}:{}:{DOMAIN}", *password));
        passwords.push_str(&format!("{id} = \"{}\"\n", *password));
    }
    create_private(&path.join(PASSWORDS), passwords.as_bytes())?;
    let [starttls, implicit, next_hop] = choose(ports)?;
    let usable = (surroundings().cores)();
    let args = init::Args {
        out: Some(path.join(CONFIG)),
        dir: Some(path.join(DATA)),
        hostname: Some("relay.example.com".to_owned()),
        listen: vec![starttls],
        listen_tls: vec![implicit],
        cert: Some(certificate),
        key: Some(key),
        next_hop: vec![next_hop.to_string()],
        next_hop_tls: HopTls::None,
        app: apps,
        dkim: vec![format!("{DOMAIN}:{SELECTOR}:{}", path.join("dkim.pem").display())],
        cores: usable.into_iter().take(CORES_MAX).collect(),
        ..init::Args::default()
    };
    let extras = Extras {
        lanes: APPS.map(|(_, lane)| lane).to_vec(),
        log_file: Some(std::path::absolute(path.join(LOG))?),
        next_hop_sessions_max: Some(NEXT_HOP_SESSIONS_MAX),
    };
    init::write_for_demo(&args, extras)
}

fn make_certificates(path: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let now = Timestamp::now();
    let authority = Authority::new("Postern demonstration", now)?;
    let issued = authority.issue(&["relay.example.com", "localhost", "127.0.0.1"], now)?;
    let (certificate, key) = (path.join("relay.pem"), path.join("relay.key"));
    create_public(&path.join(AUTHORITY), authority.certificate_pem().as_bytes())?;
    create_private(&key, issued.key_pem.as_bytes())?;
    create_public(&certificate, issued.certificate_pem.as_bytes())?;
    Ok((certificate, key))
}

/// Turns wishes into loopback addresses that nobody listens on.
fn choose(ports: Ports) -> Result<[SocketAddr; 3], Failure> {
    // Held until all are chosen, so that they differ.
    let mut held = Vec::new();
    let mut chosen = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 3];
    for (address, port) in chosen.iter_mut().zip(ports) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(chosen)
}

fn read_passwords(file: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| cannot("read", file, &error))?;
    toml::from_str(&text).map_err(|_| {
        Failure::problem(format!("{} is no list of passwords{BEGIN_ANEW}", file.display()))
    })
}

fn refuse_if_running(control_socket: &Path) -> Result<(), Failure> {
    match client::ask(control_socket, &Request::Status {}) {
        Ok(Answer::Status(status)) => Err(Failure::problem(format!(
            "a relay runs in this folder already (process {}); end it, or name another folder \
             with --dir",
            status.pid
        ))),
        _ => Ok(()),
    }
}

fn taken(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::problem(format!("cannot listen on {address}: {error}{BEGIN_ANEW}, with other ports"))
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::problem(format!("cannot {verb} {}: {error}", path.display()))
}

const BEGIN_ANEW: &str = "; `postern demo --fresh` begins anew";
const MARK: &str = ".postern-demo";
const MARK_TEXT: &str = "Made by `postern demo`; `postern demo --fresh` deletes this folder.\n";
const CONFIG: &str = "postern.toml";
const DATA: &str = "data";
const LOG: &str = "postern.log";
const AUTHORITY: &str = "ca.pem";
const RECEIVED: &str = "received";
const PASSWORDS: &str = "passwords.toml";

/// Enough to show that a cut reaches all of them.
const CORES_MAX: usize = 2;
/// So that 200 mails have to wait for one another.
const NEXT_HOP_SESSIONS_MAX: u32 = 4;

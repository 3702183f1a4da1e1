//! What is to be written: the flags, or the answers, checked and completed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{Args, Extras, HopTls, must_exist};
use crate::access::hash_password;
use crate::command::Failure;
use crate::command::prompt::{ask, ask_secret};
use crate::config::{Lane, Network, NextHop, canonical_domain};

/// A starting configuration before it is a text. All paths are absolute.
pub(super) struct Plan {
    pub(super) out: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) hostname: String,
    pub(super) listeners: Vec<Listener>,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// The certificate was given; else one is made.
    pub(super) has_own_certificate: bool,
    /// Names and addresses for a certificate that is made.
    pub(super) certificate_names: Vec<String>,
    pub(super) next_hops: Vec<String>,
    pub(super) next_hop_tls: HopTls,
    pub(super) apps: Vec<App>,
    pub(super) signing: Vec<SigningKey>,
    /// Empty for all.
    pub(super) cores: Vec<usize>,
    pub(super) has_filters: bool,
    pub(super) hold: bool,
    /// Standard error where none is named.
    pub(super) log_file: Option<PathBuf>,
    pub(super) next_hop_sessions_max: Option<u32>,
}

pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) is_implicit: bool,
    pub(super) insecure_plaintext_auth: bool,
}

pub(super) struct App {
    pub(super) id: String,
    pub(super) password_hash: Option<String>,
    pub(super) domain: String,
    pub(super) networks: Vec<Network>,
    pub(super) lane: Lane,
}

pub(super) struct SigningKey {
    pub(super) domain: String,
    pub(super) selector: String,
    pub(super) file: PathBuf,
}

impl Plan {
    /// Makes a plan of what the command line says.
    ///
    /// # Errors
    /// What makes no sense, with the flag.
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let out = std::path::absolute(args.out.as_deref().unwrap_or(Path::new("postern.toml")))?;
        let directory = match &args.dir {
            Some(directory) => std::path::absolute(directory)?,
            None => out.with_file_name("postern-data"),
        };
        if args.app.is_empty() {
            return Err(Failure::usage("--app ID:PASSWORD:SENDER-DOMAIN is needed: who may send?"));
        }
        if args.next_hop.is_empty() && !args.hold {
            return Err(Failure::usage("--next-hop HOST:PORT is needed, or --hold"));
        }
        let mut apps =
            args.app.iter().map(|text| App::read(text)).collect::<Result<Vec<_>, _>>()?;
        apps[0].networks =
            args.allow_network.iter().map(|text| network(text)).collect::<Result<_, _>>()?;
        if let Some(app) = apps.iter().find(|app| app.password_hash.is_none())
            && app.networks.is_empty()
        {
            let text = format!("application `{}` has no password and no --allow-network", app.id);
            return Err(Failure::usage(text));
        }
        let hostname = hostname(args.hostname.as_deref())?;
        let listeners = listeners(args)?;
        let own = args.cert.as_deref().zip(args.key.as_deref());
        let (certificate, key) = match own {
            Some((cert, key)) => (must_exist("--cert", cert)?, must_exist("--key", key)?),
            None => (directory.join("relay.pem"), directory.join("relay.key")),
        };
        Ok(Self {
            certificate_names: certificate_names(&hostname, &listeners),
            out,
            directory,
            hostname,
            listeners,
            certificate,
            key,
            has_own_certificate: own.is_some(),
            next_hops: args.next_hop.iter().map(|hop| next_hop(hop)).collect::<Result<_, _>>()?,
            next_hop_tls: args.next_hop_tls,
            apps,
            signing: args
                .dkim
                .iter()
                .map(|text| SigningKey::read(text))
                .collect::<Result<_, _>>()?,
            cores: args.cores.clone(),
            has_filters: !args.no_filters,
            hold: args.hold,
            log_file: None,
            next_hop_sessions_max: None,
        })
    }

    /// Adds what no flag says.
    pub(super) fn with(mut self, extras: Extras) -> Self {
        for (app, lane) in self.apps.iter_mut().zip(extras.lanes) {
            app.lane = lane;
        }
        self.log_file = extras.log_file;
        self.next_hop_sessions_max = extras.next_hop_sessions_max;
        self
    }

    /// The key that seals the spool.
    pub(super) fn seal_key(&self) -> PathBuf {
        self.directory.join("spool.key")
    }
}

impl App {
    /// Reads `ID:PASSWORD:SENDER-DOMAIN`; the password may hold colons and may be empty.
    fn read(text: &str) -> Result<Self, Failure> {
        let parts = text.split_once(':').and_then(|(id, rest)| {
            rest.rsplit_once(':').map(|(password, domain)| (id, password, domain))
        });
        let Some((id, password, domain)) = parts else {
            return Err(Failure::usage("--app is written ID:PASSWORD:SENDER-DOMAIN"));
        };
        let password_hash = match password {
            "" => None,
            password => Some(hash_password(password.as_bytes())?),
        };
        let Some(domain) = canonical_domain(domain) else {
            let text = format!("--app {id}: `{domain}` is not a domain name");
            return Err(Failure::usage(text));
        };
        let domain = domain.into_owned();
        Ok(Self {
            id: id.to_owned(),
            password_hash,
            domain,
            networks: Vec::new(),
            lane: Lane::default(),
        })
    }
}

impl SigningKey {
    /// Reads `DOMAIN:SELECTOR:KEYFILE`.
    fn read(text: &str) -> Result<Self, Failure> {
        let mut parts = text.splitn(3, ':').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(domain), Some(selector), Some(file)) => {
                Ok(Self { domain, selector, file: std::path::absolute(file)? })
            }
            _ => Err(Failure::usage("--dkim is written DOMAIN:SELECTOR:KEYFILE")),
        }
    }
}

fn listeners(args: &Args) -> Result<Vec<Listener>, Failure> {
    let default: SocketAddr = ([127, 0, 0, 1], 2525).into();
    let starttls = match (args.listen.as_slice(), args.listen_tls.as_slice()) {
        ([], []) => vec![default],
        (listen, _) => listen.to_vec(),
    };
    if let Some(address) = starttls.iter().find(|address| !address.ip().is_loopback())
        && args.insecure_plaintext_auth
    {
        let text = format!("--insecure-plaintext-auth is for loopback addresses, not {address}");
        return Err(Failure::usage(text));
    }
    let insecure = args.insecure_plaintext_auth;
    let starttls = starttls.into_iter().map(|address| Listener {
        address,
        is_implicit: false,
        insecure_plaintext_auth: insecure,
    });
    let implicit = args.listen_tls.iter().map(|address| Listener {
        address: *address,
        is_implicit: true,
        insecure_plaintext_auth: false,
    });
    Ok(starttls.chain(implicit).collect())
}

/// The host's own name, and how clients on this machine reach it.
fn certificate_names(hostname: &str, listeners: &[Listener]) -> Vec<String> {
    let mut names = vec![hostname.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    let addresses = listeners.iter().map(|listener| listener.address.ip());
    names.extend(addresses.filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}

/// The given name, or the system's.
fn hostname(given: Option<&str>) -> Result<String, Failure> {
    let system = rustix::system::uname();
    let name = given.unwrap_or_else(|| system.nodename().to_str().unwrap_or("localhost"));
    match canonical_domain(name) {
        Some(name) => Ok(name.into_owned()),
        None if given.is_none() => Ok("localhost".to_owned()),
        None => Err(Failure::usage(format!("--hostname: `{name}` is not a host name"))),
    }
}

fn next_hop(text: &str) -> Result<String, Failure> {
    match NextHop::parse(text) {
        Ok(hop) => Ok(hop.to_string()),
        Err(problem) => Err(Failure::usage(format!("--next-hop {text}: {problem}"))),
    }
}

fn network(text: &str) -> Result<Network, Failure> {
    text.parse()
        .map_err(|_| Failure::usage(format!("--allow-network: `{text}` is not an IP network")))
}

/// Asks the few questions that have no good default.
///
/// # Errors
/// The terminal went away.
pub(super) fn ask_questions(args: &Args) -> Result<Args, Failure> {
    let mut answers = args.clone();
    let domain_name = |text: &str| {
        canonical_domain(text).map(|name| name.into_owned()).ok_or("not a domain name".to_owned())
    };
    let suggested = hostname(args.hostname.as_deref())?;
    answers.hostname = Some(ask("name of this host", Some(&suggested), domain_name)?);
    let address = |text: &str| text.parse().map_err(|_| "not ADDRESS:PORT".to_owned());
    answers.listen = vec![ask("listen on (STARTTLS)", Some("127.0.0.1:2525"), address)?];
    let hop = |text: &str| match NextHop::parse(text) {
        Ok(hop) => Ok(hop.to_string()),
        Err(problem) => Err(problem.to_owned()),
    };
    answers.next_hop = vec![ask("where does the mail go (HOST:PORT)", None, hop)?];
    let is_id = |text: &str| match text {
        "" => Err("a name is needed".to_owned()),
        text if text.contains(':') => Err("without a colon".to_owned()),
        text => Ok(text.to_owned()),
    };
    let id = ask("first application's name", Some("app"), is_id)?;
    let domain = ask("the domain it sends for", None, domain_name)?;
    let mut password = ask_secret("its password (empty: one is made)", true)?;
    if password.is_empty() {
        password = random_password()?;
        eprintln!("  its password is {}", *password);
    }
    answers.app = vec![format!("{id}:{}:{domain}", *password)];
    Ok(answers)
}

/// 144 random bits in letters, digits, `-` and `_`.
pub(in crate::command) fn random_password() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0; 18]);
    let filled = SystemRandom::new().fill(&mut *bytes);
    filled.map_err(|_| Failure::problem("the system gives no random bytes"))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

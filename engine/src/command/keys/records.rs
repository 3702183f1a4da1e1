//! `postern keys check`, `publish` and `withdraw`: key records in DNS, as verifiers see them.
//!
//! All three work on what the configuration signs with. Only managed keys need a running relay, which
//! is asked which they are; those the relay publishes and withdraws by itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_signer::dns::{Expected, record_name, record_text, revoked_text, zone_line};
use postern_signer::key::SigningKey;
use serde_json::{Value, json};

use super::super::{Failure, GlobalOptions, load};
use super::managed;
use crate::config::{Dkim, Snapshot, canonical_domain};
use crate::control::dns::{
    Change, Done, Look, LookOptions, Looker, Role, Sighting, TsigAlgorithm, TsigKey, UpdateOptions,
    Updater, system_resolvers, write_zone_file,
};

/// Which records to look at, and whom to ask.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Only the keys of this signing domain
    #[arg(value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// A resolver to ask, repeatable; the system's by default
    #[arg(long, value_name = "ADDR:PORT")]
    pub resolver: Vec<SocketAddr>,
    /// An authoritative server to ask, repeatable; found by the zone's NS records by default
    #[arg(long, value_name = "ADDR:PORT")]
    pub authoritative: Vec<SocketAddr>,
}

/// Which record to change, and how the server lets us.
#[derive(Debug, clap::Args)]
pub struct ChangeArgs {
    /// The signing domain
    #[arg(value_name = "DOMAIN")]
    pub domain: String,
    /// The selector
    #[arg(value_name = "SELECTOR")]
    pub selector: String,
    /// The zone's primary server
    #[arg(long, value_name = "ADDR:PORT")]
    pub server: SocketAddr,
    /// The TSIG key's name, as the server knows it
    #[arg(long, value_name = "NAME")]
    pub tsig_name: String,
    /// The file with the TSIG secret, in base64
    #[arg(long, value_name = "FILE")]
    pub tsig_secret_file: PathBuf,
    /// The TSIG algorithm: hmac-sha256, hmac-sha384 or hmac-sha512
    #[arg(long, value_name = "NAME", default_value = "hmac-sha256")]
    pub tsig_algorithm: TsigAlgorithm,
    /// The name that holds the record, where a CNAME delegates it
    #[arg(long, value_name = "NAME")]
    pub record_name: Option<String>,
    /// Time to live of the record, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = TTL_S)]
    pub ttl: u32,
    /// The key's file, where the configuration does not name the key (any more)
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// Looks at the record of every key that the configuration signs with.
///
/// # Errors
/// A record is not as it should be at some server, or there is nothing to look at.
pub(super) fn check(args: &CheckArgs, options: &GlobalOptions) -> Result<(), Failure> {
    let snapshot = snapshot(options)?;
    let wanted = wanted_records(&snapshot, args.domain.as_deref(), options)?;
    let dns = snapshot.keys.as_ref().map(|keys| keys.dns.clone()).unwrap_or_default();
    let or = |given: &[SocketAddr], configured: Vec<SocketAddr>| match given {
        [] => configured,
        given => given.to_vec(),
    };
    let resolvers = match or(&args.resolver, dns.resolvers) {
        none if none.is_empty() => system_resolvers().map_err(Failure::problem)?,
        some => some,
    };
    let looker = Looker::new(LookOptions {
        resolvers,
        authoritative: or(&args.authoritative, dns.authoritative),
        ..LookOptions::default()
    });
    let mut looks = Vec::with_capacity(wanted.len());
    for WantedRecord { name, text, .. } in wanted {
        let expected = Expected::new(&text).map_err(Failure::problem)?;
        looks.push((name.clone(), wait(looker.look(&name, &expected))?));
    }
    if options.json {
        let looks: Vec<_> = looks.iter().map(|(name, look)| as_json(name, look)).collect();
        println!("{:#}", Value::from(looks));
    } else {
        looks.iter().for_each(|(name, look)| print(name, look));
    }
    match looks.iter().filter(|(_, look)| !look.is_seen_everywhere()).count() {
        0 => Ok(()),
        _ if options.json => Err(Failure::told()),
        count => Err(Failure::problem(format!(
            "{count} of {} records are not as they should be everywhere",
            looks.len()
        ))),
    }
}

/// Prints the record of every key that the configuration signs with, or writes them to a file that a
/// zone includes.
///
/// # Errors
/// There is nothing to print.
pub(super) fn export(
    domain: Option<&str>,
    out: Option<&Path>,
    options: &GlobalOptions,
) -> Result<(), Failure> {
    let snapshot = snapshot(options)?;
    let records: Vec<_> = wanted_records(&snapshot, domain, options)?
        .into_iter()
        .map(|wanted| (wanted.owner, wanted.text))
        .collect();
    if let Some(path) = out {
        let lines: Vec<_> =
            records.iter().map(|(name, text)| zone_line(name, TTL_S, text)).collect();
        write_zone_file(path, &lines)
            .map_err(|error| Failure::problem(format!("{}: {error}", path.display())))?;
    }
    if options.json {
        let records = records.iter().map(|(name, text)| {
            json!({
                "record_name": name,
                "record_text": text,
                "zone_line": zone_line(name, TTL_S, text),
            })
        });
        println!("{:#}", Value::from(records.collect::<Vec<_>>()));
    } else if out.is_none() {
        records.iter().for_each(|(name, text)| println!("{}", zone_line(name, TTL_S, text)));
    }
    Ok(())
}

/// Publishes the record of a key by dynamic update.
///
/// # Errors
/// What the server refused, or who else writes to the name.
pub(super) fn publish(args: &ChangeArgs, options: &GlobalOptions) -> Result<(), Failure> {
    let text = args.expected_text(options)?;
    let done = args.update(Change::Add { text: &text })?;
    args.tell(done, "published", options);
    Ok(())
}

/// Withdraws a key: its record stays with an empty `p=` (RFC 6376 3.6.1).
///
/// # Errors
/// The relay still signs with the key and `is_forced` is not set; otherwise as [`publish`].
pub(super) fn withdraw(
    args: &ChangeArgs,
    is_forced: bool,
    options: &GlobalOptions,
) -> Result<(), Failure> {
    let is_in_use = match args.key_file {
        Some(_) => false,
        None => {
            let snapshot = snapshot(options)?;
            args.configured(&snapshot).is_ok()
        }
    };
    if is_in_use && !is_forced {
        return Err(Failure::problem(
            "the configuration still signs with this key, and its mail would fail at once; take \
             the [[dkim]] out and reload first (then name the key with --key-file), or say \
             --force if the key is stolen",
        ));
    }
    let text = args.expected_text(options)?;
    let done = args.update(Change::Replace { known: &text, text: revoked_text() })?;
    args.tell(done, "withdrawn", options);
    Ok(())
}

impl ChangeArgs {
    /// The name of the record: that of the key, or the one it is delegated to.
    fn owner(&self) -> Result<String, Failure> {
        if let Some(name) = &self.record_name {
            return Ok(name.clone());
        }
        let domain = domain_of(&self.domain)?.parse().map_err(Failure::usage)?;
        let selector = self.selector.parse().map_err(Failure::usage)?;
        Ok(record_name(&selector, &domain))
    }

    /// What the record of the key is or will be.
    fn expected_text(&self, options: &GlobalOptions) -> Result<String, Failure> {
        if let Some(path) = &self.key_file {
            let pem = zeroize::Zeroizing::new(std::fs::read(path)?);
            let key = SigningKey::from_pem(&pem)
                .map_err(|refused| Failure::problem(format!("{}: {refused}", path.display())))?;
            return Ok(record_text(&key.public()));
        }
        let snapshot = snapshot(options)?;
        self.configured(&snapshot).map(|key| record_text(&key.public()))
    }

    fn configured<'a>(&self, snapshot: &'a Snapshot) -> Result<&'a SigningKey, Failure> {
        let domain = domain_of(&self.domain)?;
        let found = signing_keys(snapshot).find(|(dkim, _)| {
            dkim.domain() == domain && dkim.profile.selector().as_str() == self.selector
        });
        let has_managed = snapshot
            .dkim
            .all()
            .iter()
            .any(|dkim| dkim.managed().is_some() && dkim.domain() == domain);
        found.map(|(_, key)| key).ok_or_else(|| match has_managed {
            true => Failure::problem(format!(
                "the relay publishes and withdraws the keys of {domain} by itself; `postern keys \
                 list` shows how far it is, `keys emergency` makes it sign with the next one now"
            )),
            false => Failure::problem(format!(
                "the configuration has no usable key {} of {domain}; name it with --key-file",
                self.selector
            )),
        })
    }

    fn update(&self, change: Change<'_>) -> Result<Done, Failure> {
        let key = TsigKey::read(&self.tsig_secret_file, &self.tsig_name, self.tsig_algorithm)?;
        let updater = Updater::new(UpdateOptions {
            server: self.server,
            key,
            timeout: UPDATE_TIMEOUT,
            attempts: UPDATE_ATTEMPTS,
        });
        wait(updater.update(&self.owner()?, self.ttl, change))?
            .map_err(|error| Failure::problem(format!("{}: {error}", self.server)))
    }

    fn tell(&self, done: Done, what: &str, options: &GlobalOptions) {
        let name = self.owner().unwrap_or_default();
        if options.json {
            let is_changed = done == Done::Changed;
            println!("{:#}", json!({ "record_name": name, "is_changed": is_changed }));
        } else if done == Done::Changed {
            println!("{name} is {what}. `postern keys check` shows when it is everywhere.");
        } else {
            println!("{name} was {what} already.");
        }
    }
}

fn snapshot(options: &GlobalOptions) -> Result<std::sync::Arc<Snapshot>, Failure> {
    load(&options.config_path()).map(|loaded| loaded.snapshot).map_err(Failure::problem)
}

/// Entries that have a key.
fn signing_keys(snapshot: &Snapshot) -> impl Iterator<Item = (&Dkim, &SigningKey)> {
    snapshot.dkim.all().iter().filter_map(|dkim| Some((&**dkim, dkim.key.as_deref()?)))
}

/// A record that should be in DNS.
struct WantedRecord {
    /// Where verifiers look.
    name: String,
    /// Where it is kept: another name where it is delegated.
    owner: String,
    text: String,
}

/// Those of one signing domain, or all; at least one.
fn wanted_records(
    snapshot: &Snapshot,
    domain: Option<&str>,
    options: &GlobalOptions,
) -> Result<Vec<WantedRecord>, Failure> {
    let domain = domain.map(domain_of).transpose()?;
    let is_wanted = |own: &str| domain.as_deref().is_none_or(|wanted| wanted == own);
    let of_files = signing_keys(snapshot).filter(|(dkim, _)| is_wanted(dkim.domain()));
    let mut records: Vec<_> = of_files
        .map(|(dkim, key)| {
            let name = record_name(dkim.profile.selector(), dkim.profile.domain());
            WantedRecord { owner: name.clone(), name, text: record_text(&key.public()) }
        })
        .collect();
    let is_managed = |dkim: &Dkim| dkim.managed().is_some() && is_wanted(dkim.domain());
    if snapshot.dkim.all().iter().any(|dkim| is_managed(dkim)) {
        for line in managed::ask(options)?.iter().filter(|line| is_wanted(&line.domain)) {
            records.extend(line.keys.iter().filter_map(|key| {
                Some(WantedRecord {
                    name: format!("{}._domainkey.{}", key.selector, line.domain),
                    owner: key.record_name.clone(),
                    text: key.record_text.clone()?,
                })
            }));
        }
    }
    if records.is_empty() {
        return Err(Failure::problem("the configuration signs with no such key"));
    }
    Ok(records)
}

pub(super) fn domain_of(text: &str) -> Result<String, Failure> {
    let domain = canonical_domain(text);
    domain
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| Failure::usage(format!("`{text}` is not a domain name")))
}

fn wait<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

fn print(name: &str, look: &Look) {
    match look.name == name {
        true => println!("{name}"),
        false => println!("{name}, delegated to {}", look.name),
    }
    for one in &look.sightings {
        println!("  {one} {}", one.sighting.advice());
    }
}

/// `{"name", "record_name", "is_seen_everywhere", "servers": [{"role", "server", "state", ...}]}`
fn as_json(name: &str, look: &Look) -> Value {
    let servers: Vec<_> = look
        .sightings
        .iter()
        .map(|one| {
            json!({
                "role": match one.server.role {
                    Role::Authoritative => "authoritative",
                    Role::Resolver => "resolver",
                },
                "server": one.server.name,
                "address": one.server.address.map(|address| address.to_string()),
                "state": one.sighting.word(),
                "ttl_s": one.sighting.ttl_s(),
                "text": one.sighting.to_string(),
                "advice": match &one.sighting {
                    Sighting::Seen { .. } => None,
                    other => Some(other.advice()),
                },
            })
        })
        .collect();
    json!({
        "name": name,
        "record_name": look.name,
        "is_seen_everywhere": look.is_seen_everywhere(),
        "servers": servers,
    })
}

/// An hour: a mistake is soon put right.
pub(super) const TTL_S: u32 = 3_600;
const UPDATE_TIMEOUT: Duration = Duration::from_secs(5);
const UPDATE_ATTEMPTS: u32 = 3;

//! `postern keys`: makes DKIM keys, looks after their records in DNS, and after those that the relay
//! rotates by itself.

mod managed;
mod records;

use std::path::Path;

use postern_signer::dns::{record_name, record_text, zone_line};
use postern_signer::key::{Ed25519PrivateKey, OsRandom, RsaPrivateKey, SigningKey};
use postern_signer::name::{Selector, SigningDomain};
use serde_json::{Value, json};

use self::records::TTL_S;
use super::files::create_private;
use super::{Failure, GlobalOptions};
use crate::config::canonical_domain;

/// Arguments of `postern keys`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do about keys.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List the keys that the relay looks after: how far each is, and what it waits for
    List {
        /// Only the keys of this signing domain
        #[arg(value_name = "DOMAIN")]
        domain: Option<String>,
    },
    /// Rotate managed keys now, as soon as the next ones are proved in DNS
    Rotate(managed::Which),
    /// Sign with the standby keys at once, without asking DNS, and withdraw those before
    Emergency(managed::EmergencyArgs),
    /// Give up a managed key that has not signed yet, and have another made
    Abandon(managed::AbandonArgs),
    /// Make a new key and print the DNS record for it
    New {
        /// The domain to sign for
        #[arg(value_name = "DOMAIN")]
        domain: String,
        /// The selector; a new key needs a new one
        #[arg(value_name = "SELECTOR")]
        selector: String,
        /// Where to write the private key (mode 0600; never overwritten)
        #[arg(long, value_name = "FILE")]
        out: std::path::PathBuf,
        /// What kind: RSA of 2048 bits, which every verifier takes, or Ed25519, to sign with beside it
        #[arg(long, value_enum, default_value = "rsa")]
        algorithm: Kind,
    },
    /// See what DNS has for each key that the configuration signs with
    Check(records::CheckArgs),
    /// Print the records of the keys that the configuration signs with, as lines of a zone file
    Export {
        /// Only the keys of this signing domain
        #[arg(value_name = "DOMAIN")]
        domain: Option<String>,
        /// Write them to this file, in one step, for a zone to $INCLUDE
        #[arg(long, value_name = "FILE")]
        out: Option<std::path::PathBuf>,
    },
    /// Publish a key's record by dynamic update (RFC 2136, TSIG)
    Publish(records::ChangeArgs),
    /// Withdraw a key: leave its record with an empty p=, so that nothing it signed verifies any more
    Withdraw {
        /// Also while the configuration signs with it
        #[arg(long)]
        force: bool,
        /// Which record
        #[command(flatten)]
        change: records::ChangeArgs,
    },
}

/// What kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// 2048 bits.
    Rsa,
    /// RFC 8463.
    Ed25519,
}

/// Does what the command line says.
///
/// # Errors
/// A name that DNS does not take, or a file that cannot be written.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    match &args.action {
        Action::New { domain, selector, out, algorithm } => {
            new(new_key(domain, selector, out, *algorithm)?, out, options)
        }
        Action::List { domain } => managed::list(domain.as_deref(), options),
        Action::Rotate(which) => managed::rotate(which, options),
        Action::Emergency(args) => managed::emergency(args, options),
        Action::Abandon(args) => managed::abandon(args, options),
        Action::Check(args) => records::check(args, options),
        Action::Export { domain, out } => {
            records::export(domain.as_deref(), out.as_deref(), options)
        }
        Action::Publish(args) => records::publish(args, options),
        Action::Withdraw { force, change } => records::withdraw(change, *force, options),
    }
}

/// Says what was made and what to do with it.
fn new(record: Record, out: &Path, options: &GlobalOptions) -> Result<(), Failure> {
    if options.json {
        println!("{:#}", record.as_json(out));
        return Ok(());
    }
    println!("The private key is in {}. Publish this record in DNS:\n", out.display());
    println!("{}\n", record.zone_line());
    println!("Then let the relay sign with it:\n");
    println!("[[dkim]]\ndomain = \"{}\"\nselector = \"{}\"", record.domain, record.selector);
    let path = std::path::absolute(out)?;
    println!("key_file = {}", toml::Value::from(path.display().to_string()));
    Ok(())
}

/// What a key's owner publishes.
pub(super) struct Record {
    domain: SigningDomain,
    selector: Selector,
    text: String,
}

impl Record {
    /// The line of a zone file.
    pub(super) fn zone_line(&self) -> String {
        zone_line(&record_name(&self.selector, &self.domain), TTL_S, &self.text)
    }

    /// Names, file and record.
    pub(super) fn as_json(&self, key_file: &Path) -> Value {
        json!({
            "domain": self.domain.as_str(),
            "selector": self.selector.as_str(),
            "key_file": key_file,
            "record_name": record_name(&self.selector, &self.domain),
            "record_text": self.text,
            "zone_line": self.zone_line(),
        })
    }
}

/// Makes a key and writes it to `out`.
pub(super) fn new_key(
    domain: &str,
    selector: &str,
    out: &Path,
    kind: Kind,
) -> Result<Record, Failure> {
    let canonical = canonical_domain(domain)
        .ok_or_else(|| Failure::usage(format!("`{domain}` is not a domain name")))?;
    let domain: SigningDomain = canonical
        .parse()
        .map_err(|refused| Failure::usage(format!("`{domain}` cannot sign: {refused}")))?;
    let selector: Selector = selector
        .parse()
        .map_err(|refused| Failure::usage(format!("`{selector}` is no selector: {refused}")))?;
    let key: SigningKey = match kind {
        Kind::Rsa => RsaPrivateKey::generate(KEY_BITS, &mut OsRandom::new())?.into(),
        Kind::Ed25519 => Ed25519PrivateKey::generate()?.into(),
    };
    create_private(out, key.to_pkcs8_pem().as_bytes())?;
    let text = record_text(&key.public());
    Ok(Record { domain, selector, text })
}

/// What every verifier takes, and what fits a DNS answer without fragments.
const KEY_BITS: usize = 2_048;

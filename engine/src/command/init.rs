//! `postern init`: writes a commented starting configuration.
//!
//! What it needs beside the configuration it makes: a self-signed certificate where none is given,
//! the key that seals the spool, DKIM keys that do not exist yet. The configuration is checked
//! before it is written, and nothing that exists is ever overwritten.

pub(super) mod plan;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::plan::{Plan, SigningKey};
use super::files::{create_directory, create_private, create_public};
use super::keys::{Kind, new_key};
use super::{Failure, GlobalOptions, prompt, surroundings};
use crate::config::{self, Lane};
use crate::io::tls::generate::self_signed;

/// Arguments of `postern init`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Where to write the configuration; never overwritten [default: postern.toml]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Where the relay keeps spool, keys and control socket [default: postern-data beside FILE]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// This host's name for greetings and certificates [default: what the system says]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Listen here, with STARTTLS; repeatable [default: 127.0.0.1:2525]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<std::net::SocketAddr>,
    /// Listen here, with TLS from the first byte; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_tls: Vec<std::net::SocketAddr>,
    /// Certificate chain, PEM; without it a self-signed one is made in --dir
    #[arg(long, value_name = "PEM", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key, PEM
    #[arg(long, value_name = "PEM", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Where all mail goes; repeat for a second choice
    #[arg(long, value_name = "HOST:PORT")]
    pub next_hop: Vec<String>,
    /// TLS towards it
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub next_hop_tls: HopTls,
    /// An application, its password and the domain it sends for; repeatable. The command line is
    /// visible to others on this machine: for real passwords use `postern app passwd`
    #[arg(long, value_name = "ID:PASSWORD:SENDER-DOMAIN")]
    pub app: Vec<String>,
    /// The first application may send from there without AUTH; repeatable
    #[arg(long, value_name = "CIDR", requires = "app")]
    pub allow_network: Vec<String>,
    /// Sign for this domain with this selector and key; repeatable. A key file that does not exist
    /// is made
    #[arg(long, value_name = "DOMAIN:SELECTOR:KEYFILE")]
    pub dkim: Vec<String>,
    /// CPUs to use [default: all]
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// Do not scan messages
    #[arg(long)]
    pub no_filters: bool,
    /// Accept and keep mail, do not deliver it
    #[arg(long)]
    pub hold: bool,
    /// Offer AUTH without TLS; loopback addresses only, for tests
    #[arg(long)]
    pub insecure_plaintext_auth: bool,
}

/// TLS towards the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum HopTls {
    /// Plaintext
    None,
    /// TLS if offered, whatever the certificate
    Opportunistic,
    /// TLS with a verified certificate
    #[default]
    Require,
}

/// Writes a starting configuration and what it needs; asks where no flag says what is wanted and
/// somebody is there to be asked.
///
/// # Errors
/// Flags that make no sense, a file that exists, or what the system says.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    let asked;
    let args = if args.says_what_is_wanted() {
        args
    } else if prompt::is_interactive() {
        asked = plan::ask_questions(args)?;
        &asked
    } else {
        return Err(Failure::usage(
            "say what is wanted, for example: postern init --next-hop smarthost.example.com:587 \
             --app billing:PASSWORD:example.com",
        ));
    };
    let (plan, made) = write(args, Extras::default())?;
    if options.json {
        println!("{:#}", made.as_json(&plan));
    } else {
        made.tell(&plan);
    }
    Ok(())
}

/// What no flag says, and the demonstration sets all the same.
#[derive(Default)]
pub(super) struct Extras {
    /// One for each application, in order; those left out are `normal`.
    pub(super) lanes: Vec<Lane>,
    /// Where the log goes instead of standard error.
    pub(super) log_file: Option<PathBuf>,
    /// Most sessions to the next hop, per core.
    pub(super) next_hop_sessions_max: Option<u32>,
}

/// Writes the configuration for a demonstration, and what it needs.
///
/// # Errors
/// As [`execute`].
pub(super) fn write_for_demo(args: &Args, extras: Extras) -> Result<(), Failure> {
    write(args, extras).map(drop)
}

fn write(args: &Args, extras: Extras) -> Result<(Plan, Made), Failure> {
    let plan = Plan::new(args)?.with(extras);
    let made = carry_out(&plan)?;
    Ok((plan, made))
}

impl Args {
    fn says_what_is_wanted(&self) -> bool {
        self.hold
            || !(self.app.is_empty()
                && self.next_hop.is_empty()
                && self.listen.is_empty()
                && self.listen_tls.is_empty())
    }
}

/// What was made beside the configuration.
#[derive(Default)]
struct Made {
    /// DKIM records to publish: zone line and its JSON form.
    records: Vec<(String, Value)>,
    warnings: Vec<String>,
}

fn carry_out(plan: &Plan) -> Result<Made, Failure> {
    if plan.out.exists() {
        let text = format!("{} exists already and is not overwritten", plan.out.display());
        return Err(Failure::problem(text));
    }
    let mut made = Made::default();
    create_directory(&plan.directory)?;
    make_certificate(plan)?;
    make_seal_key(&plan.seal_key())?;
    for key in &plan.signing {
        made.records.extend(make_signing_key(key)?);
    }
    let is_volatile = (surroundings().is_volatile)(&plan.directory);
    let text = text::configuration(plan, is_volatile);
    match config::parse(&plan.out, &text, &surroundings()) {
        Ok(loaded) => made.warnings = loaded.report.lines(),
        Err(report) => {
            let text =
                format!("this would be no usable configuration:\n\n{}", report.render(false));
            return Err(Failure::problem(text));
        }
    }
    create_private(&plan.out, text.as_bytes())?;
    Ok(made)
}

/// Makes a self-signed certificate where none was given and none is there from an earlier run.
fn make_certificate(plan: &Plan) -> Result<(), Failure> {
    let (certificate, key) = (&plan.certificate, &plan.key);
    if plan.has_own_certificate || (certificate.exists() && key.exists()) {
        return Ok(());
    }
    let names: Vec<&str> = plan.certificate_names.iter().map(String::as_str).collect();
    let generated = self_signed(&names, Timestamp::now())?;
    create_private(key, generated.key_pem.as_bytes())?;
    create_public(certificate, generated.certificate_pem.as_bytes())
}

fn make_seal_key(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    let mut key = Zeroizing::new([0; config::SealKey::BYTES_MIN]);
    let filled = SystemRandom::new().fill(&mut *key);
    filled.map_err(|_| Failure::problem("the system gives no random bytes"))?;
    create_private(path, &*key)
}

/// Makes a DKIM key whose file does not exist yet.
fn make_signing_key(key: &SigningKey) -> Result<Option<(String, Value)>, Failure> {
    if key.file.exists() {
        return Ok(None);
    }
    if let Some(parent) = key.file.parent() {
        create_directory(parent)?;
    }
    let record = new_key(&key.domain, &key.selector, &key.file, Kind::Rsa)?;
    Ok(Some((record.zone_line(), record.as_json(&key.file))))
}

impl Made {
    fn tell(&self, plan: &Plan) {
        let out = plan.out.display();
        println!("wrote {out}; spool and keys are in {}", plan.directory.display());
        for (zone_line, _) in &self.records {
            println!("\npublish this record in DNS:\n\n{zone_line}");
        }
        for warning in &self.warnings {
            println!("\n{warning}");
        }
        println!("\nnext:\n  postern check --config {out}\n  postern run --config {out}");
    }

    fn as_json(&self, plan: &Plan) -> Value {
        let records: Vec<&Value> = self.records.iter().map(|(_, json)| json).collect();
        json!({
            "config": plan.out,
            "directory": plan.directory,
            "certificate": plan.certificate,
            "dkim": records,
            "warnings": self.warnings,
        })
    }
}

#[cfg(test)]
mod tests;

/// Whether a file that is to be read is there; told here, for the flag it was named with.
fn must_exist(flag: &str, path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path)?;
    match fs::metadata(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(Failure::problem(format!("{flag} {}: {error}", path.display()))),
    }
}

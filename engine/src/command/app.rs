//! `postern app`: lists applications, makes password hashes.

use std::io;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::prompt::{ask_secret, first_line, is_interactive};
use super::{Failure, GlobalOptions, load};
use crate::access::{Suspensions, hash_password};
use crate::config::{AddressPattern, App};

/// Arguments of `postern app`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do about applications.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Make an argon2id hash of a password, for `password_hash`
    ///
    /// The password is asked for on a terminal, else it is the first line of standard input.
    Passwd {
        /// Read the password from standard input, even on a terminal
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the configured applications
    List,
}

/// Does what the command line says.
///
/// # Errors
/// No password was given, or the configuration cannot be used.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    match args.action {
        Action::Passwd { password_stdin } => passwd(password_stdin, options),
        Action::List => list(options),
    }
}

fn passwd(from_stdin: bool, options: &GlobalOptions) -> Result<(), Failure> {
    let password = read_password(from_stdin)?;
    if password.is_empty() {
        return Err(Failure::problem("an empty password is none"));
    }
    if password.chars().count() < SHORT_CHARS {
        eprintln!("postern: warning: this password is short; 16 random characters are better");
    }
    let hash = hash_password(password.as_bytes())?;
    if options.json {
        println!("{:#}", json!({ "password_hash": hash }));
    } else {
        println!("{hash}");
    }
    Ok(())
}

/// Below this a warning is given.
const SHORT_CHARS: usize = 12;

fn read_password(from_stdin: bool) -> Result<Zeroizing<String>, Failure> {
    let read = if from_stdin || !is_interactive() {
        first_line(&mut io::stdin().lock())
    } else {
        ask_secret("password", true)
    };
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Failure::problem("no password was given"),
        io::ErrorKind::InvalidData => Failure::problem("the password is not UTF-8"),
        _ => Failure::problem(format!("cannot read the password: {error}")),
    })
}

fn list(options: &GlobalOptions) -> Result<(), Failure> {
    let snapshot = load(&options.config_path())?.snapshot;
    let state = snapshot.spool.state_directory();
    let suspensions = state.exists().then(|| Suspensions::load(&state)).transpose()?;
    let is_cut = |app: &App| suspensions.as_ref().is_some_and(|cut| cut.is_cut(&app.id));
    let apps = snapshot.access.apps();
    if options.json {
        let apps: Vec<Value> = apps.iter().map(|app| as_json(app, is_cut(app))).collect();
        println!("{:#}", Value::from(apps));
        return Ok(());
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(apps.iter().map(|app| row(app, is_cut(app))));
    print_table(&rows);
    Ok(())
}

const HEADINGS: [&str; 6] = ["APPLICATION", "LANE", "STATE", "KNOWN BY", "SENDS AS", "OWNER"];

fn row(app: &App, is_cut: bool) -> [String; 6] {
    [
        app.id.to_string(),
        app.lane.name().to_owned(),
        if is_cut { "cut" } else { "active" }.to_owned(),
        credentials(app).join(", "),
        senders(app).join(", "),
        app.owner.clone(),
    ]
}

fn credentials(app: &App) -> Vec<String> {
    let password = app.password_hash.as_ref().map(|_| "password".to_owned());
    password.into_iter().chain(app.networks.iter().map(ToString::to_string)).collect()
}

fn senders(app: &App) -> Vec<String> {
    let mut senders: Vec<String> = app
        .senders
        .iter()
        .map(|pattern| match pattern {
            AddressPattern::Address(address) => address,
            AddressPattern::Domain(domain) => domain,
        })
        .collect();
    senders.sort();
    senders
}

fn as_json(app: &App, is_cut: bool) -> Value {
    json!({
        "id": &*app.id,
        "owner": app.owner,
        "lane": app.lane.name(),
        "cut": is_cut,
        "has_password": app.password_hash.is_some(),
        "networks": app.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "senders": senders(app),
        "limits": {
            "message_bytes_max": app.limits.message_bytes_max,
            "recipients_per_message_max": app.limits.recipients_per_message_max,
            "messages_per_minute": app.limits.messages_per_minute,
            "sessions_max": app.limits.sessions_max,
        },
    })
}

/// Columns as wide as they need to be; the last is left ragged.
fn print_table(rows: &[[String; 6]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEADINGS.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

//! The `postern` command line, one file a subcommand.
//!
//! A subcommand prints what it has to say on standard output and ends with an exit code that
//! scripts can trust: 0 done, 1 a problem (told on standard error), 64 a command line that makes no
//! sense. With `--json` the output is one JSON value and nothing else.
//!
//! This is the only room that prints, asks questions and ends the process.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the command line talks")]

pub mod app;
pub mod check;
pub mod cut;
pub mod demo;
mod files;
pub mod init;
pub mod keys;
mod prompt;
pub mod queue;
pub mod relay;
pub mod restore;
pub mod run;
pub mod scan;
pub mod status;
mod surroundings;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use self::surroundings::surroundings;
use crate::config::{self, Loaded, Report};
use crate::control::client;
use crate::order::{Answer, Request};

/// A secure relay for the mail that applications send.
#[derive(Debug, Parser)]
#[command(
    name = "postern",
    version,
    about,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 a problem, 64 the command line makes no sense.\n\
                  Start with `postern demo`, then `postern init`."
)]
pub struct CommandLine {
    #[command(flatten)]
    options: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand understands.
#[derive(Debug, Clone, Args)]
pub struct GlobalOptions {
    /// The configuration file [default: ./postern.toml if it exists, else
    /// /etc/postern/postern.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON value instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

impl GlobalOptions {
    /// The configuration file to read.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        let here = Path::new(CONFIG_HERE);
        match &self.config {
            Some(path) => path.clone(),
            None if here.exists() => here.to_owned(),
            None => PathBuf::from(CONFIG_SYSTEM),
        }
    }
}

impl GlobalOptions {
    /// Asks the relay that runs with this configuration.
    ///
    /// # Errors
    /// A configuration that cannot be read, no relay, or what the relay says.
    fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let loaded =
            config::load(&self.config_path(), &surroundings()).map_err(Failure::problem)?;
        Ok(client::ask(&loaded.snapshot.server.control_socket, request)?)
    }

    /// Prints one JSON value.
    fn print_json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        debug_assert!(self.json, "JSON is printed where it was asked for");
        println!("{}", serde_json::to_string(value)?);
        Ok(())
    }
}

/// Asks for a yes on the terminal; no terminal is no.
fn confirm(question: &str) -> Result<bool, Failure> {
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Who gives an order: as told, else the user who runs the command.
fn actor(given: Option<&str>) -> String {
    let user = || std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    given.map_or_else(|| user().unwrap_or_else(|_| "unknown".to_owned()), str::to_owned)
}

const CONFIG_HERE: &str = "postern.toml";
const CONFIG_SYSTEM: &str = "/etc/postern/postern.toml";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay in the foreground
    Run(run::Args),
    /// Check a configuration: every mistake at once, with its place and a suggestion
    Check(check::Args),
    /// Write a commented starting configuration
    Init(init::Args),
    /// List applications, make password hashes
    App(app::Args),
    /// Cut one application off at once, everywhere, until restored
    Cut(cut::Args),
    /// Undo a cut
    Restore(restore::Args),
    /// List, show, retry or drop queued mail
    Queue(queue::Args),
    /// Make DKIM keys and their DNS records
    Keys(keys::Args),
    /// Scan messages as the relay would, and say what is found
    Scan(scan::Args),
    /// Show counters and health of a running relay
    Status(status::Args),
    /// See it all work in a few seconds, without touching anything
    Demo(demo::Args),
}

/// Why a subcommand could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to print on standard error, without a line feed at the end.
    pub text: String,
    /// Exit code.
    pub code: u8,
}

impl Failure {
    /// A problem: exit code 1.
    pub fn problem(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), code: EXIT_PROBLEM }
    }

    /// A problem that standard output has told already.
    pub(crate) fn told() -> Self {
        Self::problem("")
    }

    /// The relay answered something else than was asked: another version, most likely.
    fn unexpected() -> Self {
        Self::problem("the relay's answer is not understood; is it another version?")
    }

    /// A command line that makes no sense: exit code 64.
    pub fn usage(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), code: EXIT_USAGE }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::problem(error)
    }
}

/// Reads a configuration as this machine would run it.
///
/// # Errors
/// Every mistake in it.
fn load(path: &Path) -> Result<Loaded, Report> {
    config::load(path, &surroundings())
}

const EXIT_PROBLEM: u8 = 1;
/// As in sysexits(3).
const EXIT_USAGE: u8 = 64;

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return refused(&error),
    };
    match dispatch(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("postern: {failure}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// `--help` and `--version` are no failures; everything else is the command line's fault.
fn refused(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell if standard error is closed.
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_USAGE),
    }
}

fn dispatch(line: &CommandLine) -> Result<(), Failure> {
    let options = &line.options;
    match &line.command {
        Command::Run(args) => run::execute(args, options),
        Command::Check(args) => check::execute(args, options),
        Command::Init(args) => init::execute(args, options),
        Command::App(args) => app::execute(args, options),
        Command::Cut(args) => cut::execute(args, options),
        Command::Restore(args) => restore::execute(args, options),
        Command::Queue(args) => queue::execute(args, options),
        Command::Keys(args) => keys::execute(args, options),
        Command::Scan(args) => scan::execute(args, options),
        Command::Status(args) => status::execute(args, options),
        Command::Demo(args) => demo::execute(args, options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_explains_itself() {
        let mut command = CommandLine::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands_mut() {
            let name = subcommand.get_name().to_owned();
            assert!(subcommand.get_about().is_some(), "{name} says what it does");
            for argument in subcommand.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {} has help", argument.get_id());
            }
        }
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        for (line, code) in [
            (vec!["postern", "--help"], ExitCode::SUCCESS),
            (vec!["postern", "--version"], ExitCode::SUCCESS),
            (vec!["postern"], ExitCode::from(EXIT_USAGE)),
            (vec!["postern", "chek"], ExitCode::from(EXIT_USAGE)),
            (vec!["postern", "cut"], ExitCode::from(EXIT_USAGE)),
        ] {
            let error = CommandLine::try_parse_from(&line).expect_err("no command to carry out");
            let same = format!("{:?}", refused(&error)) == format!("{code:?}");
            assert!(same, "{line:?}");
        }
    }

    #[test]
    fn the_configuration_is_named_or_found() {
        let named = GlobalOptions { config: Some("a.toml".into()), json: false };
        assert_eq!(named.config_path(), Path::new("a.toml"));
        let found = GlobalOptions { config: None, json: false };
        assert_eq!(found.config_path(), Path::new(CONFIG_SYSTEM), "there is none here");
    }
}

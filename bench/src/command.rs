//! The command line of `postern-bench`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "only this room prints")]

use std::io;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::case::Case;
use crate::leakage;
use crate::rig::sink;
use crate::rounds::Effort;
use crate::subjects::{self, Report, SUBJECTS};

/// Measures Postern beside its peers, in one run on one machine.
#[derive(Parser)]
#[command(name = "postern-bench", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ratios(RatiosArguments),
    /// Looks whether the time of a signature tells anything about the message or the key (Welch's
    /// t; above 4.5 it does)
    Leakage {
        /// Passes a question; 100,000 take about four minutes
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        samples: usize,
    },
    /// Lists the subjects
    List,
    /// What `io` measures; started by it
    #[command(hide = true)]
    Sink {
        #[arg(value_enum)]
        driver: sink::Driver,
        /// Receive buffer of a connection, bytes, where the driver has one each
        buffer: usize,
    },
}

/// Runs ours and the peer in turns and prints one line a case; the smaller a figure, the better, and
/// a ratio says how many times better ours is
#[derive(Args)]
struct RatiosArguments {
    /// Only these subjects; all if none is given
    subjects: Vec<String>,

    /// Prints lines of JSON instead of a table
    #[arg(long)]
    json: bool,

    /// One round with a tenth of the messages: shows that everything runs
    #[arg(long)]
    short: bool,

    /// Rounds in which ours and the peer run once each
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
}

/// Reads the command line, does what it says, and returns the exit code: 0 when all was measured
/// (whatever came out), 2 when something could not be.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Ratios(arguments) => ratios(&arguments),
        Command::Leakage { samples } => leakage::run(samples, &mut |verdict| {
            println!(
                "{}: t = {:.2} over {} samples ({}; means {:.0} and {:.0} ns)",
                verdict.question,
                verdict.t,
                verdict.samples,
                verdict.backend,
                verdict.means_ns[0],
                verdict.means_ns[1]
            );
        }),
        Command::Sink { driver, buffer } => sink::serve(driver, buffer),
        Command::List => {
            SUBJECTS.iter().for_each(|subject| println!("{:<13} {}", subject.name, subject.about));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn ratios(arguments: &RatiosArguments) -> io::Result<()> {
    let wanted = subjects::select(&arguments.subjects)?;
    let mut effort = if arguments.short { Effort::SHORT } else { Effort::FULL };
    if let Some(rounds) = arguments.rounds {
        effort.rounds = rounds.max(1);
    }
    if !arguments.json {
        println!("{}", Case::HEADING);
    }
    let mut failed = Vec::new();
    for subject in wanted {
        let mut printer = Printer { is_json: arguments.json, subject: subject.name };
        if let Err(error) = (subject.run)(&effort, &mut printer) {
            eprintln!("{}: {error}", subject.name);
            failed.push(subject.name);
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        names => Err(io::Error::other(format!("could not measure {}", names.join(", ")))),
    }
}

struct Printer {
    is_json: bool,
    subject: &'static str,
}

impl Report for Printer {
    fn case(&mut self, case: Case) {
        println!("{}", if self.is_json { case.json() } else { case.row() });
    }

    fn note(&mut self, text: &str) {
        eprintln!("{}: {text}", self.subject);
    }
}

//! The command line: options to typed values, summaries to text or JSON, verdicts to exit codes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "only this room prints")]

mod run;
mod sink;
mod verify;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

/// Loads a mail relay, and proves what came out of it.
///
/// `run` plays applications that send mail, `sink` plays the next hop that takes it, `verify` compares
/// the ledgers of the two.
#[derive(Parser)]
#[command(name = "postern-loadgen", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArguments),
    Sink(sink::SinkArguments),
    Verify(verify::VerifyArguments),
}

/// Reads the command line, does what it says, and returns the exit code: 0 good, 1 not good (messages
/// lost, refused, or never answered), 2 could not be done.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Sink(arguments) => sink::run(arguments),
        Command::Verify(arguments) => verify::run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("postern-loadgen: {error}");
            ExitCode::from(2)
        }
    }
}

/// Starts tokio with this many threads; one thread means none but the caller's.
fn runtime(threads: usize) -> io::Result<tokio::runtime::Runtime> {
    if threads <= 1 {
        return tokio::runtime::Builder::new_current_thread().enable_all().build();
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn print_json(summary: &impl Serialize) -> io::Result<()> {
    println!("{}", serde_json::to_string(summary)?);
    Ok(())
}

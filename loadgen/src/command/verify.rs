//! `postern-loadgen verify`.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::Args;

use super::print_json;
use crate::{
    ledger::{self, Entry},
    verify::{Comparison, Finding, compare},
};

/// Compares the ledgers of sources and sinks.
///
/// Exit code: 0 if every acknowledged message arrived whole, no refused one arrived, and duplicates
/// are within --duplicates-max; 1 if not; 2 if a ledger cannot be read.
#[derive(Args)]
pub(super) struct VerifyArguments {
    /// Ledger that `run` wrote; may be given more than once.
    #[arg(long, required = true, value_name = "FILE")]
    source: Vec<PathBuf>,

    /// Ledger that `sink` wrote; may be given more than once.
    #[arg(long, required = true, value_name = "FILE")]
    sink: Vec<PathBuf>,

    /// Extra copies that are allowed: at most the deliveries that a crash interrupted.
    #[arg(long, default_value_t = 0, value_name = "N")]
    duplicates_max: u64,

    /// Prints the comparison as one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &VerifyArguments) -> io::Result<bool> {
    let comparison = compare(read_all(&arguments.source)?, read_all(&arguments.sink)?);
    if arguments.json {
        print_json(&comparison)?;
    } else {
        print(&comparison);
    }
    Ok(comparison.is_good(arguments.duplicates_max))
}

fn read_all(files: &[PathBuf]) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in files {
        entries.extend(read(file)?);
    }
    Ok(entries)
}

fn read(file: &Path) -> io::Result<Vec<Entry>> {
    ledger::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => error,
        kind => io::Error::new(kind, format!("{}: {error}", file.display())),
    })
}

fn print(comparison: &Comparison) {
    println!(
        "acknowledged {}, refused {}, unknown {} ({} of them arrived), different messages received {}",
        comparison.acknowledged,
        comparison.refused,
        comparison.unknown,
        comparison.unknown_received,
        comparison.received,
    );
    print_finding("lost", &comparison.lost);
    print_finding("corrupted", &comparison.corrupted);
    print_finding("refused but delivered", &comparison.ghosts);
    print_finding("duplicates", &comparison.duplicates);
    print_finding("strangers", &comparison.strangers);
}

fn print_finding(what: &str, finding: &Finding) {
    println!("{what}: {}", finding.count);
    for id in &finding.ids {
        println!("  {id}");
    }
    let listed = finding.ids.len() as u64;
    if listed > 0 && finding.count > listed {
        println!("  ... and more");
    }
}

//! `postern scan`: what the filters find in messages, with the engine and the settings of the relay.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_filters::{Filters, Outcome, Scan, Verdict};
use serde_json::{Value, json};

use super::{Failure, GlobalOptions, load};
use crate::config;
use crate::shard::policy;

/// Arguments of `postern scan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Messages as they are sent, header section and body, one a file; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Scans every file and prints a line for each: what was found, and what the policy makes of it. The
/// settings are those of the configuration, or the defaults where there is none.
///
/// # Errors
/// The configuration or a file cannot be read; the other files are scanned all the same.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    let path = options.config_path();
    let settings = match options.config.is_some() || path.exists() {
        true => load(&path).map_err(Failure::problem)?.snapshot.filters,
        false => config::Filters::default(),
    };
    let Some(filters) = policy::filters(&settings)? else {
        return Err(Failure::problem("the configuration has the filters switched off"));
    };
    let mut problems = Vec::new();
    for file in &args.files {
        match scan(&filters, file) {
            Ok(outcome) if options.json => println!("{}", as_json(file, &outcome)),
            Ok(outcome) => print(file, &outcome),
            Err(error) => problems.push(format!("{}: {error}", file.display())),
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::problem(problems.join("\npostern: "))),
    }
}

fn scan(filters: &Arc<Filters>, file: &Path) -> io::Result<Outcome> {
    let mut input: Box<dyn Read> = match file == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file)?),
    };
    let mut scan = Scan::new(filters);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match input.read(&mut chunk)? {
            0 => return Ok(scan.finish()),
            read => scan.feed(&chunk[..read]),
        }
    }
}

fn print(file: &Path, outcome: &Outcome) {
    let found: Vec<_> = outcome
        .findings
        .iter()
        .map(|one| {
            format!("{} x{} in {} ({})", one.detector, one.count, one.part, one.confidence.id())
        })
        .collect();
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    match &outcome.verdict {
        Verdict::Reject(rejection) => {
            println!("{}: refused: {rejection}; found {found}", file.display());
        }
        _ => println!("{}: passes; found {found}", file.display()),
    }
}

/// `{"file", "found": [{"type", "count", "occurrences", "confidence", "part"}], "verdict", "reason"}`
fn as_json(file: &Path, outcome: &Outcome) -> Value {
    let found: Vec<_> = outcome
        .findings
        .iter()
        .map(|one| {
            json!({
                "type": one.detector.id(),
                "count": one.count,
                "occurrences": one.occurrences,
                "confidence": one.confidence.id(),
                "part": one.part.to_string(),
            })
        })
        .collect();
    let reason = match &outcome.verdict {
        Verdict::Reject(rejection) => Some(rejection.to_string()),
        _ => None,
    };
    json!({
        "file": file,
        "found": found,
        "verdict": if reason.is_some() { "reject" } else { "allow" },
        "reason": reason,
    })
}

/// What a shard hands over at a time, about.
const CHUNK_BYTES: usize = 16 << 10;

//! `postern check`: every mistake of a configuration at once.

use std::io::{self, IsTerminal};

use serde_json::{Value, json};

use super::{Failure, GlobalOptions, load};
use crate::config::{Report, Severity};

/// Arguments of `postern check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file, instead of --config
    #[arg(value_name = "FILE")]
    pub file: Option<std::path::PathBuf>,
    /// Exit with 1 also where there are only warnings
    #[arg(long)]
    pub strict: bool,
}

/// Prints what is wrong with a configuration.
///
/// # Errors
/// It has errors, or with `--strict` warnings.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    let path = args.file.clone().unwrap_or_else(|| options.config_path());
    let report = match load(&path) {
        Ok(loaded) => loaded.report,
        Err(report) => report,
    };
    if options.json {
        println!("{:#}", as_json(&report));
    } else if !report.diagnostics().is_empty() {
        println!("{}\n", report.render(io::stdout().is_terminal()));
    }
    let is_good = report.errors() == 0 && !(args.strict && report.warnings() > 0);
    let counts = format!("{}: {}", path.display(), counted(&report));
    match (is_good, options.json) {
        (true, false) => println!("{counts}"),
        (true, true) => {}
        (false, false) => return Err(Failure::problem(counts)),
        (false, true) => return Err(Failure::told()),
    }
    Ok(())
}

fn counted(report: &Report) -> String {
    let number = |count: usize, what: &str| match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    format!("{}, {}", number(report.errors(), "error"), number(report.warnings(), "warning"))
}

/// `{"usable", "errors", "warnings", "diagnostics": [{"severity", "message", "line", ...}]}`
fn as_json(report: &Report) -> Value {
    let diagnostics: Vec<Value> = report
        .diagnostics()
        .iter()
        .map(|diagnostic| {
            let (line, column) = report.position(diagnostic).unzip();
            json!({
                "severity": match diagnostic.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                "message": diagnostic.message,
                "line": line,
                "column": column,
                "help": diagnostic.help,
            })
        })
        .collect();
    json!({
        "usable": report.errors() == 0,
        "errors": report.errors(),
        "warnings": report.warnings(),
        "diagnostics": diagnostics,
    })
}

//! `postern cut`: one application off at once, everywhere, durably.

use super::{Failure, GlobalOptions, actor};
use crate::order::{Answer, Request};

/// Arguments of `postern cut`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The application
    #[arg(value_name = "APP")]
    pub app: String,
    /// Why; kept with the cut, shown by `status`, written to the log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who orders it [default: the user who runs this command]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    let request = Request::Cut {
        app: args.app.clone(),
        reason: args.reason.clone(),
        actor: actor(args.actor.as_deref()),
    };
    let Answer::Cut(report) = options.ask(&request)? else { return Err(Failure::unexpected()) };
    if options.json {
        return options.print_json(&report);
    }
    println!("{} is cut off on {} cores:", report.app, report.cores.len());
    for core in &report.cores {
        println!(
            "  core {}: in {} us, {} sessions ended, {} messages frozen",
            core.shard, core.effect_us, core.share.sessions_ended, core.share.frozen
        );
    }
    println!("time to effect: {:.3} ms", millis(report.effect_us));
    match &report.last_out {
        Some(id) => println!("last message out: {id}"),
        None => println!("no message of it has left since the relay started"),
    }
    println!("undo with: postern restore {}", report.app);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a command fit a float exactly")]
fn millis(us: u64) -> f64 {
    us as f64 / 1_000.0
}

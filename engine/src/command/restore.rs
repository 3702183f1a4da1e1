//! `postern restore`: undoes a cut.

use super::{Failure, GlobalOptions, actor};
use crate::order::{Answer, Request};

/// Arguments of `postern restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The application
    #[arg(value_name = "APP")]
    pub app: String,
    /// Who orders it [default: the user who runs this command]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    let request = Request::Restore { app: args.app.clone(), actor: actor(args.actor.as_deref()) };
    let answer = options.ask(&request)?;
    if options.json {
        return options.print_json(&answer);
    }
    let Answer::Restored { app, released } = answer else { return Err(Failure::unexpected()) };
    println!("{app} is restored; {released} frozen messages go on");
    Ok(())
}

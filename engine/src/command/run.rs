//! `postern run`: the relay itself, in the foreground.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::relay::Relay;
use super::{Failure, GlobalOptions};
use crate::config;

/// Arguments of `postern run`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does what the command line says: runs until SIGTERM or SIGINT has drained it. SIGHUP reads the
/// configuration and the certificates again.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    let loaded =
        config::load(&options.config_path(), &super::surroundings()).map_err(Failure::problem)?;
    for warning in loaded.report.lines() {
        eprintln!("postern: warning: {warning}");
    }
    if !loaded.snapshot.server.core_dumps {
        // Keys, passwords and mail stay out of core dumps, and out of reach of a debugger of the
        // same user.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    let relay = Relay::start(&loaded.snapshot)?;
    if relay.wait() {
        Ok(())
    } else {
        Err(Failure::problem("a thread of the relay panicked; this is a bug, please report it"))
    }
}

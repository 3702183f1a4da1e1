//! `postern status`: counters and health of a running relay.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Failure, GlobalOptions};
use crate::config::shown_duration;
use crate::order::{Answer, KeyList, Request, SigningStatus};

/// Arguments of `postern status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show each core, not only the sums
    #[arg(long)]
    pub cores: bool,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    let Answer::Status(status) = options.ask(&Request::Status {})? else {
        return Err(Failure::unexpected());
    };
    if options.json {
        return options.print_json(&status);
    }
    println!(
        "postern {} (process {}) has run for {} s on {} cores",
        status.version,
        status.pid,
        status.uptime_s,
        status.shards.len()
    );
    for shard in &status.shards {
        let core = shard.core.map(|core| format!(" on core {core}")).unwrap_or_default();
        println!(
            "shard {}{core}: io {}, signer {}, spool {}",
            shard.shard, shard.io, shard.signer, shard.spool
        );
        print_signing(&shard.signer, &shard.signing);
        let queued: Vec<_> =
            shard.queued.iter().map(|(lane, count)| format!("{lane} {count}")).collect();
        println!("  queued: {}", queued.join(", "));
        if args.cores {
            print_counters(&shard.counters);
        }
    }
    status.keys.iter().for_each(print_keys);
    for (app, reason) in &status.cut {
        println!("cut off: {app} ({reason})");
    }
    if !args.cores {
        print_counters(&status.total);
    }
    Ok(())
}

fn print_signing(backend: &str, signing: &SigningStatus) {
    println!(
        "  signing {}: {} jobs, {} failed; {} signatures in {} passes, {}.{:02} a pass; {} faults",
        signing.place,
        signing.jobs,
        signing.failed,
        signing.signatures,
        signing.passes,
        signing.fill_percent / 100,
        signing.fill_percent % 100,
        signing.faults
    );
    let waits = signing.waits.iter().filter(|(_, wait)| wait.jobs > 0);
    let waits: Vec<_> = waits
        .map(|(class, wait)| format!("{class} {} / {} us", wait.p50_us, wait.p99_us))
        .collect();
    if !waits.is_empty() {
        println!("  signature waits (p50 / p99): {}", waits.join(", "));
    }
    if !signing.is_memory_locked && backend != "ring" {
        println!("  not all signing keys are kept from swap: raise RLIMIT_MEMLOCK (LimitMEMLOCK=)");
    }
    if let Some(backend) = &signing.quarantined {
        println!("  signer {backend} is out of use after faults: do not trust this machine");
    }
}

fn print_keys(line: &KeyList) {
    let of_stage = |stage: &str| {
        let keys = line.keys.iter().filter(|key| key.stage == stage);
        let selectors: Vec<_> = keys.map(|key| key.selector.as_str()).collect();
        if selectors.is_empty() { "none".to_owned() } else { selectors.join(", ") }
    };
    let due = line.due_in_s.map(|due_s| shown_duration(Duration::from_secs(due_s / 60 * 60)));
    println!(
        "keys of {} {}: {} signs, standby {}, next rotation in {}",
        line.domain,
        line.selector_prefix,
        of_stage("active"),
        of_stage("standby"),
        due.as_deref().unwrap_or("-")
    );
    let troubles = line.keys.iter().filter_map(|key| Some((&key.selector, key.trouble.as_ref()?)));
    for (selector, trouble) in troubles {
        println!("  {selector} waits: {trouble}");
    }
}

fn print_counters(counters: &BTreeMap<String, u64>) {
    for (name, value) in counters {
        println!("  {name:26} {value}");
    }
}

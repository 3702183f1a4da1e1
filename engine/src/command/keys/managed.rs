//! `postern keys list`, `rotate`, `emergency` and `abandon`: the keys that a running relay looks after.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::{Failure, GlobalOptions, actor};
use super::records::domain_of;
use crate::config::{parse_duration, shown_duration};
use crate::order::{Answer, KeyList, KeyOutcome, ListedKey, Request};

/// Which keys of a signing domain.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The signing domain
    #[arg(value_name = "DOMAIN")]
    pub domain: String,
    /// Only those whose selectors begin with this; all of the domain by default
    #[arg(long, value_name = "TEXT")]
    pub selector_prefix: Option<String>,
    /// Who orders it [default: the user who runs this command]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
}

/// What happened, and how urgent it is.
#[derive(Debug, clap::Args)]
pub struct EmergencyArgs {
    /// Which keys are not to be trusted any more
    #[command(flatten)]
    pub which: Which,
    /// Why; written to the log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// For how long mail that they signed may still be under way, such as "0s" or "1h": they are
    /// withdrawn after it [default: `emergency_drain_for` in [keys]]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub drain: Option<Duration>,
}

/// A key that has not signed.
#[derive(Debug, clap::Args)]
pub struct AbandonArgs {
    /// The signing domain
    #[arg(value_name = "DOMAIN")]
    pub domain: String,
    /// The selector
    #[arg(value_name = "SELECTOR")]
    pub selector: String,
    /// Who orders it [default: the user who runs this command]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number and a unit: \"0s\", \"30m\", \"2h\"".into())
}

/// The keys that the relay of this configuration looks after.
///
/// # Errors
/// No relay answers.
pub(super) fn ask(options: &GlobalOptions) -> Result<Vec<KeyList>, Failure> {
    match options.ask(&Request::KeyList {})? {
        Answer::Keys { lines } => Ok(lines),
        _ => Err(Failure::unexpected()),
    }
}

/// Shows every key, how far it is and what it waits for.
///
/// # Errors
/// No relay answers.
pub(super) fn list(domain: Option<&str>, options: &GlobalOptions) -> Result<(), Failure> {
    let domain = domain.map(domain_of).transpose()?;
    let mut lines = ask(options)?;
    lines.retain(|line| domain.as_ref().is_none_or(|domain| *domain == line.domain));
    if options.json {
        return options.print_json(&lines);
    }
    if lines.is_empty() {
        println!("The relay looks after no keys: no [[dkim]] has `managed = true`.");
    }
    lines.iter().for_each(print);
    Ok(())
}

/// Rotates as soon as the next keys may sign.
///
/// # Errors
/// No relay answers, or it cannot.
pub(super) fn rotate(which: &Which, options: &GlobalOptions) -> Result<(), Failure> {
    let request = Request::KeyRotate {
        domain: domain_of(&which.domain)?,
        selector_prefix: which.selector_prefix.clone(),
        actor: actor(which.actor.as_deref()),
    };
    order(&request, options, |line| match standby(line) {
        Some(key) => {
            format!("signs with {} as soon as its record has been seen again", key.selector)
        }
        None => "rotates as soon as a standby key is ready".to_owned(),
    })
}

/// Signs with the standby keys at once.
///
/// # Errors
/// No relay answers, or there is no standby key.
pub(super) fn emergency(args: &EmergencyArgs, options: &GlobalOptions) -> Result<(), Failure> {
    let request = Request::KeyEmergency {
        domain: domain_of(&args.which.domain)?,
        selector_prefix: args.which.selector_prefix.clone(),
        drain_s: args.drain.map(|drain| drain.as_secs()),
        reason: args.reason.clone(),
        actor: actor(args.which.actor.as_deref()),
    };
    order(&request, options, |line| {
        let active = line.keys.iter().find(|key| key.stage == "active");
        format!("signs with {}", active.map_or("nothing", |key| &key.selector))
    })
}

/// Gives up a key that has not signed.
///
/// # Errors
/// No relay answers, or the key signs or has signed.
pub(super) fn abandon(args: &AbandonArgs, options: &GlobalOptions) -> Result<(), Failure> {
    let request = Request::KeyAbandon {
        domain: domain_of(&args.domain)?,
        selector: args.selector.clone(),
        actor: actor(args.actor.as_deref()),
    };
    order(&request, options, |_| format!("gives up {} and makes another key", args.selector))
}

/// Has it done and says what came of it, line by line.
fn order(
    request: &Request,
    options: &GlobalOptions,
    done: impl Fn(&KeyList) -> String,
) -> Result<(), Failure> {
    let answer = options.ask(request)?;
    let Answer::KeysDone { effect_us, outcomes } = &answer else {
        return Err(Failure::unexpected());
    };
    let failed = outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
    if options.json {
        options.print_json(&answer)?;
    } else {
        for KeyOutcome { line, error } in outcomes {
            match error {
                None => println!("{}: {}.", title(line), done(line)),
                Some(error) => println!("{}: nothing changed: {error}.", title(line)),
            }
        }
        println!(
            "In effect on every shard after {}.{:03} ms.",
            effect_us / 1_000,
            effect_us % 1_000
        );
    }
    match failed {
        0 => Ok(()),
        _ if options.json => Err(Failure::told()),
        _ => Err(Failure::problem(format!("{failed} of {} could not do it", outcomes.len()))),
    }
}

fn standby(line: &KeyList) -> Option<&ListedKey> {
    line.keys.iter().find(|key| key.stage == "standby")
}

fn title(line: &KeyList) -> String {
    let mut title = format!("{} {} ({})", line.domain, line.selector_prefix, line.algorithm);
    if !line.apps.is_empty() {
        let _ = write!(title, " for {}", line.apps.join(", "));
    }
    title
}

fn print(line: &KeyList) {
    let due = match line.due_in_s {
        None => "nothing signs yet".to_owned(),
        Some(0) => "rotation is due".to_owned(),
        Some(due_s) => format!("next rotation in {}", days(due_s)),
    };
    println!("{}: {due}", title(line));
    for key in &line.keys {
        let next = match (&key.next, &key.trouble, &key.waits_for) {
            (None, ..) => String::new(),
            (Some(next), Some(trouble), _) => {
                format!("; not {next} yet, tried {} times: {trouble}", key.failures)
            }
            (Some(next), None, Some(waits)) => format!("; then {next}: {waits}"),
            (Some(next), None, None) => format!("; then {next}"),
        };
        println!("  {:<20} {} for {}{next}", key.selector, key.stage, days(key.in_stage_s));
    }
    if let Some(trouble) = &line.trouble {
        println!("  no further key: {trouble}");
    }
}

/// A time without more than its two greatest units.
fn days(seconds: u64) -> String {
    let unit = match seconds {
        0..60 => 1,
        60..3_600 => 60,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    shown_duration(Duration::from_secs(seconds / unit * unit))
}

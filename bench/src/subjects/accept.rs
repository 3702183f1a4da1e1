//! Accepting: from the socket to the durable log, nothing delivered.
//!
//! 100 sessions send pipelined messages of 4 KiB, authenticated, in clear. The relay holds what it
//! accepts; Postfix puts it into its hold queue.

use std::io;

use super::{Report, Subject};
use crate::case::{Case, Unit};
use crate::peers::postfix::{self, Postfix, Task};
use crate::rig::load;
use crate::rig::place;
use crate::rig::relay::{Relay, Setup, plain_load};
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "accept", about: "socket to durable log, mail is kept", run };

/// Microseconds of CPU time a message.
const GOAL_US: f64 = 30.0;
const SESSIONS: usize = 100;
const MESSAGES: u64 = 20_000;
/// Postfix needs fifty times as long.
const PEER_MESSAGES: u64 = 1_000;

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    place::volatile_note().into_iter().for_each(|note| report.note(&note));
    let plain = Setup::holding().without_filters().start()?;
    let filtering = Setup::holding().start()?;
    let peer = match postfix::absence() {
        None => Some(Postfix::start(Task::Hold)?),
        Some(why) => {
            report.note(&format!("no peer: {why}"));
            None
        }
    };
    let messages = effort.messages(MESSAGES);
    // The first connections check the password; what is measured is a relay that runs.
    for relay in [&plain, &filtering] {
        load::send(relay.load(SESSIONS, messages / 10))?;
    }
    let mut plain_us = || accept(&plain, messages);
    let mut filtering_us = || accept(&filtering, messages);
    let mut peer_us = || accept_by(peer.as_ref(), effort.messages(PEER_MESSAGES));
    let medians = effort.medians(&mut [&mut plain_us, &mut filtering_us, &mut peer_us])?;
    let peer_us = peer.as_ref().map(|_| medians[2]);
    for (input, ours) in [("filters off", medians[0]), ("filters on", medians[1])] {
        let input = format!("4 KiB, {SESSIONS} sessions, {input}");
        let case = Case::new(SUBJECT.name, input, ours, Unit::MicrosPerMessage);
        report.case(case.beside(postfix::NAME, peer_us).goal(GOAL_US));
    }
    Ok(())
}

fn accept(relay: &Relay, messages: u64) -> io::Result<f64> {
    let sending = || load::send(relay.load(SESSIONS, messages));
    let (cost_ns, summary) = relay.tree().cost_of(sending)?;
    Ok(super::micros_each(cost_ns, summary.accepted))
}

fn accept_by(peer: Option<&Postfix>, messages: u64) -> io::Result<f64> {
    let Some(postfix) = peer else { return Ok(0.0) };
    let sending = || load::send(plain_load(postfix.addr, SESSIONS, messages));
    let (cost_ns, summary) = postfix.tree()?.cost_of(sending)?;
    Ok(super::micros_each(cost_ns, summary.accepted))
}

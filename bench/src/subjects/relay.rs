//! Relaying: from the client's socket over the durable log to the next hop's, unsigned, in clear.
//!
//! The clock of a round stops when the next hop has taken the last message. `relay-tls` and
//! `relay-signed` are the same with encryption and signatures.

use std::io;

use postern_loadgen::source::{SourceOptions, Tls};

use super::{Report, Subject};
use crate::case::{Case, Unit};
use crate::peers::postfix::{self, Postfix, Task};
use crate::rig::cpu::Tree;
use crate::rig::load::{self, NextHop};
use crate::rig::place;
use crate::rig::relay::{Setup, plain_load};
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "relay", about: "client to next hop, unsigned, in clear", run };

/// Microseconds of CPU time a message.
const GOAL_US: f64 = 80.0;
const SESSIONS: usize = 100;
const MESSAGES: u64 = 20_000;
/// Postfix needs thirty times as long.
const PEER_MESSAGES: u64 = 1_000;

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    let route = Route { subject: SUBJECT.name, is_tls: false, is_signing: false };
    let case = route.measure(effort, report)?;
    report.case(case.goal(GOAL_US));
    Ok(())
}

/// One way through the relay.
pub(super) struct Route {
    pub(super) subject: &'static str,
    /// STARTTLS on both sides.
    pub(super) is_tls: bool,
    pub(super) is_signing: bool,
}

impl Route {
    /// Measures it beside Postfix (which does not sign).
    pub(super) fn measure(&self, effort: &Effort, report: &mut dyn Report) -> io::Result<Case> {
        place::volatile_note().into_iter().for_each(|note| report.note(&note));
        let hop = NextHop::start(self.is_tls)?;
        let setup = Setup::relaying(hop.addr, self.is_tls).without_filters();
        let relay = if self.is_signing { setup.signing() } else { setup }.start()?;
        let peer = self.peer(hop.addr, report)?;
        let messages = effort.messages(MESSAGES);
        through(relay.tree(), self.load(relay.load(SESSIONS, messages / 10)), &hop)?;
        let mut ours = || {
            let load = self.load(relay.load(SESSIONS, messages));
            through(relay.tree(), load, &hop)
                .map_err(|error| io::Error::other(format!("{error}; {}", relay.log_end())))
        };
        let mut theirs = || {
            let Some(postfix) = &peer else { return Ok(0.0) };
            let load = plain_load(postfix.addr, SESSIONS, effort.messages(PEER_MESSAGES));
            through(postfix.tree()?, self.load(load), &hop)
        };
        let medians = effort.medians(&mut [&mut ours, &mut theirs])?;
        let how = match (self.is_tls, self.is_signing) {
            (true, _) => "TLS 1.3 both sides",
            (false, true) => "in clear, RSA-2048 signature",
            (false, false) => "in clear",
        };
        let input = format!("4 KiB, {SESSIONS} sessions, {how}");
        let case = Case::new(self.subject, input, medians[0], Unit::MicrosPerMessage);
        let name = if self.is_signing { "postfix, unsigned" } else { postfix::NAME };
        Ok(case.beside(name, peer.map(|_| medians[1])))
    }

    fn load(&self, options: SourceOptions) -> SourceOptions {
        SourceOptions { tls: if self.is_tls { Tls::StartTls } else { Tls::None }, ..options }
    }

    fn peer(
        &self,
        next_hop: std::net::SocketAddr,
        report: &mut dyn Report,
    ) -> io::Result<Option<Postfix>> {
        if let Some(why) = postfix::absence() {
            report.note(&format!("no peer: {why}"));
            return Ok(None);
        }
        Postfix::start(Task::Relay { next_hop, is_tls: self.is_tls }).map(Some)
    }
}

/// Sends the load and waits until all of it has arrived; microseconds of CPU time a message.
fn through(server: Tree, load: SourceOptions, hop: &NextHop) -> io::Result<f64> {
    let before = hop.summary().received;
    let (cost_ns, accepted) = server.cost_of(|| {
        let accepted = load::send(load)?.accepted;
        hop.wait_for(before + accepted)?;
        Ok(accepted)
    })?;
    Ok(super::micros_each(cost_ns, accepted))
}

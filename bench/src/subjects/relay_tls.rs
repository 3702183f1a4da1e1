//! Relaying with STARTTLS and TLS 1.3 on both sides, keys ECDSA P-256; else as `relay`.

use std::io;

use super::relay::Route;
use super::{Report, Subject};
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "relay-tls", about: "client to next hop, TLS 1.3 on both sides", run };

/// Microseconds of CPU time a message.
const GOAL_US: f64 = 120.0;

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    let route = Route { subject: SUBJECT.name, is_tls: true, is_signing: false };
    let case = route.measure(effort, report)?;
    report.case(case.goal(GOAL_US));
    Ok(())
}

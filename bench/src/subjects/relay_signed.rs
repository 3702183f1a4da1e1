//! Relaying with one RSA-2048 DKIM signature a message; else as `relay`. For information: the
//! signature's mathematics is most of it.

use std::io;

use super::relay::Route;
use super::{Report, Subject};
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "relay-signed", about: "client to next hop with a DKIM signature", run };

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    let route = Route { subject: SUBJECT.name, is_tls: false, is_signing: true };
    let case = route.measure(effort, report)?;
    report.case(case);
    Ok(())
}

//! The filters over a message, fed in chunks of a receive buffer: MIME walked, parts decoded, text
//! searched.
//!
//! The peer, mail-parser, parses and decodes the same message as a whole and searches nothing, so it
//! does less; what it keeps of the message, we do not keep.

use std::io;
use std::sync::Arc;

use mail_parser::MessageParser;
use postern_filters::{Config, Filters, Scan, Verdict};

use super::{Report, Subject};
use crate::case::{Case, Unit};
use crate::input;
use crate::rig::cpu::thread_cost_ns;
use crate::rig::place;
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "scan", about: "the filters over a message, no I/O", run };

const CHUNK: usize = 16 << 10;
const MIB: u64 = 64;

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    place::pin(place::SERVER_CORE);
    let filters = filters()?;
    let messages = [
        ("4 KiB text", input::text_message(4096)),
        ("64 KiB text", input::text_message(65_536)),
        ("64 KiB with a base64 attachment", input::attachment_message(65_536)),
        ("1 MiB with a base64 attachment", input::attachment_message(1 << 20)),
    ];
    for (what, message) in &messages {
        let count = (effort.messages(MIB) << 20).div_ceil(message.len() as u64);
        let kib = count * (message.len() as u64).div_ceil(1024);
        let mut ours = || {
            let work = || (0..count).for_each(|_| consume(&scan(&filters, message)));
            Ok(super::each(thread_cost_ns(work), kib))
        };
        let mut theirs = || {
            let work = || (0..count).for_each(|_| consume(&parse(message)));
            Ok(super::each(thread_cost_ns(work), kib))
        };
        let medians = effort.medians(&mut [&mut ours, &mut theirs])?;
        let case = Case::new(SUBJECT.name, *what, medians[0], Unit::NanosPerKib);
        report.case(case.beside("mail-parser", Some(medians[1])));
    }
    Ok(())
}

/// Keeps the compiler from leaving out what made this.
fn consume<T>(outcome: &T) {
    std::hint::black_box(outcome);
}

/// The filters that a relay has unless told otherwise.
///
/// # Errors
/// Never, unless the default is broken.
pub fn filters() -> io::Result<Arc<Filters>> {
    Filters::new(Config::default())
        .map(Arc::new)
        .map_err(|error| io::Error::other(error.to_string()))
}

/// Scans a message in chunks.
pub fn scan(filters: &Arc<Filters>, message: &[u8]) -> Verdict {
    let mut scan = Scan::new(filters);
    message.chunks(CHUNK).for_each(|chunk| scan.feed(chunk));
    scan.finish().verdict
}

/// Parses it with the peer; returns how many parts it has.
pub fn parse(message: &[u8]) -> usize {
    MessageParser::default().parse(message).map_or(0, |message| message.parts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inputs_pass_and_parse() {
        let filters = filters().expect("the default is good");
        for (message, parts) in
            [(input::text_message(4096), 1), (input::attachment_message(65_536), 3)]
        {
            assert!(!matches!(scan(&filters, &message), Verdict::Reject(_)));
            assert_eq!(parse(&message), parts);
        }
    }
}

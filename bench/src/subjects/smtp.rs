//! A server session over a client's bytes, without any I/O: commands parsed, checked against the
//! state, replied to, content searched for its end and checked for its line ends.
//!
//! The peer, smtp-proto, is a parser: it keeps no state of a session, writes no replies and checks
//! no line ends, so it does less. It copies the content, we do not.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use postern_smtp::server::{Event, Security, Server, ServerOptions};
use smtp_proto::Request;
use smtp_proto::request::receiver::{DataReceiver, RequestReceiver};

use super::{Report, Subject};
use crate::case::{Case, Unit};
use crate::input;
use crate::rig::cpu::thread_cost_ns;
use crate::rig::place;
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "smtp", about: "a server session over bytes, no I/O", run };

const MESSAGES: u64 = 20_000;
const MESSAGES_A_SESSION: usize = 10;
/// A relay sees a session in pieces of its receive buffers.
const CHUNK: usize = 16 << 10;

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    place::pin(place::SERVER_CORE);
    for (what, bytes) in [("no content", 0), ("4 KiB", 4096), ("64 KiB", 65_536)] {
        let content = if bytes == 0 { b"\r\n".to_vec() } else { input::text_message(bytes) };
        let wire = input::dialogue(&content, MESSAGES_A_SESSION);
        let options = options();
        let sessions = effort.messages(MESSAGES) / MESSAGES_A_SESSION as u64;
        let messages = sessions * MESSAGES_A_SESSION as u64;
        let mut ours = || {
            let work = || (0..sessions).for_each(|_| consume(serve(&options, &wire)));
            Ok(super::each(thread_cost_ns(work), messages))
        };
        let mut theirs = || {
            let work = || (0..sessions).for_each(|_| consume(parse(&wire)));
            Ok(super::each(thread_cost_ns(work), messages))
        };
        let medians = effort.medians(&mut [&mut ours, &mut theirs])?;
        let input = format!("{what}, {MESSAGES_A_SESSION} messages a session");
        let case = Case::new(SUBJECT.name, input, medians[0], Unit::NanosPerMessage);
        report.case(case.beside("smtp-proto", Some(medians[1])));
    }
    Ok(())
}

/// Keeps the compiler from leaving out what made these counts.
fn consume(counts: (usize, usize)) {
    std::hint::black_box(counts);
}

/// What a listener on loopback might have.
pub fn options() -> Arc<ServerOptions> {
    Arc::new(ServerOptions { auth: false, starttls: false, ..ServerOptions::default() })
}

/// Runs one session over the client's bytes; returns messages and bytes of content.
pub fn serve(options: &Arc<ServerOptions>, wire: &[u8]) -> (usize, usize) {
    let now = Instant::now();
    let mut server = Server::new(Arc::clone(options), Security::Plain, now);
    let (mut messages, mut bytes) = (0, 0);
    for chunk in wire.chunks(CHUNK) {
        let mut at = 0;
        loop {
            let received = server.receive(&chunk[at..], now);
            at += received.consumed;
            match received.event {
                None if at == chunk.len() => break,
                None | Some(Event::Hello(_)) => {}
                Some(Event::Content(content)) => bytes += content.len(),
                Some(Event::EndOfData(_)) => {
                    messages += 1;
                    server.accept(now);
                }
                Some(Event::Flush) => drop(server.transmit()),
                Some(_) => server.accept(now),
            }
        }
        drop(std::hint::black_box(server.transmit()));
    }
    (messages, bytes)
}

/// Parses the client's bytes with the peer; returns messages and bytes of content.
pub fn parse(wire: &[u8]) -> (usize, usize) {
    let mut requests = RequestReceiver::default();
    let mut data: Option<DataReceiver> = None;
    let mut content = Vec::new();
    let (mut messages, mut bytes) = (0, 0);
    for chunk in wire.chunks(CHUNK) {
        let mut iter = chunk.iter();
        loop {
            if let Some(receiver) = &mut data {
                if !receiver.ingest(&mut iter, &mut content) {
                    break;
                }
                messages += 1;
                bytes += content.len();
                content.clear();
                data = None;
            }
            match requests.ingest(&mut iter) {
                Ok(Request::Data) => data = Some(DataReceiver::new()),
                Ok(request) => drop(std::hint::black_box(request)),
                Err(_) => break,
            }
        }
    }
    (messages, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_see_all_messages() {
        let content = input::text_message(4096);
        let wire = input::dialogue(&content, 10);
        let (messages, bytes) = serve(&options(), &wire);
        assert_eq!(messages, 10);
        assert!(bytes >= 10 * content.len());
        assert_eq!(parse(&wire), (10, 10 * content.len()));
    }
}

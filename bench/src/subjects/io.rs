//! The drivers: the relay's session state machine around each of them, nothing behind it, under
//! loads of different shape. What differs is how bytes come and go.
//!
//! CPU time and system calls between 10 and 95 % of the messages: setting up connections is not in
//! them, but in load H, where each message has its own.

use std::io;

use postern_loadgen::source::SourceOptions;

use super::{Report, Subject};
use crate::case::{Case, Unit};
use crate::peers::tokio_uring;
use crate::rig::load;
use crate::rig::place;
use crate::rig::relay::plain_load;
use crate::rig::sink::{Driver, LARGE_BUFFER, SMALL_BUFFER, Sink};
use crate::rounds::{Effort, median};

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "io", about: "the drivers under a bare session, six loads", run };

/// System calls a message of the `uring` driver, under loads that keep it busy.
const CALLS_GOAL: f64 = 0.2;

/// One shape of load.
struct Load {
    name: &'static str,
    bytes: usize,
    sessions: usize,
    is_pipelined: bool,
    messages_per_connection: Option<u64>,
    messages: u64,
}

const LOADS: &[Load] = &[
    Load::new("A 4 KiB, 100 sessions, pipelined", 4 << 10, 100, 80_000),
    Load::new("B 4 KiB, 2,000 sessions, pipelined", 4 << 10, 2_000, 100_000),
    Load {
        is_pipelined: false,
        ..Load::new("D 4 KiB, 2,000 sessions, step by step", 4 << 10, 2_000, 30_000)
    },
    Load::new("F 1 MiB, 100 sessions", 1 << 20, 100, 1_500),
    Load::new("G 64 KiB, 2,000 sessions", 64 << 10, 2_000, 20_000),
    Load {
        messages_per_connection: Some(1),
        ..Load::new("H 4 KiB, one message a connection", 4 << 10, 100, 6_000)
    },
];

impl Load {
    const fn new(name: &'static str, bytes: usize, sessions: usize, messages: u64) -> Self {
        Self { name, bytes, sessions, is_pipelined: true, messages_per_connection: None, messages }
    }

    fn options(&self, sink: &Sink, messages: u64) -> SourceOptions {
        SourceOptions {
            message_bytes: self.bytes,
            pipelining: self.is_pipelined,
            messages_per_connection: self.messages_per_connection,
            ..plain_load(sink.addr, self.sessions, messages)
        }
    }

    fn buffer(&self) -> usize {
        if self.bytes > SMALL_BUFFER { LARGE_BUFFER } else { SMALL_BUFFER }
    }
}

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    place::open_files_max();
    for load in LOADS {
        measure(load, effort, report)?;
    }
    Ok(())
}

fn measure(load: &Load, effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    // Twice as many messages as sessions at least, so that there is a middle to measure.
    let messages = effort.messages(load.messages).max(2 * load.sessions as u64);
    let mut uring = start(Driver::Uring, load, report)?;
    let mut peer = start(Driver::TokioUring, load, report)?;
    let mut epoll = start(Driver::Epoll, load, report)?;
    let (mut calls, mut epoll_calls) = (Vec::new(), Vec::new());
    let mut uring_us = || one(load, uring.as_mut(), messages, &mut calls);
    let mut peer_us = || one(load, peer.as_mut(), messages, &mut Vec::new());
    let mut epoll_us = || one(load, epoll.as_mut(), messages, &mut epoll_calls);
    let medians = effort.medians(&mut [&mut uring_us, &mut peer_us, &mut epoll_us])?;
    if uring.is_none() {
        return Ok(());
    }
    let case = || Case::new(SUBJECT.name, load.name, medians[0], Unit::MicrosPerMessage);
    report.case(case().beside(tokio_uring::NAME, peer.map(|_| medians[1])));
    report.case(case().beside("own epoll driver", epoll.map(|_| medians[2])));
    let case = Case::new(SUBJECT.name, load.name, median(calls), Unit::CallsPerMessage);
    let case = case.beside("own epoll driver", Some(median(epoll_calls)));
    report.case(if load.is_pipelined && load.messages_per_connection.is_none() {
        case.goal(CALLS_GOAL)
    } else {
        case
    });
    Ok(())
}

/// A sink, or a note why there is none: a kernel may refuse io_uring.
fn start(driver: Driver, load: &Load, report: &mut dyn Report) -> io::Result<Option<Sink>> {
    match Sink::start(driver, load.buffer()) {
        Ok(sink) => Ok(Some(sink)),
        Err(error) if driver != Driver::Epoll => {
            report.note(&format!("no {driver:?} here: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Microseconds of CPU time a message; system calls a message go to `calls`.
fn one(
    load: &Load,
    sink: Option<&mut Sink>,
    messages: u64,
    calls: &mut Vec<f64>,
) -> io::Result<f64> {
    let Some(sink) = sink else { return Ok(0.0) };
    let (options, server) = (load.options(sink, messages), sink.tree());
    let middle = load::middle(options, || Ok((server.cpu_ns()?, sink.counts()?.system_calls)))?;
    let ((first_ns, first_calls), (last_ns, last_calls)) = (middle.first, middle.last);
    #[allow(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
    let (used_ns, made) = ((last_ns - first_ns) as f64, (last_calls - first_calls) as f64);
    calls.push(super::each(made, middle.messages));
    Ok(super::micros_each(used_ns, middle.messages))
}

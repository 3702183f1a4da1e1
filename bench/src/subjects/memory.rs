//! Memory of the relay: what an idle session costs, and whether a burst stays inside the bound.
//!
//! Resident memory of the process, as the kernel counts it; socket buffers of the kernel are not in
//! it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_loadgen::transport::{self, Transport};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::{Report, Subject};
use crate::case::{Case, Unit};
use crate::rig::cpu::resident_kib;
use crate::rig::load;
use crate::rig::place;
use crate::rig::relay::{Relay, Setup};
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "memory", about: "idle sessions, and a burst against the bound", run };

const IDLE_SESSIONS: u64 = 10_000;
const IDLE_GOAL_KIB: f64 = 2.0;
const IDLE_TLS_GOAL_KIB: f64 = 16.0;

const BURST_SESSIONS: usize = 2_000;
const BURST_BYTES: usize = 64 << 10;
const BURST_MESSAGES: u64 = 3 * BURST_SESSIONS as u64;
/// The relay's bound for messages: `memory_mib` and the receive buffers of its one core.
const BOUND_MIB: f64 = 64.0 + 8.0;

/// Descriptors that are not sessions.
const DESCRIPTORS_SPARE: u64 = 200;
/// Sessions that are being opened at a time.
const OPENING: usize = 200;
/// What has been freed goes back in the background.
const SETTLE: Duration = Duration::from_secs(2);

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    let descriptors = place::open_files_max();
    let wanted = effort.messages(IDLE_SESSIONS);
    let sessions = wanted.min(descriptors.saturating_sub(DESCRIPTORS_SPARE));
    if sessions < wanted {
        report
            .note(&format!("{sessions} sessions, not {wanted}: {descriptors} open files allowed"));
    }
    for (what, is_tls, goal) in
        [("in clear", false, IDLE_GOAL_KIB), ("TLS 1.3", true, IDLE_TLS_GOAL_KIB)]
    {
        let kib = idle(sessions, is_tls)?;
        let input = format!("{sessions} idle sessions, {what}");
        report.case(Case::new(SUBJECT.name, input, kib, Unit::KibPerSession).goal(goal));
    }
    let (grown_mib, deferred) = burst()?;
    if deferred > 0 {
        report.note(&format!("{deferred} of {BURST_MESSAGES} messages of the burst were told 4xx"));
    }
    let input = format!("{BURST_SESSIONS} sessions with 64 KiB at once, growth");
    report.case(Case::new(SUBJECT.name, input, grown_mib, Unit::Mib).goal(BOUND_MIB));
    Ok(())
}

fn relay() -> io::Result<Relay> {
    // More than the default, so that the bound is not what is measured.
    Setup::holding().with_line("[[listener]]", "limits = { sessions_max = 12000 }").start()
}

/// KiB of the relay's memory for each of these sessions.
fn idle(sessions: u64, is_tls: bool) -> io::Result<f64> {
    let relay = relay()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // The first sessions pay for what all share.
    let first = open(&runtime, relay.addr, 100, is_tls)?;
    std::thread::sleep(SETTLE);
    let before = resident_kib(relay.tree().pid)?;
    let all = open(&runtime, relay.addr, sessions - 100, is_tls)?;
    std::thread::sleep(SETTLE);
    let after = resident_kib(relay.tree().pid)?;
    drop((first, all));
    #[allow(clippy::cast_precision_loss, reason = "a figure for people, far below 2^52")]
    let grown = after.saturating_sub(before) as f64;
    Ok(super::each(grown, sessions - 100))
}

/// Opens sessions as far as the reply to EHLO.
fn open(
    runtime: &Runtime,
    addr: SocketAddr,
    sessions: u64,
    is_tls: bool,
) -> io::Result<Vec<Transport>> {
    let tls = if is_tls { Some(transport::client_config(None)?) } else { None };
    runtime.block_on(async {
        let mut open = Vec::new();
        let mut opening = JoinSet::new();
        for _ in 0..sessions {
            if opening.len() >= OPENING
                && let Some(done) = opening.join_next().await
            {
                open.push(done.map_err(io::Error::other)??);
            }
            opening.spawn(greet(addr, tls.clone()));
        }
        while let Some(done) = opening.join_next().await {
            open.push(done.map_err(io::Error::other)??);
        }
        Ok(open)
    })
}

async fn greet(addr: SocketAddr, tls: Option<Arc<ClientConfig>>) -> io::Result<Transport> {
    let mut session = Transport::Plain(TcpStream::connect(addr).await?);
    expect(&mut session, b"220").await?;
    ask(&mut session, b"EHLO memory.invalid\r\n", b"250").await?;
    if let Some(config) = tls {
        ask(&mut session, b"STARTTLS\r\n", b"220").await?;
        session = session.connect_tls(config, ServerName::from(addr.ip())).await?;
        ask(&mut session, b"EHLO memory.invalid\r\n", b"250").await?;
    }
    Ok(session)
}

async fn ask(session: &mut Transport, command: &[u8], code: &[u8]) -> io::Result<()> {
    session.write(command).await?;
    expect(session, code).await
}

async fn expect(session: &mut Transport, code: &[u8]) -> io::Result<()> {
    let mut reply = Vec::new();
    let is_whole = |reply: &[u8]| {
        let last = reply.split_inclusive(|&byte| byte == b'\n').next_back();
        last.is_some_and(|line| line.ends_with(b"\r\n") && line.get(3) == Some(&b' '))
    };
    while !is_whole(&reply) {
        if session.read(&mut reply).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    match reply.starts_with(code) {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&reply).into_owned())),
    }
}

/// MiB that the relay's memory grows by at most while all sessions send at once, and how many
/// messages it put off meanwhile: that is how it may defend its bound.
fn burst() -> io::Result<(f64, u64)> {
    let relay = relay()?;
    load::send(relay.load(10, 100))?;
    let pid = relay.tree().pid;
    let before = resident_kib(pid)?;
    let load = postern_loadgen::source::SourceOptions {
        message_bytes: BURST_BYTES,
        ..relay.load(BURST_SESSIONS, BURST_MESSAGES)
    };
    let sending = std::thread::spawn(move || load::offer(load));
    let started = Instant::now();
    let mut peak = before;
    while !sending.is_finished() {
        peak = peak.max(resident_kib(pid)?);
        std::thread::sleep(Duration::from_millis(2));
        if started.elapsed() > BURST_PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the burst does not end"));
        }
    }
    let sent =
        sending.join().map_err(|_| io::Error::other("the load's thread panicked")).flatten()?;
    if sent.rejected + sent.unknown + sent.unsent > 0 {
        let words = sent.last_refusal.or(sent.last_failure).unwrap_or_default();
        return Err(io::Error::other(format!("the burst broke sessions: {words}")));
    }
    #[allow(clippy::cast_precision_loss, reason = "a figure for people, far below 2^52")]
    let grown = peak.saturating_sub(before) as f64;
    Ok((grown / 1024.0, sent.deferred))
}

const BURST_PATIENCE: Duration = Duration::from_secs(120);

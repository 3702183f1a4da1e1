//! Randomised stress of both drivers, on rings so small that every rare path is common.
//!
//! Each run is drawn from a seed and bounded to about a second; `IO_STRESS_SEEDS=200 cargo test
//! --release -p postern io::stress` soaks. What must hold: every byte an honest connection gets is the
//! right one, nothing hangs (a watchdog looks at each step), no completion is for an operation that
//! ended, and when all is over all buffers, blocks and descriptors are back.

use std::cell::Cell;
use std::env;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{self, LocalSet};
use tokio::time::{sleep, timeout};

use super::conformance::{options, pair, pattern, run};
use super::{Choice, DriverKind, File, FileMode, Io, IoOptions, Listener, Stream};

/// Length of one seed's run.
const RUN_MS: u64 = 1_000;

/// A step that takes longer hangs. Generous: the machine may be busy.
const WATCHDOG_S: u64 = 20;

/// Tasks that use the file, each in places of its own.
const LANES: u64 = 3;

/// SplitMix64: the seed's stream of choices.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    async fn pause(&mut self) {
        match self.below(4) {
            0 => sleep(Duration::from_micros(self.roll() % 2_000)).await,
            1 => task::yield_now().await,
            _ => {}
        }
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    let count = env::var("IO_STRESS_SEEDS").ok().and_then(|count| count.parse().ok());
    1..=count.unwrap_or(2)
}

/// Two buffers, four submissions, four completions, few descriptors.
fn tiny(choice: Choice) -> IoOptions {
    IoOptions {
        receive_memory_bytes: 2 * 4096,
        ring_entries: 4,
        completion_factor: 1,
        direct_descriptors: 128,
        ..options(choice)
    }
}

async fn watched<T>(what: &str, step: impl Future<Output = T>) -> T {
    match timeout(Duration::from_secs(WATCHDOG_S), step).await {
        Ok(value) => value,
        Err(_) => panic!("lost: {what}"),
    }
}

/// What the server does with a connection, told by the client's first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Echoes all.
    Honest = 1,
    /// Drops the stream at some point.
    Drops = 2,
    /// Panics at some point, with a lease in hand.
    Panics = 3,
}

impl Manner {
    fn draw(dice: &mut Dice) -> Self {
        match dice.below(6) {
            0 => Self::Drops,
            1 => Self::Panics,
            _ => Self::Honest,
        }
    }

    fn read(byte: u8) -> Self {
        match byte {
            2 => Self::Drops,
            3 => Self::Panics,
            _ => Self::Honest,
        }
    }
}

async fn serve(mut stream: Stream, mut dice: Dice) -> io::Result<()> {
    let mut manner = None;
    loop {
        if dice.one_in(5) {
            // A receive that is dropped must lose nothing.
            let dropped = tokio::select! {
                biased;
                lease = stream.receive() => Some(lease?),
                () = task::yield_now() => None,
            };
            if let Some(lease) = dropped {
                manner.get_or_insert(Manner::read(*lease.first().unwrap_or(&0)));
                if lease.is_empty() {
                    return Ok(());
                }
                let copy = Bytes::copy_from_slice(&lease);
                drop(lease);
                stream.send(vec![copy]).await?;
            }
            continue;
        }
        let lease = stream.receive().await?;
        if lease.is_empty() {
            if dice.one_in(2) {
                stream.close().await;
            }
            return Ok(());
        }
        let manner = *manner.get_or_insert(Manner::read(lease[0]));
        match manner {
            Manner::Drops if dice.one_in(3) => return Ok(()),
            // Unwinds like a panic, without the noise of its hook.
            Manner::Panics if dice.one_in(3) => panic::resume_unwind(Box::new("injected")),
            _ => {}
        }
        dice.pause().await;
        let middle = dice.below(lease.len() + 1);
        let parts = [&lease[..middle], &lease[middle..]];
        let parts = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
        drop(lease);
        stream.send(parts).await?;
    }
}

async fn accept_all(mut listener: Listener, mut dice: Dice) {
    loop {
        // Accepts are dropped half way too.
        let accepted = timeout(Duration::from_micros(dice.roll() % 3_000), listener.accept()).await;
        if let Ok(accepted) = accepted {
            let (stream, _) = accepted.expect("descriptors do not leak");
            task::spawn_local(serve(stream, Dice(dice.roll())));
        }
    }
}

/// One connection from outside. An honest one must get back what it sent.
async fn visit(addr: SocketAddr, mut dice: Dice) {
    let manner = Manner::draw(&mut dice);
    let length = 1 + dice.below(40_000);
    let mut sent = pattern(length, dice.roll()).to_vec();
    sent[0] = manner as u8;
    let peer = watched("connect", TcpStream::connect(addr)).await.unwrap();
    let is_reset = dice.one_in(8);
    let (mut reader, mut writer) = peer.into_split();
    let expected = sent.clone();
    let mut writing_dice = dice.clone();
    let writing = task::spawn_local(async move {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let now = 1 + writing_dice.below(rest.len());
            writing_dice.pause().await;
            if writer.write_all(&rest[..now]).await.is_err() {
                return None;
            }
            rest = &rest[now..];
        }
        if is_reset {
            SockRef::from(writer.as_ref()).set_linger(Some(Duration::ZERO)).ok();
            return None;
        }
        writer.shutdown().await.ok()?;
        Some(writer)
    });
    let mut seen = vec![0; length];
    let mut at = 0;
    while at < length && !(is_reset && dice.one_in(4)) {
        match watched("echo", reader.read(&mut seen[at..])).await {
            Ok(0) | Err(_) => break,
            Ok(read) => at += read,
        }
        dice.pause().await;
    }
    assert!(seen[..at] == expected[..at], "bytes changed on the way");
    if manner == Manner::Honest && !is_reset {
        assert_eq!(at, length, "an honest echo is whole");
    }
    drop(reader);
    watched("write", writing).await.unwrap();
}

/// Writes blocks and reads them back, some futures dropped.
async fn use_file(io: Io, file: Rc<File>, mut lane: u64, mut dice: Dice, until: Instant) {
    while Instant::now() < until {
        let bytes = 4096 << dice.below(5);
        let seed = dice.roll();
        let mut block = io.blocks().take_when_free(bytes).await;
        block.copy_from_slice(&pattern(bytes, seed));
        let offset = lane << 20;
        if dice.one_in(4) {
            let limit = Duration::from_micros(dice.roll() % 300);
            if timeout(limit, file.write(offset, vec![block])).await.is_err() {
                // It runs on for as long as it takes: nothing else may use the place.
                lane += LANES;
            }
            watched("flush", file.flush()).await.unwrap();
            continue;
        }
        let (result, mut blocks) = watched("write", file.write(offset, vec![block])).await;
        result.unwrap();
        let mut block = blocks.pop().unwrap();
        block.fill(0);
        let (result, block) = watched("read", file.read(offset, block, bytes)).await;
        assert_eq!(result.unwrap(), bytes);
        assert!(block[..] == pattern(bytes, seed)[..], "the file holds other bytes");
        dice.pause().await;
    }
}

async fn chaos(io: Io, seed: u64) {
    let mut dice = Dice(seed);
    let until = Instant::now() + Duration::from_millis(RUN_MS);
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let file = Rc::new(io.open(&folder.path().join("log"), FileMode::Create).unwrap());
    let listener = io.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let addr = listener.local_addr();
    let server = task::spawn_local(accept_all(listener, Dice(dice.roll())));
    let visits = Rc::new(Cell::new(0_u32));
    let mut tasks = Vec::new();
    for _ in 0..24 {
        let (mut dice, visits) = (Dice(dice.roll()), Rc::clone(&visits));
        tasks.push(task::spawn_local(async move {
            while Instant::now() < until {
                visit(addr, Dice(dice.roll())).await;
                visits.set(visits.get() + 1);
            }
        }));
    }
    for lane in 0..LANES {
        let dice = Dice(dice.roll());
        tasks.push(task::spawn_local(use_file(io.clone(), Rc::clone(&file), lane, dice, until)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    server.abort();
    assert!(visits.get() > 24, "{} visits", visits.get());
}

#[test]
fn chaos_on_tiny_rings() {
    for seed in seeds() {
        run(&tiny(Choice::Uring), |io| async move {
            chaos(io.clone(), seed).await;
            let stats = io.stats();
            assert!(stats.buffers_exhausted > 0, "receives never starved: {stats:?}");
            assert!(stats.completion_overflows > 0, "completions never overflowed: {stats:?}");
        });
    }
}

#[test]
fn chaos_on_usual_rings() {
    for seed in seeds() {
        run(&options(Choice::Uring), |io| chaos(io, seed));
    }
}

#[test]
fn chaos_on_epoll() {
    for seed in seeds() {
        run(&tiny(Choice::Epoll), |io| chaos(io, seed));
    }
}

/// Ping-pong with random think time on both sides: a lost wake-up is a hang.
async fn ping_pong(io: Io, seed: u64) {
    let mut dice = Dice(seed);
    let until = Instant::now() + Duration::from_millis(RUN_MS);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (ours, mut peer) = pair(&io).await;
        task::spawn_local(serve(ours, Dice(dice.roll())));
        let mut dice = Dice(dice.roll());
        tasks.push(task::spawn_local(async move {
            let mut rounds = 0_u32;
            while Instant::now() < until {
                let mut sent = pattern(1 + dice.below(64), dice.roll()).to_vec();
                sent[0] = Manner::Honest as u8;
                let mut seen = vec![0; sent.len()];
                peer.write_all(&sent).await.unwrap();
                watched("pong", peer.read_exact(&mut seen)).await.unwrap();
                assert!(seen == sent);
                // Mostly nothing, so that the answer races with falling asleep.
                if dice.one_in(3) {
                    sleep(Duration::from_micros(dice.roll() % 500)).await;
                }
                rounds += 1;
            }
            rounds
        }));
    }
    let mut rounds = 0;
    for task in tasks {
        rounds += task.await.unwrap();
    }
    assert!(rounds > 100, "{rounds} rounds");
}

#[test]
fn no_wake_up_is_lost() {
    for seed in seeds() {
        run(&options(Choice::Uring), |io| ping_pong(io, seed));
        run(&tiny(Choice::Uring), |io| ping_pong(io, seed));
    }
}

/// Everything is started and dropped at random moments; slots are reused all the time.
async fn cancel_races(io: Io, seed: u64) {
    let mut dice = Dice(seed);
    let until = Instant::now() + Duration::from_millis(RUN_MS);
    let mut listener = io.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let addr = listener.local_addr();
    let mut held: Vec<Stream> = Vec::new();
    let mut completed = 0_u32;
    while Instant::now() < until {
        let limit = Duration::from_micros(dice.roll() % 200);
        match dice.below(6) {
            0 => {
                let connected = timeout(limit, io.connect(addr, None)).await;
                held.extend(connected.ok().and_then(Result::ok));
            }
            1 => {
                let accepted = timeout(limit, listener.accept()).await;
                held.extend(accepted.ok().map(|accepted| accepted.unwrap().0));
            }
            2 if !held.is_empty() => drop(held.swap_remove(dice.below(held.len()))),
            3 if !held.is_empty() => {
                let stream = held.swap_remove(dice.below(held.len()));
                completed += u32::from(timeout(limit, stream.close()).await.is_ok());
            }
            4 if !held.is_empty() => {
                let at = dice.below(held.len());
                let sending = held[at].send(vec![pattern(1 + dice.below(300_000), 1)]);
                completed += u32::from(timeout(limit, sending).await.is_ok());
            }
            5 if !held.is_empty() => {
                let at = dice.below(held.len());
                completed += u32::from(timeout(limit, held[at].receive()).await.is_ok());
            }
            _ => task::yield_now().await,
        }
        if held.len() > 40 {
            held.drain(..20);
        }
    }
    assert!(completed > 0 && (io.driver() == DriverKind::Epoll || io.stats().cancels > 0));
    drop(held);
    // The kernel's backlog may hold what nobody took.
    while let Ok(accepted) = timeout(Duration::from_millis(50), listener.accept()).await {
        accepted.unwrap();
    }
    // After all that, a plain exchange works.
    let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(addr));
    let (server, mut peer) = (task::spawn_local(serve(ours.unwrap().0, Dice(1))), theirs.unwrap());
    let mut seen = [0; 4];
    peer.write_all(b"\x01abc").await.unwrap();
    watched("echo", peer.read_exact(&mut seen)).await.unwrap();
    assert_eq!(&seen, b"\x01abc");
    drop(peer);
    server.await.unwrap().ok();
}

#[test]
fn cancels_race_with_completions() {
    for seed in seeds() {
        run(&tiny(Choice::Uring), |io| cancel_races(io, seed));
        run(&options(Choice::Uring), |io| cancel_races(io, seed));
    }
}

#[test]
fn cancels_race_on_epoll() {
    for seed in seeds() {
        run(&tiny(Choice::Epoll), |io| cancel_races(io, seed));
    }
}

/// The ring goes while everything is in flight; the memory under it must not.
#[test]
fn a_ring_ends_with_operations_in_flight() {
    for round in 0..20 {
        let options = tiny(Choice::Uring);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begun = Instant::now();
        LocalSet::new().block_on(&runtime, async {
            let Ok(io) = Io::start(&options) else { return };
            let (ours, peer) = pair(&io).await;
            task::spawn_local(serve(ours, Dice(round)));
            let (mut ours, _peer) = pair(&io).await;
            task::spawn_local(async move {
                ours.send(vec![pattern(8 << 20, 1)]).await.ok();
            });
            let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            let file = io.open(&folder.path().join("log"), FileMode::Create).unwrap();
            let block = io.blocks().take(1 << 18).unwrap();
            task::spawn_local(async move { file.write(0, vec![block]).await.0 });
            for _ in 0..round {
                task::yield_now().await;
            }
            drop(peer);
        });
        drop(runtime);
        assert!(begun.elapsed() < Duration::from_secs(4), "the kernel was waited for in vain");
    }
}

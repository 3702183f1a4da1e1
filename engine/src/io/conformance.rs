//! One suite, both drivers: what the interface promises, against peers that are plain tokio sockets.

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, io};

use bytes::Bytes;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{self, LocalSet};
use tokio::time::{sleep, timeout};

use super::{Block, Choice, FileMode, Io, IoOptions, Stream};

/// Longest a test may take: beyond, something hangs.
const TEST_S_MAX: u64 = 60;

/// Sizes for tests: small enough to start quickly.
pub(super) fn options(choice: Choice) -> IoOptions {
    IoOptions {
        choice,
        receive_memory_bytes: 1 << 20,
        receive_buffer_bytes: 4096,
        block_memory_bytes: 4 << 20,
        ring_entries: 64,
        completion_factor: 4,
        direct_descriptors: 4096,
        gather_us: 50,
    }
}

/// Runs a test on a fresh shard, and checks that nothing is left over. Says so and passes where the
/// system refuses io_uring.
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
pub(super) fn run<F: Future<Output = ()>>(options: &IoOptions, test: impl FnOnce(Io) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = LocalSet::new().block_on(&runtime, async {
        let io = match Io::start(options) {
            Ok(io) => io,
            Err(refusal) => return Err(refusal),
        };
        let limit = Duration::from_secs(TEST_S_MAX);
        let done = timeout(limit, test(io.clone())).await;
        assert!(done.is_ok(), "the test hangs; {:?}", io.stats());
        assert_tidy(&io).await;
        Ok(())
    });
    if let Err(refusal) = outcome {
        eprintln!("skipped: {refusal}");
    }
}

/// All memory comes back once nobody uses it.
async fn assert_tidy(io: &Io) {
    let all_free = || {
        let blocks = io.blocks();
        io.stats().buffers_lent == 0 && blocks.free_bytes() == blocks.capacity_bytes()
    };
    for _ in 0..200 {
        if all_free() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(all_free(), "memory is missing: {:?} {:?}", io.stats(), io.blocks());
    assert_eq!(io.stats().stale_completions, 0);
}

macro_rules! on_both_drivers {
    ($($name:ident,)*) => {
        mod uring {
            use super::{Choice, options, run};
            $(#[test] fn $name() { run(&options(Choice::Uring), super::$name); })*
        }
        mod epoll {
            use super::{Choice, options, run};
            $(#[test] fn $name() { run(&options(Choice::Epoll), super::$name); })*
        }
    };
}

on_both_drivers! {
    echoes_every_size,
    sends_vectors,
    sends_nothing_as_nothing,
    keeps_a_half_closed_peer,
    reports_a_reset,
    gives_up_a_send_nobody_reads,
    loses_no_byte_to_dropped_receives,
    keeps_a_lease_while_more_arrives,
    pauses_a_stream_nobody_drains,
    accepts_a_burst,
    accepts_after_dropped_futures,
    refuses_after_the_listener_is_gone,
    shows_mapped_addresses_as_ipv4,
    listens_twice_on_one_port,
    reports_a_refused_connect,
    gives_up_a_connect_that_hangs,
    connects_from_a_source_address,
    closes_what_is_dropped,
    delivers_what_was_sent_before_close,
    writes_and_reads_files,
    writes_many_scattered_blocks,
    reads_to_the_end_of_a_file,
    refuses_bad_ranges,
    reports_file_errors,
    opens_as_told,
    finishes_a_dropped_write,
    survives_many_short_connections,
    wakes_for_timers_and_channels,
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A connected pair: ours, and the peer's plain socket.
pub(super) async fn pair(io: &Io) -> (Stream, TcpStream) {
    let mut listener = io.listen(loopback()).unwrap();
    let addr = listener.local_addr();
    let (ours, peer) = tokio::join!(listener.accept(), TcpStream::connect(addr));
    let (ours, peer) = (ours.unwrap(), peer.unwrap());
    assert_eq!(ours.1, peer.local_addr().unwrap());
    (ours.0, peer)
}

/// Bytes that differ at every offset within reach.
pub(super) fn pattern(length: usize, seed: u64) -> Bytes {
    let byte = |at: usize| {
        let mixed = (at as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed.to_be_bytes()[0]
    };
    (0..length).map(byte).collect()
}

/// Echoes until the peer closes.
pub(super) async fn echo(mut stream: Stream) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        let lease = stream.receive().await?;
        if lease.is_empty() {
            stream.close().await;
            return Ok(bytes);
        }
        bytes += lease.len() as u64;
        let copy = Bytes::copy_from_slice(&lease);
        drop(lease);
        stream.send(vec![copy]).await?;
    }
}

/// Receives exactly `length` bytes.
async fn receive_exactly(stream: &mut Stream, length: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    while seen.len() < length {
        let lease = stream.receive().await.unwrap();
        assert!(!lease.is_empty(), "closed after {} of {length} bytes", seen.len());
        seen.extend_from_slice(&lease);
    }
    assert_eq!(seen.len(), length);
    seen
}

async fn echoes_every_size(io: Io) {
    let (ours, peer) = pair(&io).await;
    let server = task::spawn_local(echo(ours));
    let (mut reader, mut writer) = peer.into_split();
    let mut total = 0;
    for length in [1, 2, 100, 4095, 4096, 4097, 16_384, 65_537, 1_000_000] {
        let sent = pattern(length, length as u64);
        let mut back = vec![0; length];
        let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut back));
        wrote.unwrap();
        read.unwrap();
        assert!(back == sent, "{length} bytes came back changed");
        total += length as u64;
    }
    drop(writer);
    assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(server.await.unwrap().unwrap(), total);
    let stats = io.stats();
    assert_eq!((stats.bytes_received, stats.bytes_sent), (total, total));
}

async fn sends_vectors(io: Io) {
    let (mut ours, mut peer) = pair(&io).await;
    for (count, length) in [(1, 10), (2, 5000), (7, 1), (1024, 3), (1025, 3), (3000, 700)] {
        let whole = pattern(count * length, 7);
        let mut parts: Vec<Bytes> =
            (0..count).map(|part| whole.slice(part * length..(part + 1) * length)).collect();
        parts.insert(count / 2, Bytes::new());
        parts.push(Bytes::new());
        let mut seen = vec![0; whole.len()];
        let (sent, read) = tokio::join!(ours.send(parts), peer.read_exact(&mut seen));
        sent.unwrap();
        read.unwrap();
        assert!(seen == whole, "{count} parts of {length} bytes");
    }
}

async fn sends_nothing_as_nothing(io: Io) {
    let (mut ours, mut peer) = pair(&io).await;
    ours.send(vec![]).await.unwrap();
    ours.send(vec![Bytes::new(), Bytes::new()]).await.unwrap();
    ours.close().await;
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
}

async fn keeps_a_half_closed_peer(io: Io) {
    let (mut ours, mut peer) = pair(&io).await;
    peer.write_all(b"last words").await.unwrap();
    peer.shutdown().await.unwrap();
    assert_eq!(receive_exactly(&mut ours, 10).await, b"last words");
    for _ in 0..3 {
        assert!(ours.receive().await.unwrap().is_empty());
    }
    let answer = pattern(300_000, 1);
    let mut seen = Vec::new();
    let (sent, read) = tokio::join!(
        async {
            let sent = ours.send(vec![answer.clone()]).await;
            ours.close().await;
            sent
        },
        peer.read_to_end(&mut seen)
    );
    sent.unwrap();
    read.unwrap();
    assert!(seen == answer);
}

fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

async fn reports_a_reset(io: Io) {
    let (mut ours, peer) = pair(&io).await;
    // Reset while we wait.
    let (error, ()) = tokio::join!(ours.receive(), async {
        sleep(Duration::from_millis(5)).await;
        reset(peer);
    });
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let error = ours.send(vec![pattern(10, 1)]).await.unwrap_err();
    assert!(
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
        "{error}"
    );
    // Reset before we look.
    let (mut ours, peer) = pair(&io).await;
    reset(peer);
    sleep(Duration::from_millis(5)).await;
    assert!(ours.receive().await.is_err());
    ours.close().await;
}

/// Counts how many owners are alive.
struct Counted(Arc<AtomicUsize>, Vec<u8>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn gives_up_a_send_nobody_reads(io: Io) {
    let (mut ours, mut peer) = pair(&io).await;
    let alive = Arc::new(AtomicUsize::new(4));
    let parts: Vec<Bytes> =
        (0..4).map(|_| Bytes::from_owner(Counted(Arc::clone(&alive), vec![1; 4 << 20]))).collect();
    let given_up = timeout(Duration::from_millis(50), ours.send(parts)).await;
    assert!(given_up.is_err());
    let error = ours.send(vec![Bytes::from_static(b"more")]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    // The other direction still works.
    peer.write_all(b"hello").await.unwrap();
    assert_eq!(receive_exactly(&mut ours, 5).await, b"hello");
    drop(ours);
    // The kernel lets go of the parts once the send is called back.
    while alive.load(Ordering::SeqCst) > 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn loses_no_byte_to_dropped_receives(io: Io) {
    let (mut ours, mut peer) = pair(&io).await;
    let whole = pattern(400_000, 3);
    let sent = whole.clone();
    let writer = task::spawn_local(async move {
        for (number, chunk) in sent.chunks(1234).enumerate() {
            peer.write_all(chunk).await.unwrap();
            if number % 3 == 0 {
                task::yield_now().await;
            }
        }
        peer
    });
    let mut seen = Vec::new();
    let mut dropped = 0;
    while seen.len() < whole.len() {
        let lease = tokio::select! {
            biased;
            () = task::yield_now() => { dropped += 1; None }
            lease = ours.receive() => Some(lease.unwrap()),
        };
        seen.extend(lease.iter().flat_map(|lease| lease.iter().copied()));
    }
    assert!(seen == whole);
    assert!(dropped > 0);
    drop(writer.await.unwrap());
}

async fn keeps_a_lease_while_more_arrives(io: Io) {
    let (mut ours, mut peer) = pair(&io).await;
    peer.write_all(b"first").await.unwrap();
    let mut first = ours.receive().await.unwrap();
    first[0] = b'F';
    let more = pattern(200_000, 9);
    let (seen, wrote) = tokio::join!(receive_exactly(&mut ours, more.len()), peer.write_all(&more));
    wrote.unwrap();
    assert!(seen == more);
    assert_eq!(&first[..], b"First");
    assert_eq!(io.stats().buffers_lent, 1);
    drop(ours);
    assert_eq!(&first[..], b"First");
}

async fn pauses_a_stream_nobody_drains(io: Io) {
    let (mut ours, mut peer) = pair(&io).await;
    peer.write_all(b"x").await.unwrap();
    assert_eq!(&ours.receive().await.unwrap()[..], b"x");
    // More than all receive memory: the peer must feel it, and others must not.
    let flood = pattern(64 << 20, 4);
    let sent = flood.clone();
    let writer = task::spawn_local(async move {
        peer.write_all(&sent).await.unwrap();
        peer
    });
    sleep(Duration::from_millis(50)).await;
    assert!(!writer.is_finished());
    let (other, mut other_peer) = pair(&io).await;
    let other = task::spawn_local(echo(other));
    for round in 0..50 {
        let sent = pattern(20_000, round);
        let mut back = vec![0; sent.len()];
        other_peer.write_all(&sent).await.unwrap();
        other_peer.read_exact(&mut back).await.unwrap();
        assert!(back == sent);
    }
    drop(other_peer);
    other.await.unwrap().unwrap();
    let seen = receive_exactly(&mut ours, flood.len()).await;
    assert!(seen == flood);
    drop(writer.await.unwrap());
}

async fn accepts_a_burst(io: Io) {
    let mut listener = io.listen(loopback()).unwrap();
    let addr = listener.local_addr();
    let clients: Vec<_> = (0..600).map(|_| task::spawn_local(TcpStream::connect(addr))).collect();
    let mut peers = Vec::new();
    for client in clients {
        peers.push(client.await.unwrap().unwrap());
    }
    let mut expected: Vec<_> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    let mut seen = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..peers.len() {
        let (stream, peer) = listener.accept().await.unwrap();
        assert_eq!((stream.peer_addr(), stream.local_addr()), (peer, addr));
        seen.push(peer);
        streams.push(stream);
    }
    expected.sort();
    seen.sort();
    assert_eq!(expected, seen);
    assert_eq!(io.stats().accepted, 600);
}

async fn accepts_after_dropped_futures(io: Io) {
    let mut listener = io.listen(loopback()).unwrap();
    let addr = listener.local_addr();
    for _ in 0..20 {
        assert!(timeout(Duration::from_micros(100), listener.accept()).await.is_err());
        let mut peer = TcpStream::connect(addr).await.unwrap();
        // Half the time the connection is there before anybody asks.
        task::yield_now().await;
        let (mut ours, _) = listener.accept().await.unwrap();
        ours.send(vec![Bytes::from_static(b"hi")]).await.unwrap();
        let mut seen = [0; 2];
        peer.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"hi");
    }
}

async fn refuses_after_the_listener_is_gone(io: Io) {
    let mut listener = io.listen(loopback()).unwrap();
    let addr = listener.local_addr();
    let first = TcpStream::connect(addr).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    // One that nobody takes.
    let mut waiting = TcpStream::connect(addr).await.unwrap();
    sleep(Duration::from_millis(5)).await;
    drop(listener);
    let read = waiting.read(&mut [0]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(TcpStream::connect(addr).await.is_err());
    // What was accepted lives on.
    let server = task::spawn_local(echo(ours));
    drop(first);
    assert_eq!(server.await.unwrap().unwrap(), 0);
}

async fn shows_mapped_addresses_as_ipv4(io: Io) {
    let Ok(mut listener) = io.listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))) else { return };
    let port = listener.local_addr().port();
    let addresses =
        [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()];
    for addr in addresses {
        let Ok(peer) = TcpStream::connect(addr).await else { continue };
        let (ours, from) = listener.accept().await.unwrap();
        assert_eq!(from, peer.local_addr().unwrap());
        assert_eq!(ours.peer_addr().is_ipv4(), addr.is_ipv4());
    }
}

async fn listens_twice_on_one_port(io: Io) {
    let first = io.listen(loopback()).unwrap();
    let second = io.listen(first.local_addr()).unwrap();
    assert_eq!(first.local_addr(), second.local_addr());
}

async fn reports_a_refused_connect(io: Io) {
    let addr = io.listen(loopback()).unwrap().local_addr();
    let error = io.connect(addr, None).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let other_family = Some(Ipv6Addr::LOCALHOST.into());
    let error = io.connect(addr, other_family).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

async fn gives_up_a_connect_that_hangs(io: Io) {
    // A full backlog drops what comes after it.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&loopback().into()).unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    let mut hung = 0;
    for _ in 0..6 {
        match timeout(Duration::from_millis(50), io.connect(addr, None)).await {
            Ok(stream) => held.push(stream.unwrap()),
            Err(_) => hung += 1,
        }
    }
    assert!(hung > 0, "the backlog was not full");
    drop(full);
}

async fn connects_from_a_source_address(io: Io) {
    let mut listener = io.listen(loopback()).unwrap();
    let (addr, source) = (listener.local_addr(), Ipv4Addr::new(127, 0, 0, 2));
    let (ours, accepted) = tokio::join!(io.connect(addr, Some(source.into())), listener.accept());
    let (mut ours, (accepted, peer)) = (ours.unwrap(), accepted.unwrap());
    assert_eq!(peer.ip(), source);
    assert_eq!(ours.local_addr(), peer);
    assert_eq!(ours.peer_addr(), listener.local_addr());
    let server = task::spawn_local(echo(accepted));
    let sent = pattern(70_000, 5);
    ours.send(vec![sent.clone()]).await.unwrap();
    assert!(receive_exactly(&mut ours, sent.len()).await == sent);
    ours.close().await;
    assert_eq!(server.await.unwrap().unwrap(), 70_000);
}

async fn closes_what_is_dropped(io: Io) {
    for close in [false, true] {
        for receive_first in [false, true] {
            let (mut ours, mut peer) = pair(&io).await;
            if receive_first {
                assert!(timeout(Duration::from_millis(1), ours.receive()).await.is_err());
            }
            if close {
                ours.close().await
            } else {
                drop(ours)
            }
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
        }
    }
}

async fn delivers_what_was_sent_before_close(io: Io) {
    for _ in 0..20 {
        let (mut ours, mut peer) = pair(&io).await;
        let sent = pattern(1 << 20, 6);
        let mut seen = Vec::new();
        let (outcome, read) = tokio::join!(
            async {
                let outcome = ours.send(vec![sent.clone()]).await;
                drop(ours);
                outcome
            },
            peer.read_to_end(&mut seen)
        );
        outcome.unwrap();
        read.unwrap();
        assert!(seen == sent);
    }
}

/// A folder on a real file system: `/tmp` may be memory.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()
}

fn filled(io: &Io, bytes: usize, seed: u64) -> Block {
    let mut block = io.blocks().take(bytes).unwrap();
    let length = block.len();
    block.copy_from_slice(&pattern(length, seed));
    block
}

async fn writes_and_reads_files(io: Io) {
    let folder = folder();
    let path = folder.path().join("log");
    let file = io.open(&path, FileMode::Create).unwrap();
    let blocks = vec![filled(&io, 4096, 1), filled(&io, 16_384, 2), filled(&io, 8192, 3)];
    let expected: Vec<u8> = blocks.iter().flat_map(|block| block.iter().copied()).collect();
    let addresses: Vec<_> = blocks.iter().map(|block| block.as_ptr()).collect();
    let (result, blocks) = file.write(8192, blocks).await;
    result.unwrap();
    assert_eq!(addresses, blocks.iter().map(|block| block.as_ptr()).collect::<Vec<_>>());
    file.flush().await.unwrap();
    let (result, one) = file.write(0, vec![filled(&io, 8192, 9)]).await;
    result.unwrap();
    file.flush().await.unwrap();
    let on_disk = fs::read(&path).unwrap();
    assert!(on_disk[..8192] == one[0][..]);
    assert!(on_disk[8192..] == expected[..]);
    let (read, block) = file.read(8192, io.blocks().take(65_536).unwrap(), 20_480).await;
    assert_eq!(read.unwrap(), 20_480);
    assert!(block[..20_480] == expected[..20_480]);
    let (result, none) = file.write(0, Vec::new()).await;
    result.unwrap();
    assert!(none.is_empty());
}

async fn writes_many_scattered_blocks(io: Io) {
    let folder = folder();
    let path = folder.path().join("log");
    let file = io.open(&path, FileMode::Create).unwrap();
    // Every other page of the pool, so that nothing can be merged; more than one call takes.
    let pages: Vec<Block> = std::iter::from_fn(|| io.blocks().take(4096)).collect();
    let mut blocks: Vec<Block> = pages.into_iter().step_by(2).collect();
    blocks.reverse();
    for (number, block) in blocks.iter_mut().enumerate() {
        block.fill(u8::try_from(number % 251).unwrap());
    }
    let count = blocks.len();
    let (result, blocks) = file.write(4096, blocks).await;
    result.unwrap();
    assert_eq!(blocks.len(), count);
    file.flush().await.unwrap();
    let on_disk = fs::read(&path).unwrap();
    assert_eq!(on_disk.len(), (count + 1) * 4096);
    for (number, page) in on_disk[4096..].chunks(4096).enumerate() {
        assert!(page.iter().all(|byte| usize::from(*byte) == number % 251), "page {number}");
    }
}

async fn reads_to_the_end_of_a_file(io: Io) {
    let folder = folder();
    let path = folder.path().join("short");
    let whole = pattern(10_000, 8);
    fs::write(&path, &whole).unwrap();
    let file = io.open(&path, FileMode::Read).unwrap();
    assert!(!file.is_synchronous());
    for (offset, bytes, expected) in
        [(0, 65_536, 10_000), (0, 100, 100), (4096, 4096, 4096), (8192, 4096, 1808), (12_288, 1, 0)]
    {
        let (read, block) = file.read(offset, io.blocks().take(65_536).unwrap(), bytes).await;
        assert_eq!(read.unwrap(), expected, "{bytes} bytes at {offset}");
        let start = usize::try_from(offset).unwrap().min(whole.len());
        assert!(block[..expected] == whole[start..start + expected]);
    }
    let (read, _) = file.read(0, io.blocks().take(4096).unwrap(), 0).await;
    assert_eq!(read.unwrap(), 0);
}

async fn refuses_bad_ranges(io: Io) {
    let folder = folder();
    let file = io.open(&folder.path().join("log"), FileMode::Create).unwrap();
    for offset in [1, 512, 4095, u64::MAX - 4095, 1 << 63] {
        let (result, blocks) = file.write(offset, vec![filled(&io, 4096, 1)]).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput, "write at {offset}");
        assert_eq!(blocks.len(), 1);
        let (result, _) = file.read(offset, filled(&io, 4096, 1), 10).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput, "read at {offset}");
    }
    let (result, _) = file.read(0, filled(&io, 4096, 1), 4097).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

async fn reports_file_errors(io: Io) {
    let full = io.open(&PathBuf::from("/dev/full"), FileMode::Write).unwrap();
    let (result, blocks) = full.write(0, vec![filled(&io, 4096, 1), filled(&io, 4096, 2)]).await;
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(blocks.len(), 2);
    let folder = folder();
    let path = folder.path().join("log");
    drop(io.open(&path, FileMode::Create).unwrap());
    let read_only = io.open(&path, FileMode::Read).unwrap();
    let (result, _) = read_only.write(0, vec![filled(&io, 4096, 1)]).await;
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

async fn opens_as_told(io: Io) {
    let folder = folder();
    let (path, link) = (folder.path().join("log"), folder.path().join("link"));
    let missing = io.open(&path, FileMode::Write).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    let created = io.open(&path, FileMode::Create).unwrap();
    let again = io.open(&path, FileMode::Create).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    let opened = io.open(&path, FileMode::Write).unwrap();
    assert_eq!(created.is_synchronous(), opened.is_synchronous());
    symlink(&path, &link).unwrap();
    for mode in [FileMode::Read, FileMode::Write, FileMode::Create] {
        assert!(io.open(&link, mode).is_err(), "{mode:?} follows a link");
    }
}

async fn finishes_a_dropped_write(io: Io) {
    let folder = folder();
    let path = folder.path().join("log");
    let file = io.open(&path, FileMode::Create).unwrap();
    for round in 0..10 {
        let block = filled(&io, 65_536, round);
        let expected = block.to_vec();
        let mut write = Box::pin(file.write(0, vec![block]));
        // Polled once, so that it is under way, then dropped.
        tokio::select! {
            biased;
            _ = &mut write => {}
            () = std::future::ready(()) => {}
        }
        drop(write);
        while io.blocks().free_bytes() < io.blocks().capacity_bytes() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(fs::read(&path).unwrap() == expected, "round {round}");
    }
}

async fn survives_many_short_connections(io: Io) {
    let mut listener = io.listen(loopback()).unwrap();
    let addr = listener.local_addr();
    let server = task::spawn_local(async move {
        let mut served = 0;
        while served < 3000 {
            let (stream, _) = listener.accept().await.unwrap();
            served += 1;
            task::spawn_local(echo(stream));
        }
    });
    for batch in 0..30 {
        let clients: Vec<_> = (0..100)
            .map(|client| {
                task::spawn_local(async move {
                    let mut peer = TcpStream::connect(addr).await.unwrap();
                    let sent = pattern(100 + client, batch);
                    peer.write_all(&sent).await.unwrap();
                    peer.shutdown().await.unwrap();
                    let mut seen = Vec::new();
                    peer.read_to_end(&mut seen).await.unwrap();
                    assert!(seen == sent);
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    }
    server.await.unwrap();
    assert_eq!(io.stats().accepted, 3000);
}

async fn wakes_for_timers_and_channels(io: Io) {
    let (ours, mut peer) = pair(&io).await;
    let server = task::spawn_local(echo(ours));
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<u32>(1);
    let other = std::thread::spawn(move || {
        for number in 0..200 {
            sender.blocking_send(number).unwrap();
        }
    });
    let ticks = Rc::new(std::cell::Cell::new(0));
    let ticker = task::spawn_local({
        let ticks = Rc::clone(&ticks);
        async move {
            loop {
                sleep(Duration::from_millis(1)).await;
                ticks.set(ticks.get() + 1);
            }
        }
    });
    for number in 0..200 {
        assert_eq!(receiver.recv().await, Some(number));
        let mut seen = [0];
        peer.write_all(b"x").await.unwrap();
        peer.read_exact(&mut seen).await.unwrap();
    }
    sleep(Duration::from_millis(20)).await;
    assert!(ticks.get() > 5);
    ticker.abort();
    other.join().unwrap();
    drop(peer);
    server.await.unwrap().unwrap();
}

#[test]
fn a_stream_is_small() {
    assert!(size_of::<Stream>() <= 200, "{} bytes", size_of::<Stream>());
}

#[test]
fn the_choice_is_kept() {
    run(&options(Choice::Uring), |io| async move {
        assert_eq!(io.driver().to_string(), "uring");
        assert!(io.refusal().is_none());
    });
    run(&options(Choice::Epoll), |io| async move {
        assert_eq!(io.driver().to_string(), "epoll");
        assert!(io.refusal().is_none() && !io.has_registered_blocks());
    });
    run(&options(Choice::Auto), |io| async move {
        assert_eq!(io.refusal().is_some(), io.driver() == super::DriverKind::Epoll);
    });
}

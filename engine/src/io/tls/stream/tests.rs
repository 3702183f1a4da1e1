//! TLS over real loopback streams, on every driver this machine lets us have, and with OpenSSL.
#![allow(clippy::print_stdout, reason = "figures and skipped cases are told to who runs the tests")]

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::Timestamp;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::io::tls::generate::{Authority, Generated, self_signed};
use crate::io::tls::{
    Connection, Identity, ReloadableCert, Roots, ServerOptions, Verify, client_config, counters,
    server_config,
};
use crate::io::{Choice, DriverKind, Io, IoOptions, Listener};

const HOST: &str = "relay.test";
const TEST_TIME: Duration = Duration::from_secs(30);

/// Runs `story` on each driver that starts here.
fn on_every_driver<F: Future<Output = ()>>(story: impl Fn(Io) -> F) {
    let mut seen: Vec<DriverKind> = Vec::new();
    for choice in [Choice::Epoll, Choice::Uring] {
        run(async {
            let options = IoOptions { choice, ..IoOptions::default() };
            let Ok(io) = Io::start(&options) else { return };
            if seen.contains(&io.driver()) {
                return;
            }
            seen.push(io.driver());
            timeout(TEST_TIME, story(io)).await.expect("the story ends in time");
        });
    }
    assert!(!seen.is_empty());
}

fn run(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, story);
}

fn identity(generated: &Generated) -> Identity {
    let certificate = generated.certificate_pem.as_bytes();
    let key = generated.key_pem.as_bytes();
    Identity::from_pem(Path::new("cert.pem"), certificate, Path::new("key.pem"), key).unwrap()
}

fn server(certificate: &Arc<ReloadableCert>) -> Arc<ServerConfig> {
    let certificate = Arc::clone(certificate);
    server_config(ServerOptions { certificate, client_ca: None }).unwrap()
}

fn self_signed_server() -> Arc<ServerConfig> {
    let generated = self_signed(&[HOST], Timestamp::now()).unwrap();
    server(&ReloadableCert::new(identity(&generated)))
}

fn opportunistic() -> Arc<ClientConfig> {
    client_config(&Verify::Opportunistic).unwrap()
}

fn name() -> ServerName<'static> {
    ServerName::try_from(HOST).unwrap()
}

fn listen(io: &Io) -> (Listener, SocketAddr) {
    let listener = io.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr();
    (listener, addr)
}

/// Both ends of one session.
async fn pair(
    io: &Io,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> (TlsStream, TlsStream) {
    let (mut listener, addr) = listen(io);
    let accepted = spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        TlsStream::accept(stream, server).await.unwrap()
    });
    let stream = io.connect(addr, None).await.unwrap();
    let client = TlsStream::connect(stream, client, name()).await.unwrap();
    (client, accepted.await.unwrap())
}

async fn receive_all(tls: &mut TlsStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let chunk = tls.receive().await.unwrap();
        if chunk.is_empty() {
            return all;
        }
        all.extend_from_slice(&chunk);
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

#[test]
fn every_size_passes_both_ways_and_ends_cleanly() {
    on_every_driver(async |io| {
        let (server, client) = (self_signed_server(), opportunistic());
        for bytes in [1, 2, 100, 4096, 16_384, 16_385, 100_000, 1 << 20] {
            let (mut ours, mut theirs) = pair(&io, Arc::clone(&server), Arc::clone(&client)).await;
            let plain = Bytes::from(pattern(bytes));
            let sent = plain.clone();
            let echo = spawn_local(async move {
                let all = receive_all(&mut theirs).await;
                theirs.send(vec![Bytes::from(all)]).await.unwrap();
                theirs.close().await;
            });
            let parts = vec![sent.slice(..bytes / 3), sent.slice(bytes / 3..)];
            ours.send(parts).await.unwrap();
            let notify = ours.session.close_notify();
            ours.stream.send(vec![Bytes::from(notify)]).await.unwrap();
            assert!(receive_all(&mut ours).await == plain, "{bytes} bytes on {}", io.driver());
            echo.await.unwrap();
        }
    });
}

#[test]
fn a_record_that_lies_whole_in_a_lease_is_not_copied() {
    on_every_driver(async |io| {
        let (mut ours, mut theirs) = pair(&io, self_signed_server(), opportunistic()).await;
        let before = counters();
        for _ in 0..100 {
            ours.send(vec![Bytes::from(pattern(4096))]).await.unwrap();
            let mut got = 0;
            while got < 4096 {
                got += theirs.receive().await.unwrap().len();
            }
        }
        let after = counters();
        assert_eq!(after.in_place_bytes - before.in_place_bytes, 409_600);
        assert_eq!(after.reassembled_bytes, before.reassembled_bytes);
        assert_eq!(after.gathered_bytes, before.gathered_bytes);
    });
}

#[test]
fn a_dropped_receive_loses_nothing() {
    on_every_driver(async |io| {
        let (mut ours, mut theirs) = pair(&io, self_signed_server(), opportunistic()).await;
        let plain = pattern(300_000);
        let sent = Bytes::from(plain.clone());
        spawn_local(async move {
            for start in (0..sent.len()).step_by(1000) {
                ours.send(vec![sent.slice(start..start + 1000)]).await.unwrap();
                tokio::task::yield_now().await;
            }
            ours.close().await;
        });
        let mut got = Vec::new();
        let mut dropped = 0;
        loop {
            let chunk = tokio::select! {
                biased;
                chunk = theirs.receive() => chunk.unwrap(),
                () = std::future::ready(()) => {
                    dropped += 1;
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            if chunk.is_empty() {
                break;
            }
            got.extend_from_slice(&chunk);
        }
        assert!(got == plain, "{} of {} bytes, {dropped} dropped", got.len(), plain.len());
        assert!(dropped > 0);
    });
}

#[test]
fn an_end_without_close_notify_is_an_error() {
    on_every_driver(async |io| {
        let (mut ours, mut theirs) = pair(&io, self_signed_server(), opportunistic()).await;
        // A ticket left unread would make the close a reset.
        theirs.send(vec![Bytes::from_static(b"220 ready\r\n")]).await.unwrap();
        assert_eq!(&*ours.receive().await.unwrap(), b"220 ready\r\n");
        ours.send(vec![Bytes::from_static(b"half a message")]).await.unwrap();
        ours.stream.close().await;
        assert_eq!(&*theirs.receive().await.unwrap(), b"half a message");
        for _ in 0..2 {
            let error = theirs.receive().await.err().unwrap();
            assert_eq!(TlsError::of(&error), Some(&TlsError::Truncated));
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    });
}

#[test]
fn starttls_upgrades_a_plain_connection_and_tells_what_was_agreed() {
    on_every_driver(async |io| {
        let (mut listener, addr) = listen(&io);
        let server = self_signed_server();
        let story = spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut plain = Connection::Plain(stream);
            assert_eq!(&*plain.receive().await.unwrap(), b"STARTTLS\r\n");
            assert!(plain.tls_info().is_none());
            plain.send(vec![Bytes::from_static(b"220 2.0.0 go\r\n")]).await.unwrap();
            let mut tls = plain.accept_tls(server).await.unwrap();
            assert_eq!(&*tls.receive().await.unwrap(), b"EHLO a.example\r\n");
            let info = tls.tls_info().unwrap();
            assert_eq!(info.version, "TLSv1.3");
            assert!(info.cipher.starts_with("TLS_"), "{}", info.cipher);
            assert_eq!(info.sni.as_deref(), Some(HOST));
            assert_eq!(info.peer_certificate, None);
            assert!(tls.receive().await.unwrap().is_empty());
            tls.close().await;
        });
        let mut plain = Connection::Plain(io.connect(addr, None).await.unwrap());
        plain.send(vec![Bytes::from_static(b"STARTTLS\r\n")]).await.unwrap();
        assert_eq!(&*plain.receive().await.unwrap(), b"220 2.0.0 go\r\n");
        let mut tls = plain.connect_tls(opportunistic(), name()).await.unwrap();
        assert!(tls.is_encrypted());
        assert!(tls.tls_info().unwrap().peer_certificate.is_some());
        tls.send(vec![Bytes::from_static(b"EHLO a."), Bytes::from_static(b"example\r\n")])
            .await
            .unwrap();
        tls.close().await;
        story.await.unwrap();
    });
}

#[test]
fn a_reload_reaches_new_sessions_and_leaves_old_ones() {
    on_every_driver(async |io| {
        let now = Timestamp::now();
        let first = self_signed(&[HOST], now).unwrap();
        let second = self_signed(&[HOST], now).unwrap();
        let certificate = ReloadableCert::new(identity(&first));
        let config = server(&certificate);
        let (mut old, mut old_server) = pair(&io, Arc::clone(&config), opportunistic()).await;
        certificate.replace(identity(&second));
        let (new, _new_server) = pair(&io, Arc::clone(&config), opportunistic()).await;
        assert_ne!(old.info().peer_certificate, new.info().peer_certificate);
        old.send(vec![Bytes::from_static(b"still here")]).await.unwrap();
        assert_eq!(&*old_server.receive().await.unwrap(), b"still here");
    });
}

#[test]
fn a_second_session_is_resumed() {
    on_every_driver(async |io| {
        let (server, client) = (self_signed_server(), opportunistic());
        let before = counters();
        for is_resumed in [false, true, true] {
            let (mut ours, mut theirs) = pair(&io, Arc::clone(&server), Arc::clone(&client)).await;
            assert_eq!(theirs.info().is_resumed, is_resumed);
            // The ticket comes behind the handshake, in front of the first data.
            theirs.send(vec![Bytes::from_static(b"220 ready\r\n")]).await.unwrap();
            assert_eq!(&*ours.receive().await.unwrap(), b"220 ready\r\n");
            ours.close().await;
        }
        let after = counters();
        assert_eq!(after.handshakes - before.handshakes, 6, "both ends are here");
        assert_eq!(after.resumptions - before.resumptions, 4);
    });
}

#[test]
fn a_client_certificate_is_asked_for_verified_and_told() {
    on_every_driver(async |io| {
        let now = Timestamp::now();
        let authority = Authority::new("Applications", now).unwrap();
        let relay = authority.issue(&[HOST], now).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, authority.certificate_pem()).unwrap();
        let client_ca = crate::io::tls::read_certificates(&ca).unwrap();
        let config = server_config(ServerOptions {
            certificate: ReloadableCert::new(identity(&relay)),
            client_ca: Some(client_ca),
        })
        .unwrap();
        // None is fine.
        let verify = Verify::Required { roots: Roots::Files(vec![ca.clone()]) };
        let anonymous = client_config(&verify).unwrap();
        let (_ours, theirs) = pair(&io, Arc::clone(&config), anonymous).await;
        assert_eq!(theirs.info().peer_certificate, None);
        // One that the authority signed is told.
        let invoices = identity(&authority.issue(&["invoices.test"], now).unwrap());
        let known = with_certificate(invoices);
        let (_ours, theirs) = pair(&io, Arc::clone(&config), known).await;
        assert!(theirs.info().peer_certificate.is_some());
        // Any other ends the handshake.
        let stranger = with_certificate(identity(&self_signed(&["invoices.test"], now).unwrap()));
        let (mut listener, addr) = listen(&io);
        let accepted = spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            TlsStream::accept(stream, config).await.err().unwrap()
        });
        let stream = io.connect(addr, None).await.unwrap();
        let _client = TlsStream::connect(stream, stranger, name()).await;
        let error = accepted.await.unwrap();
        assert!(matches!(TlsError::of(&error), Some(TlsError::Certificate(_))), "{error}");
    });
}

fn with_certificate(identity: Identity) -> Arc<ClientConfig> {
    let mut config = (*opportunistic()).clone();
    let key = identity.into_certified_key();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
    Arc::new(config)
}

#[test]
fn a_client_that_speaks_no_tls_is_told_and_dropped() {
    on_every_driver(async |io| {
        let (mut listener, addr) = listen(&io);
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"EHLO a.example\r\n").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            answer
        });
        let (stream, _) = listener.accept().await.unwrap();
        let error = TlsStream::accept(stream, self_signed_server()).await.err().unwrap();
        assert!(matches!(TlsError::of(&error), Some(TlsError::Protocol(_))), "{error}");
        // Not joined here: the ring closes the socket in its next turn, which this thread must take.
        let answer = tokio::task::spawn_blocking(|| client.join().unwrap()).await.unwrap();
        assert_eq!(answer.first(), Some(&21), "an alert record: {answer:?}");
    });
}

#[test]
fn a_client_that_only_connects_or_vanishes_is_an_error() {
    on_every_driver(async |io| {
        let (mut listener, addr) = listen(&io);
        for words in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
            let mut client = TcpStream::connect(addr).unwrap();
            client.write_all(words).unwrap();
            drop(client);
            let (stream, _) = listener.accept().await.unwrap();
            let error = TlsStream::accept(stream, self_signed_server()).await.err().unwrap();
            assert_eq!(TlsError::of(&error), Some(&TlsError::Truncated));
        }
    });
}

#[test]
fn a_send_that_was_given_up_ends_sending() {
    on_every_driver(async |io| {
        let (mut ours, _theirs) = pair(&io, self_signed_server(), opportunistic()).await;
        // More than the kernel buffers: nobody reads on the other side.
        let flood = Bytes::from(vec![7; 64 << 20]);
        assert!(timeout(Duration::from_millis(50), ours.send(vec![flood])).await.is_err());
        let error = ours.send(vec![Bytes::from_static(b"x")]).await.err().unwrap();
        assert_eq!(TlsError::of(&error), Some(&TlsError::SendAbandoned));
        // Closing does not wait for the peer either.
        timeout(Duration::from_secs(5), ours.close()).await.unwrap();
    });
}

/// Resident memory of this process in KiB.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Names the driver where this test runs alone in a process of its own, so that what it measures is
/// its own.
const ALONE: &str = "POSTERN_TEST_ALONE";

#[test]
fn an_idle_session_is_small() {
    const NAME: &str = "io::tls::stream::tests::an_idle_session_is_small";
    match std::env::var(ALONE).as_deref() {
        Ok("epoll") => return measure_idle_sessions(Choice::Epoll),
        Ok(_) => return measure_idle_sessions(Choice::Uring),
        Err(_) => {}
    }
    for driver in ["epoll", "uring"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(ALONE, driver)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        println!("{told}");
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn measure_idle_sessions(choice: Choice) {
    const SESSIONS: usize = 500;
    run(async {
        let Ok(io) = Io::start(&IoOptions { choice, ..IoOptions::default() }) else {
            println!("skipped: {choice:?} is refused here");
            return;
        };
        let (server, client) = (self_signed_server(), opportunistic());
        // What is allocated once, is.
        let mut kept = Vec::new();
        for _ in 0..20 {
            kept.push(pair(&io, Arc::clone(&server), Arc::clone(&client)).await);
        }
        let before = resident_kib();
        for _ in 0..SESSIONS {
            let (mut ours, mut theirs) = pair(&io, Arc::clone(&server), Arc::clone(&client)).await;
            theirs.send(vec![Bytes::from_static(b"220 ready\r\n")]).await.unwrap();
            assert_eq!(&*ours.receive().await.unwrap(), b"220 ready\r\n");
            kept.push((ours, theirs));
        }
        let bytes = (resident_kib() - before) * 1024 / (2 * SESSIONS);
        println!("{}: an idle TLS session takes {bytes} bytes of memory", io.driver());
        assert!(bytes <= 16 << 10, "{bytes} bytes");
    });
}

fn has_openssl() -> bool {
    Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok()
}

fn write_pem(dir: &Path, generated: &Generated) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, &generated.certificate_pem).unwrap();
    std::fs::write(&key, generated.key_pem.as_bytes()).unwrap();
    (certificate, key)
}

#[test]
fn openssl_talks_to_our_server_in_both_versions() {
    if !has_openssl() {
        println!("skipped: openssl is not installed");
        return;
    }
    on_every_driver(async |io| {
        let dir = tempfile::tempdir().unwrap();
        let generated = self_signed(&[HOST], Timestamp::now()).unwrap();
        let (file, _) = write_pem(dir.path(), &generated);
        let config = server(&ReloadableCert::new(identity(&generated)));
        for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let (mut listener, addr) = listen(&io);
            let (flag, trusted) = (flag.to_owned(), file.clone());
            let client = std::thread::spawn(move || {
                let mut child = Command::new("openssl")
                    .args(["s_client", "-quiet", "-verify_return_error", "-servername", HOST])
                    .args(["-verify_hostname", HOST, "-connect", &addr.to_string(), &flag])
                    .arg("-CAfile")
                    .arg(trusted)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                child.stdin.as_mut().unwrap().write_all(b"EHLO openssl\r\n").unwrap();
                child.wait_with_output().unwrap().stdout
            });
            let (stream, _) = listener.accept().await.unwrap();
            let mut tls = TlsStream::accept(stream, Arc::clone(&config)).await.unwrap();
            assert_eq!(tls.info().version, version);
            assert_eq!(tls.info().sni.as_deref(), Some(HOST));
            assert_eq!(&*tls.receive().await.unwrap(), b"EHLO openssl\r\n");
            tls.send(vec![Bytes::from_static(b"250 hello\r\n")]).await.unwrap();
            tls.close().await;
            assert_eq!(client.join().unwrap(), b"250 hello\r\n");
        }
    });
}

#[test]
fn our_client_talks_to_openssl_in_both_versions() {
    if !has_openssl() {
        println!("skipped: openssl is not installed");
        return;
    }
    on_every_driver(async |io| {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) =
            write_pem(dir.path(), &self_signed(&[HOST], Timestamp::now()).unwrap());
        for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let addr = {
                let (_listener, addr) = listen(&io);
                addr
            };
            // -rev sends each line back reversed.
            let mut child = Command::new("openssl")
                .args(["s_server", "-quiet", "-rev", flag, "-accept", &addr.to_string()])
                .arg("-cert")
                .arg(&certificate)
                .arg("-key")
                .arg(&key)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let roots = Roots::Files(vec![certificate.clone()]);
            let config = client_config(&Verify::Required { roots }).unwrap();
            let stream = loop {
                match io.connect(addr, None).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let mut tls = TlsStream::connect(stream, config, name()).await.unwrap();
            assert_eq!(tls.info().version, version);
            tls.send(vec![Bytes::from_static(b"tset\n")]).await.unwrap();
            assert_eq!(&*tls.receive().await.unwrap(), b"test\n");
            tls.close().await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
    });
}

//! Sessions against each other and against rustls's own buffered connections, cut in every way.

use std::{
    fs,
    io::{Read, Write as _},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use proptest::prelude::*;
use rustls::{
    ClientConnection, ContentType, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::*;
use crate::io::tls::{
    Identity, ReloadableCert, Roots, ServerOptions, TlsInfo, Verify, client_config,
    config::provider, generate::Authority, server_config,
};

const HOST: &str = "relay.test";

/// A server's configuration, and what its clients must trust.
struct World {
    server: Arc<ServerConfig>,
    authority: CertificateDer<'static>,
    authority_pem: String,
}

impl Session {
    fn is_mid_record(&self) -> bool {
        !self.pending.is_empty()
    }
}

impl World {
    fn new() -> Self {
        let now = Timestamp::now();
        let authority = Authority::new("Test authority", now).unwrap();
        let leaf = authority.issue(&[HOST, "127.0.0.1"], now).unwrap();
        let identity = Identity::from_pem(
            Path::new("cert.pem"),
            leaf.certificate_pem.as_bytes(),
            Path::new("key.pem"),
            leaf.key_pem.as_bytes(),
        )
        .unwrap();
        assert_eq!(identity.warnings(now), []);
        let certificate = ReloadableCert::new(identity);
        let server = server_config(ServerOptions { certificate, client_ca: None }).unwrap();
        let authority_pem = authority.certificate_pem().to_owned();
        let authority = CertificateDer::from_pem_slice(authority_pem.as_bytes()).unwrap();
        Self { server, authority, authority_pem }
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// Only this cipher suite.
    fn client_with(&self, suite: &str) -> Arc<ClientConfig> {
        let mut provider = (*provider()).clone();
        provider.cipher_suites.retain(|known| known.suite().as_str() == Some(suite));
        assert_eq!(provider.cipher_suites.len(), 1, "{suite}");
        let version = if suite.starts_with("TLS13") { &TLS13 } else { &TLS12 };
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    fn pair(&self, config: Arc<ClientConfig>) -> (Session, Session) {
        let mut client = Session::client(config, host()).unwrap();
        let mut server = Session::server(Arc::clone(&self.server)).unwrap();
        shake_hands(&mut client, &mut server, usize::MAX);
        (client, server)
    }
}

fn host() -> ServerName<'static> {
    ServerName::try_from(HOST).unwrap()
}

/// Everything a session makes of `bytes`, handed over in leases of `lease_bytes`.
fn deliver(session: &mut Session, bytes: &[u8], lease_bytes: usize) -> Result<Delivered, TlsError> {
    let mut delivered = Delivered::default();
    for lease in bytes.chunks(lease_bytes.max(1)) {
        let mut lease = lease.to_vec();
        let mut read = 0;
        while read < lease.len() && !delivered.closed {
            let received = session.receive(&mut lease[read..])?;
            assert!(received.consumed > 0, "no progress");
            match received.outcome {
                Outcome::Nothing => {}
                Outcome::InPlace(range) => {
                    delivered.in_place += range.len();
                    delivered.plain.extend_from_slice(&lease[read..][range]);
                }
                Outcome::Reassembled(bytes, range) => {
                    delivered.reassembled += range.len();
                    delivered.plain.extend_from_slice(&bytes[range]);
                }
                Outcome::Closed => delivered.closed = true,
            }
            read += received.consumed;
        }
    }
    Ok(delivered)
}

#[derive(Default)]
struct Delivered {
    plain: Vec<u8>,
    in_place: usize,
    reassembled: usize,
    closed: bool,
}

fn shake_hands(client: &mut Session, server: &mut Session, lease_bytes: usize) {
    for _ in 0..10 {
        let to_server = client.take_outgoing();
        deliver(server, &to_server, lease_bytes).unwrap();
        let to_client = server.take_outgoing();
        deliver(client, &to_client, lease_bytes).unwrap();
        if to_server.is_empty() && to_client.is_empty() {
            break;
        }
    }
    assert!(client.is_established() && server.is_established());
    assert!(!client.is_mid_record() && !server.is_mid_record());
}

fn seal(session: &mut Session, parts: &[&[u8]]) -> Vec<u8> {
    let parts = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
    let mut parts = PartQueue::new(parts);
    let mut sealed = Vec::new();
    while parts.bytes() > 0 {
        sealed.extend(session.seal(&mut parts, 4).unwrap());
    }
    sealed
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

const SUITES: [&str; 6] = [
    "TLS13_AES_256_GCM_SHA384",
    "TLS13_AES_128_GCM_SHA256",
    "TLS13_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];

#[test]
fn every_suite_carries_every_size_in_place() {
    let world = World::new();
    for suite in SUITES {
        let (mut client, mut server) = world.pair(world.client_with(suite));
        for bytes in [1, 2, 15, 16, 17, 33, 100, 4096, 16_383, 16_384, 16_385, 100_000, 1 << 20] {
            let plain = pattern(bytes);
            let sealed = seal(&mut client, &[&plain]);
            let got = deliver(&mut server, &sealed, usize::MAX).unwrap();
            assert!(got.plain == plain, "{suite} {bytes}");
            assert_eq!((got.in_place, got.reassembled), (bytes, 0), "{suite} {bytes}");
            let sealed = seal(&mut server, &[&plain]);
            let got = deliver(&mut client, &sealed, usize::MAX).unwrap();
            assert!(got.plain == plain, "{suite} {bytes} back");
        }
    }
}

#[test]
fn handshake_and_data_survive_every_lease_size() {
    let world = World::new();
    for version in [&TLS12, &TLS13] {
        for lease_bytes in (1..40).chain([64, 100, 500, 1000, 1500, 4096, 16_000]) {
            let mut client = Session::client(world.client(version), host()).unwrap();
            let mut server = Session::server(Arc::clone(&world.server)).unwrap();
            shake_hands(&mut client, &mut server, lease_bytes);
            let plain = pattern(40_000);
            let sealed = seal(&mut client, &[b"MAIL", &plain[..20_000], &plain[20_000..]]);
            let got = deliver(&mut server, &sealed, lease_bytes).unwrap();
            assert_eq!(&got.plain[..4], b"MAIL");
            assert!(got.plain[4..] == plain, "{version:?} leases of {lease_bytes}");
            assert!(!server.is_mid_record());
        }
    }
}

#[test]
fn records_may_be_cut_at_every_byte() {
    let world = World::new();
    for version in [&TLS12, &TLS13] {
        let (mut client, mut server) = world.pair(world.client(version));
        let sealed = seal(&mut client, &[&pattern(300)]);
        deliver(&mut server, &sealed, usize::MAX).unwrap();
        let length = sealed.len();
        for cut in 0..=3 * length {
            let mut sealed = seal(&mut client, &[&pattern(300)]);
            sealed.extend(seal(&mut client, &[&pattern(300)]));
            sealed.extend(seal(&mut client, &[&pattern(300)]));
            let (front, back) = sealed.split_at(cut);
            let mut got = deliver(&mut server, front, usize::MAX).unwrap();
            let rest = deliver(&mut server, back, usize::MAX).unwrap();
            got.plain.extend(&rest.plain);
            assert!(got.plain == pattern(300).repeat(3), "{version:?} cut at {cut}");
            // Only the record that is cut is gathered.
            let reassembled = got.reassembled + rest.reassembled;
            assert_eq!(reassembled, if cut % length == 0 { 0 } else { 300 }, "cut at {cut}");
        }
    }
}

#[test]
fn a_partial_record_pins_no_more_than_twice_what_came() {
    let world = World::new();
    let (mut client, mut server) = world.pair(world.client(&TLS13));
    let sealed = seal(&mut client, &[&pattern(PLAINTEXT_BYTES_MAX)]);
    for (index, byte) in sealed[..sealed.len() - 1].iter().enumerate() {
        server.receive(&mut [*byte]).unwrap();
        assert!(server.pending.capacity() <= 2 * (index + 1).max(16), "{index}");
        assert!(server.pending.capacity() <= HEADER_BYTES + PAYLOAD_BYTES_MAX);
    }
    server.receive(&mut [*sealed.last().unwrap()]).unwrap();
    assert_eq!(server.pending.capacity(), 0, "freed once the record is whole");
}

#[test]
fn a_session_is_resumed_and_keeps_its_name() {
    let world = World::new();
    for version in [&TLS12, &TLS13] {
        let config = world.client(version);
        for resumed in [false, true, true] {
            let (mut client, mut server) = world.pair(Arc::clone(&config));
            let info = TlsInfo::of(server.facts(), server.sni());
            assert_eq!(info.is_resumed, resumed, "{version:?}");
            assert_eq!(info.sni.as_deref(), Some(HOST));
            assert_eq!(TlsInfo::of(client.facts(), None).is_resumed, resumed);
            let sealed = seal(&mut client, &[b"hello"]);
            assert_eq!(deliver(&mut server, &sealed, 7).unwrap().plain, b"hello");
        }
    }
}

#[test]
fn names_do_not_leak_from_one_session_to_the_next() {
    let world = World::new();
    let (_, named) = world.pair(world.client(&TLS13));
    assert_eq!(named.sni(), Some(HOST));
    let address = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = Session::client(world.client(&TLS13), address).unwrap();
    let mut server = Session::server(Arc::clone(&world.server)).unwrap();
    shake_hands(&mut client, &mut server, 5);
    assert_eq!(server.sni(), None);
}

#[test]
fn what_was_agreed_is_told_by_its_registered_names() {
    let world = World::new();
    let told = |suite: &str| {
        let (_, server) = world.pair(world.client_with(suite));
        let info = TlsInfo::of(server.facts(), server.sni());
        (info.version, info.cipher, info.key_bits)
    };
    assert_eq!(told(SUITES[0]), ("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256));
    assert_eq!(told(SUITES[1]), ("TLSv1.3", "TLS_AES_128_GCM_SHA256", 128));
    assert_eq!(told(SUITES[3]), ("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 256));
    assert_eq!(told(SUITES[5]).2, 256);
}

#[test]
fn close_notify_ends_data_and_nothing_behind_it_is_read() {
    let world = World::new();
    for version in [&TLS12, &TLS13] {
        let (mut client, mut server) = world.pair(world.client(version));
        let mut sealed = seal(&mut client, &[b"QUIT\r\n"]);
        sealed.extend(client.close_notify());
        sealed.extend(b"anything at all");
        let got = deliver(&mut server, &sealed, usize::MAX).unwrap();
        assert_eq!(got.plain, b"QUIT\r\n");
        assert!(got.closed);
        // Half-closed: our answer still goes out.
        let answer = seal(&mut server, &[b"221 2.0.0 bye\r\n"]);
        assert_eq!(deliver(&mut client, &answer, 3).unwrap().plain, b"221 2.0.0 bye\r\n");
        let end = server.close_notify();
        assert!(deliver(&mut client, &end, usize::MAX).unwrap().closed);
        assert!(client.seal(&mut PartQueue::new(vec![Bytes::from_static(b"x")]), 4).is_err());
    }
}

/// Our server against rustls's own buffered client.
struct Oracle {
    client: ClientConnection,
    server: Session,
}

impl Oracle {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let world = World::new();
        let client = ClientConnection::new(world.client(version), host()).unwrap();
        let server = Session::server(world.server).unwrap();
        let mut oracle = Self { client, server };
        for _ in 0..4 {
            oracle.turn(usize::MAX).unwrap();
        }
        assert!(oracle.server.is_established() && !oracle.client.is_handshaking());
        oracle
    }

    fn turn(&mut self, lease_bytes: usize) -> Result<Delivered, TlsError> {
        let mut wire = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut wire).unwrap();
        }
        let delivered = deliver(&mut self.server, &wire, lease_bytes);
        let answer = self.server.take_outgoing();
        self.give(&answer);
        delivered
    }

    fn give(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() {
            self.client.read_tls(&mut wire).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }
}

#[test]
fn key_updates_are_followed_and_answered_before_the_next_data() {
    let mut oracle = Oracle::new(&TLS13);
    for round in 0..50 {
        oracle.client.refresh_traffic_keys().unwrap();
        oracle.client.writer().write_all(b"after the update").unwrap();
        let got = oracle.turn(1 + round).unwrap();
        assert_eq!(got.plain, b"after the update");
        let sealed = seal(&mut oracle.server, &[b"250 2.0.0 ok"]);
        oracle.give(&sealed);
        let mut answer = [0; 12];
        oracle.client.reader().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"250 2.0.0 ok");
    }
}

#[test]
fn floods_of_key_updates_end_the_session() {
    let mut oracle = Oracle::new(&TLS13);
    let mut rounds = 0;
    let error = loop {
        oracle.client.refresh_traffic_keys().unwrap();
        rounds += 1;
        assert!(rounds < 100, "never cut off");
        if let Err(error) = oracle.turn(usize::MAX) {
            break error;
        }
    };
    assert!(matches!(error, TlsError::Protocol(_)), "{error}");
}

fn refused_hello(bytes: &[u8], lease_bytes: usize) -> TlsError {
    let world = World::new();
    let mut server = Session::server(world.server).unwrap();
    let error = deliver(&mut server, bytes, lease_bytes).err().expect("refused");
    assert_eq!(server.receive(&mut [22]).unwrap_err(), TlsError::Over, "a failure is final");
    assert!(server.seal(&mut PartQueue::new(vec![Bytes::from_static(b"x")]), 4).is_err());
    error
}

fn record(kind: ContentType, payload: &[u8]) -> Vec<u8> {
    let mut record = vec![u8::from(kind), 3, 3];
    record.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    record.extend(payload);
    record
}

#[test]
fn what_is_not_tls_is_refused_at_its_fifth_byte() {
    for lease_bytes in [1, 3, usize::MAX] {
        for garbage in [
            &b"EHLO a.example\r\n"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            &[0; 16],
            &[0xff; 16],
            b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
            b"\x16\x02\x00\x00\x05hello",
            b"\x16\x03\x01\xff\xff",
            b"\x16\x03\x01\x00\x00",
        ] {
            let error = refused_hello(&garbage[..garbage.len().min(5)], lease_bytes);
            assert!(matches!(error, TlsError::Protocol(_)), "{garbage:?}: {error}");
        }
    }
}

#[test]
fn hostile_hellos_are_refused() {
    let handshake = ContentType::Handshake;
    let cases: [(&str, Vec<u8>); 6] = [
        ("data before the handshake", record(ContentType::ApplicationData, b"hello")),
        ("an alert", record(ContentType::Alert, &[2, 40])),
        ("a server hello", record(handshake, &[2, 0, 0, 1, 0])),
        ("an empty hello", record(handshake, &[1, 0, 0, 0])),
        ("a hello of 16 MiB", record(handshake, &[1, 0xff, 0xff, 0xff, 3]).repeat(20)),
        ("a change of cipher first", record(ContentType::ChangeCipherSpec, &[1])),
    ];
    for (what, bytes) in cases {
        for lease_bytes in [1, usize::MAX] {
            let error = refused_hello(&bytes, lease_bytes);
            assert!(
                !matches!(error, TlsError::NoProgress | TlsError::NotInPlace),
                "{what}: {error}"
            );
        }
    }
}

#[test]
fn fragments_of_a_handshake_message_are_bounded() {
    // A hello that says it is 60 000 bytes long and comes one byte a record.
    let mut bytes = record(ContentType::Handshake, &[1, 0, 0xea, 0x60]);
    bytes.extend(record(ContentType::Handshake, &[3]).repeat(60_000));
    assert_eq!(refused_hello(&bytes, 4096), TlsError::HandshakeTooLarge);
    // Floods of warnings, and of empty records, are cut off by count.
    let warnings = record(ContentType::Alert, &[1, 90]).repeat(1000);
    assert!(matches!(refused_hello(&warnings, usize::MAX), TlsError::Protocol(_)));
}

#[test]
fn forged_and_oversized_records_end_an_established_session() {
    for version in [&TLS12, &TLS13] {
        let cases = [
            record(ContentType::ApplicationData, &[0; 100]),
            record(ContentType::ApplicationData, &[0; 1]),
            record(ContentType::ApplicationData, &vec![7; PAYLOAD_BYTES_MAX - 1]),
            record(ContentType::Handshake, &[1, 0, 0, 1, 0]),
            record(ContentType::Alert, &[1, 0]),
            record(ContentType::ApplicationData, &[]).repeat(1000),
        ];
        for bytes in cases {
            let mut oracle = Oracle::new(version);
            let error = deliver(&mut oracle.server, &bytes, 4096).err();
            assert!(matches!(error, Some(TlsError::Protocol(_))), "{version:?} {error:?}");
            assert!(!oracle.server.take_outgoing().is_empty(), "says why with an alert");
        }
    }
}

#[test]
fn a_changed_byte_is_never_delivered() {
    let world = World::new();
    for version in [&TLS12, &TLS13] {
        let sealed_bytes = {
            let (mut client, _) = world.pair(world.client(version));
            seal(&mut client, &[b"RCPT TO:<a@b.example>"]).len()
        };
        for index in 5..sealed_bytes {
            let (mut client, mut server) = world.pair(world.client(version));
            let mut sealed = seal(&mut client, &[b"RCPT TO:<a@b.example>"]);
            sealed[index] ^= 0x40;
            assert!(deliver(&mut server, &sealed, usize::MAX).is_err(), "{version:?} {index}");
        }
    }
}

#[test]
fn a_client_that_trusts_nobody_says_so_to_both() {
    let world = World::new();
    let other = World::new();
    let mut client = Session::client(other.client(&TLS13), host()).unwrap();
    let mut server = Session::server(Arc::clone(&world.server)).unwrap();
    deliver(&mut server, &client.take_outgoing(), usize::MAX).unwrap();
    let error = deliver(&mut client, &server.take_outgoing(), usize::MAX).err().unwrap();
    assert!(matches!(error, TlsError::Certificate(_)), "{error}");
    let error = deliver(&mut server, &client.take_outgoing(), usize::MAX).err().unwrap();
    assert!(matches!(error, TlsError::Refused(_)), "{error}");
}

#[test]
fn outbound_configurations_verify_what_they_say() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    fs::write(&file, &world.authority_pem).unwrap();
    let attempt = |verify: &Verify, name: &'static str| {
        let name = ServerName::try_from(name).unwrap();
        let mut client = Session::client(client_config(verify).unwrap(), name).unwrap();
        let mut server = Session::server(Arc::clone(&world.server)).unwrap();
        deliver(&mut server, &client.take_outgoing(), usize::MAX).unwrap();
        deliver(&mut client, &server.take_outgoing(), usize::MAX).map(|_| ())
    };
    let ours = Verify::Required { roots: Roots::Files(vec![file]) };
    let public = Verify::Required { roots: Roots::WebPki };
    attempt(&ours, HOST).unwrap();
    attempt(&ours, "127.0.0.1").unwrap();
    assert!(matches!(attempt(&ours, "other.test"), Err(TlsError::Certificate(_))));
    assert!(matches!(attempt(&public, HOST), Err(TlsError::Certificate(_))));
    attempt(&Verify::Opportunistic, "other.test").unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done to the client's side of a handshake, the server fails or waits; it neither
    /// panics nor stops consuming.
    #[test]
    fn no_mutation_of_a_handshake_does_worse_than_fail(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        lease_bytes in 1_usize..600,
    ) {
        let world = World::new();
        let mut client = Session::client(world.client(&TLS13), host()).unwrap();
        let mut server = Session::server(Arc::clone(&world.server)).unwrap();
        let mut hello = client.take_outgoing();
        for (index, value) in changes {
            let index = index.index(hello.len());
            hello[index] = value;
        }
        hello.truncate(cut.index(hello.len()) + 1);
        let accepted = deliver(&mut server, &hello, lease_bytes);
        let answer = server.take_outgoing();
        let answered = deliver(&mut client, &answer, lease_bytes);
        prop_assert!(!matches!(accepted, Err(TlsError::NoProgress | TlsError::NotInPlace)));
        prop_assert!(!matches!(answered, Err(TlsError::NoProgress | TlsError::NotInPlace)));
    }

    /// Parts of any sizes arrive as their concatenation, however the wire is cut.
    #[test]
    fn parts_arrive_as_one_stream(
        sizes in prop::collection::vec(0_usize..40_000, 0..6),
        lease_bytes in 1_usize..20_000,
    ) {
        let world = World::new();
        let (mut client, mut server) = world.pair(world.client(&TLS13));
        let parts: Vec<Vec<u8>> = sizes.into_iter().map(pattern).collect();
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let sealed = seal(&mut client, &slices);
        let got = deliver(&mut server, &sealed, lease_bytes).unwrap();
        prop_assert!(got.plain == parts.concat());
    }
}

#[test]
fn versions_below_tls_1_2_are_not_offered() {
    let world = World::new();
    for version in [&TLS12, &TLS13] {
        let (client, _) = world.pair(world.client(version));
        let agreed = client.facts().protocol_version().unwrap();
        assert!(matches!(agreed, ProtocolVersion::TLSv1_2 | ProtocolVersion::TLSv1_3));
    }
}

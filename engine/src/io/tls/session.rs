//! One TLS session as a pure state machine: bytes in, plaintext ranges and bytes to send out.
//!
//! The record walk is ours, everything cryptographic is rustls's. Records are offered to rustls one
//! at a time, in the buffer they arrived in, and are decrypted there: a plaintext range points into
//! the caller's own bytes. Only a record that is cut by the end of the caller's bytes is gathered
//! into a buffer of the session, which exists until that record is whole and no longer.
//!
//! Invariants:
//! - `pending` = `[pending_seen bytes rustls has read but still needs][part of one record]`.
//! - Nothing rustls still needs is ever dropped, and nothing is offered to it twice.
//! - A session that failed yields nothing but its failure.
//!
//! Bounds: a record's payload is at most [`PAYLOAD_BYTES_MAX`]; unfinished handshake messages are at most
//! [`HANDSHAKE_BYTES_MAX`]; one record makes rustls take at most [`STEPS_MAX`] steps. Floods of
//! alerts, key updates, empty records and renegotiation requests are counted and cut off by rustls.
//!
//! Security: no byte is handed out before its authentication tag was checked. Early data is refused.

use std::{mem, ops::Range, sync::Arc};

use bytes::Bytes;
use rustls::{
    ClientConfig, CommonState, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::ServerName,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
        WriteTraffic,
    },
};

use super::{TlsError, config::sni_of_last_hello};

/// Plaintext bytes in one record (RFC 8446 5.1).
pub(super) const PLAINTEXT_BYTES_MAX: usize = 16 * 1024;

/// Content type, version and length in front of each record (RFC 8446 5.1).
const HEADER_BYTES: usize = 5;

/// Longest payload of a record: TLS 1.2 allows 2048 bytes more than the plaintext (RFC 5246 6.2.3).
const PAYLOAD_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 2048;

/// What sealing adds to a record, at most: header, explicit nonce, inner content type, tag.
const SEAL_BYTES_MAX: usize = HEADER_BYTES + 8 + 1 + 16;

/// Records of one handshake message that is not whole yet: a certificate chain fits, a flood of
/// fragments does not. rustls itself allows 64 KiB for the message alone.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// rustls takes one step for each flight, ticket or alert that a record makes it write. A legitimate
/// record needs fewer than ten; more than this means that it goes round in circles.
const STEPS_MAX: usize = 64;

/// A close_notify record, with room for a key update in front of it.
const CLOSE_BYTES: usize = 256;

/// What one call of [`Session::receive`] made of its input.
#[derive(Debug)]
pub(super) struct Received {
    /// Bytes of the input that are dealt with; the rest is to be handed in again.
    pub(super) consumed: usize,
    /// What those bytes were.
    pub(super) outcome: Outcome,
}

/// See [`Received`].
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing to deliver.
    Nothing,
    /// Plaintext, at this range of the input, decrypted in place.
    InPlace(Range<usize>),
    /// Plaintext of a record that came in pieces.
    Reassembled(Vec<u8>, Range<usize>),
    /// The peer said close_notify: no more plaintext will come.
    Closed,
}

/// One TLS session without its transport.
pub(super) struct Session {
    side: Side,
    pending: Vec<u8>,
    pending_seen: usize,
    outgoing: Vec<u8>,
    established: bool,
    /// We have said close_notify: reading goes on, writing is over.
    said_close: bool,
    failed: bool,
    sni: Option<Box<str>>,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

impl Session {
    /// Starts the server's side; the next thing that happens is a ClientHello.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(config).map_err(TlsError::Setup)?;
        Ok(Self::new(Side::Server(Box::new(connection))))
    }

    /// Starts the client's side; its ClientHello is in [`Session::take_outgoing`] at once.
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, TlsError> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(TlsError::Setup)?;
        let mut session = Self::new(Side::Client(Box::new(connection)));
        session.open(&mut [])?;
        Ok(session)
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            pending: Vec::new(),
            pending_seen: 0,
            outgoing: Vec::new(),
            established: false,
            said_close: false,
            failed: false,
            sni: None,
        }
    }

    /// Whether the handshake is over and data may flow.
    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// The name the client asked for, as the server saw it.
    pub(super) fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// What rustls knows of the session: version, cipher suite, peer's certificates.
    pub(super) fn facts(&self) -> &CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }

    /// Takes what is to be sent to the peer: handshake flights, tickets, alerts.
    pub(super) fn take_outgoing(&mut self) -> Vec<u8> {
        mem::take(&mut self.outgoing)
    }

    /// Deals with at most one record at the front of `input`, decrypting it there. Consumes at least
    /// one byte of an input that is not empty.
    ///
    /// Fails if the peer broke the protocol or refused us; the alert that says so is then in
    /// [`Session::take_outgoing`].
    pub(super) fn receive(&mut self, input: &mut [u8]) -> Result<Received, TlsError> {
        if self.failed {
            return Err(TlsError::Over);
        }
        if !self.pending.is_empty() {
            return self.receive_continued(input);
        }
        match record_bytes(input).filter(|&bytes| bytes <= input.len()) {
            Some(bytes) => self.receive_whole(&mut input[..bytes]),
            None => {
                self.gather(input);
                Ok(Received { consumed: input.len(), outcome: Outcome::Nothing })
            }
        }
    }

    /// A record that lies whole in the caller's bytes.
    fn receive_whole(&mut self, record: &mut [u8]) -> Result<Received, TlsError> {
        let opened = self.open(record)?;
        if opened.discarded < record.len() {
            // Part of a handshake message: rustls reads it again with the next record behind it.
            self.pending_seen = record.len() - opened.discarded;
            self.gather(&record[opened.discarded..]);
        }
        Ok(Received { consumed: record.len(), outcome: opened.into_outcome() })
    }

    /// More of a record (or of a handshake message) whose beginning is already here.
    fn receive_continued(&mut self, input: &mut [u8]) -> Result<Received, TlsError> {
        let mut consumed = 0;
        // The header first, for the length is in it; then as much as it says, and no more, so that
        // what follows can be decrypted where it lies.
        let whole = loop {
            let have = self.pending.len() - self.pending_seen;
            let wanted = match record_bytes(&self.pending[self.pending_seen..]) {
                Some(bytes) if bytes <= have => break true,
                Some(bytes) => bytes - have,
                None => HEADER_BYTES - have,
            };
            let taken = wanted.min(input.len() - consumed);
            if taken == 0 {
                break false;
            }
            self.gather(&input[consumed..consumed + taken]);
            consumed += taken;
        };
        if !whole {
            return Ok(Received { consumed, outcome: Outcome::Nothing });
        }
        let mut pending = mem::take(&mut self.pending);
        let opened = self.open(&mut pending)?;
        if let Some(range) = opened.plaintext {
            self.pending_seen = 0;
            return Ok(Received { consumed, outcome: Outcome::Reassembled(pending, range) });
        }
        pending.drain(..opened.discarded);
        if pending.len() > HANDSHAKE_BYTES_MAX {
            self.failed = true;
            return Err(TlsError::HandshakeTooLarge);
        }
        self.pending_seen = pending.len();
        if !pending.is_empty() {
            self.pending = pending;
        }
        Ok(Received { consumed, outcome: opened.into_outcome() })
    }

    /// Adds to the partial record, growing with what really arrived: five bytes that announce a
    /// record must not pin the memory of a whole one.
    fn gather(&mut self, bytes: &[u8]) {
        let needed = self.pending.len() + bytes.len();
        if needed > self.pending.capacity() {
            let record = record_bytes(self.pending.get(self.pending_seen..).unwrap_or_default())
                .or_else(|| record_bytes(bytes))
                .map_or(0, |record| self.pending_seen + record);
            let target = needed.max((2 * needed).min(record));
            self.pending.reserve_exact(target - self.pending.len());
        }
        self.pending.extend_from_slice(bytes);
    }

    /// Offers `buffer` (which ends with one whole record) to rustls.
    fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, TlsError> {
        let opened = match &mut self.side {
            Side::Server(connection) => open(&mut **connection, buffer, &mut self.outgoing),
            Side::Client(connection) => open(&mut **connection, buffer, &mut self.outgoing),
        };
        if !self.established
            && let Some(name) = sni_of_last_hello()
        {
            self.sni = Some(name);
        }
        match opened {
            Ok(opened) => {
                self.established |= opened.established;
                Ok(opened)
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    /// Encrypts as much of `parts` as fits `records_max` records into one run of bytes to send, and
    /// removes it from `parts`. Bytes that had to go out before (a key update) lead the run.
    ///
    /// Small parts share a record; a part that fills records is encrypted from where it lies.
    pub(super) fn seal(
        &mut self,
        parts: &mut PartQueue,
        records_max: usize,
    ) -> Result<Vec<u8>, TlsError> {
        if self.failed || self.said_close || !self.established {
            return Err(TlsError::Over);
        }
        let mut sealed = self.take_outgoing();
        let records = parts.bytes().div_ceil(PLAINTEXT_BYTES_MAX).min(records_max);
        let plain = parts.bytes().min(records * PLAINTEXT_BYTES_MAX);
        sealed.reserve_exact(plain + records * SEAL_BYTES_MAX);
        let mut scratch = Vec::new();
        for _ in 0..records {
            let record = parts.next_record(&mut scratch);
            self.write(Write::Data(record.as_ref()), &mut sealed)?;
        }
        Ok(sealed)
    }

    /// Makes the close_notify, with whatever was still to be sent in front of it. Without the notify
    /// if the session is not in a state to say it.
    pub(super) fn close_notify(&mut self) -> Vec<u8> {
        let mut sealed = self.take_outgoing();
        if self.failed || self.said_close || !self.established {
            return sealed;
        }
        sealed.reserve_exact(CLOSE_BYTES);
        if self.write(Write::CloseNotify, &mut sealed).is_err() {
            sealed.clear();
        }
        self.said_close = true;
        sealed
    }

    /// Brings rustls to where it takes data, and lets it write into `out`.
    fn write(&mut self, what: Write<'_>, out: &mut Vec<u8>) -> Result<(), TlsError> {
        // rustls keeps offsets into what it has read of an unfinished handshake message, so those
        // bytes must be in front of it whenever it is asked anything.
        let written = match &mut self.side {
            Side::Server(connection) => write(&mut **connection, &mut self.pending, what, out),
            Side::Client(connection) => write(&mut **connection, &mut self.pending, what, out),
        };
        self.failed |= written.is_err();
        written
    }
}

/// What one whole record turned out to be.
#[derive(Debug, Default)]
struct Opened {
    /// Bytes at the front of the buffer that rustls no longer needs.
    discarded: usize,
    plaintext: Option<Range<usize>>,
    closed: bool,
    established: bool,
}

impl Opened {
    fn into_outcome(self) -> Outcome {
        match (self.plaintext, self.closed) {
            (Some(range), _) => Outcome::InPlace(range),
            (None, true) => Outcome::Closed,
            (None, false) => Outcome::Nothing,
        }
    }
}

/// The two ends of a rustls connection, which share no trait of their own.
trait Machine {
    type Data;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn facts(&self) -> &CommonState;
}

impl Machine for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
    fn facts(&self) -> &CommonState {
        self
    }
}

impl Machine for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
    fn facts(&self) -> &CommonState {
        self
    }
}

/// Lets `machine` read `buffer`, whose last record is whole, and write what it has to.
fn open<M: Machine>(
    machine: &mut M,
    buffer: &mut [u8],
    outgoing: &mut Vec<u8>,
) -> Result<Opened, TlsError> {
    let mut opened = Opened::default();
    for _ in 0..STEPS_MAX {
        let start = opened.discarded;
        let UnbufferedStatus { discard, state } = machine.process(&mut buffer[start..]);
        opened.discarded += discard;
        match state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing)?,
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                let Some(record) = traffic.next_record() else { continue };
                let AppDataRecord { discard, payload } = record.map_err(TlsError::from)?;
                let print = Print::of(payload);
                opened.discarded += discard;
                opened.plaintext = Some(print.find(buffer, start)?);
                return Ok(opened);
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                opened.closed = true;
                return Ok(opened);
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                opened.established = !machine.facts().is_handshaking();
                return Ok(opened);
            }
            Ok(_) => return Err(TlsError::EarlyData),
            Err(error) => {
                encode_alert(machine, &mut buffer[opened.discarded..], outgoing);
                return Err(error.into());
            }
        }
    }
    Err(TlsError::NoProgress)
}

/// Takes the alert that goes with a failure out of `machine`, and what was queued in front of it.
fn encode_alert<M: Machine>(machine: &mut M, unread: &mut [u8], outgoing: &mut Vec<u8>) {
    // What is queued is given out before anything more is read; reading on would be wrong here.
    while machine.facts().wants_write() {
        match machine.process(unread).state {
            Ok(ConnectionState::EncodeTlsData(data)) => {
                if encode(data, outgoing).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// Appends a handshake record to `outgoing`.
fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
    let start = outgoing.len();
    let required = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) => return Err(TlsError::NoProgress),
    };
    outgoing.resize(start + required, 0);
    let written = data.encode(&mut outgoing[start..]).map_err(|_| TlsError::NoProgress)?;
    outgoing.truncate(start + written);
    Ok(())
}

/// What is to be written once rustls takes data.
#[derive(Clone, Copy)]
enum Write<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

impl Write<'_> {
    fn bytes_max(self) -> usize {
        match self {
            Self::Data(plain) => {
                plain.len() + plain.len().div_ceil(PLAINTEXT_BYTES_MAX).max(1) * SEAL_BYTES_MAX
            }
            Self::CloseNotify => CLOSE_BYTES,
        }
    }
}

/// Lets `machine` say what it still has to say, then `what`.
fn write<M: Machine>(
    machine: &mut M,
    pending: &mut [u8],
    what: Write<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TlsError> {
    for _ in 0..STEPS_MAX {
        match machine.process(pending).state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out)?,
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            // The peer's close_notify ends what it says, not what we may say.
            Ok(ConnectionState::PeerClosed) => {}
            Ok(ConnectionState::WriteTraffic(traffic)) => return write_traffic(traffic, what, out),
            Ok(_) => return Err(TlsError::Over),
            Err(error) => return Err(error.into()),
        }
    }
    Err(TlsError::NoProgress)
}

/// Seals `what` behind `out`. A second round is needed only if a key update went in front.
fn write_traffic<D>(
    mut traffic: WriteTraffic<'_, D>,
    what: Write<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let start = out.len();
    let mut room = what.bytes_max();
    for _ in 0..2 {
        out.resize(start + room, 0);
        let written = match what {
            Write::Data(plain) => traffic.encrypt(plain, &mut out[start..]),
            Write::CloseNotify => traffic.queue_close_notify(&mut out[start..]),
        };
        match written {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(size)) => room = size.required_size,
            Err(EncryptError::EncryptExhausted) => break,
        }
    }
    out.truncate(start);
    Err(TlsError::KeysExhausted)
}

/// The ends of a plaintext, to find it again in the buffer that it was decrypted in.
///
/// rustls decrypts in place and hands out a copy; the copy is let go and the place is used. That it
/// is the right place is checked, so that a rustls that works in another way shows as an error and
/// never as wrong bytes.
struct Print {
    bytes: usize,
    head: [u8; Self::BYTES],
    tail: [u8; Self::BYTES],
}

impl Print {
    const BYTES: usize = 16;

    fn of(plain: &[u8]) -> Self {
        let mut print = Self { bytes: plain.len(), head: [0; 16], tail: [0; 16] };
        let shown = plain.len().min(Self::BYTES);
        print.head[..shown].copy_from_slice(&plain[..shown]);
        print.tail[..shown].copy_from_slice(&plain[plain.len() - shown..]);
        print
    }

    /// The range of `buffer` where the record that starts at `start` has this plaintext.
    fn find(&self, buffer: &[u8], start: usize) -> Result<Range<usize>, TlsError> {
        // Where TLS 1.2 puts eight bytes of nonce in front (RFC 5288 3), ring moves the plaintext up
        // to the front while it decrypts.
        let start = start + HEADER_BYTES;
        let range = start..start + self.bytes;
        let plain = buffer.get(range.clone()).ok_or(TlsError::NotInPlace)?;
        let shown = self.bytes.min(Self::BYTES);
        let is_here = plain[..shown] == self.head[..shown]
            && plain[self.bytes - shown..] == self.tail[..shown];
        if is_here { Ok(range) } else { Err(TlsError::NotInPlace) }
    }
}

/// Length of the record that `bytes` begins with, once its header is there.
///
/// A header that no TLS record can have counts as a record of its own, so that rustls sees and
/// refuses it now and not when the length it pretends has come.
fn record_bytes(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let payload = usize::from(u16::from_be_bytes([header[3], header[4]]));
    let is_record = matches!(header[0], 20..=24) && header[1] == 3 && payload < PAYLOAD_BYTES_MAX;
    Some(if is_record { HEADER_BYTES + payload } else { HEADER_BYTES })
}

/// Parts to be sealed, in order.
pub(super) struct PartQueue {
    /// The next part is the last one here.
    parts: Vec<Bytes>,
    bytes: usize,
    gathered_bytes: usize,
}

/// The plaintext of one record.
enum Piece<'a> {
    Lying(Bytes),
    Gathered(&'a [u8]),
}

impl AsRef<[u8]> for Piece<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Lying(bytes) => bytes,
            Self::Gathered(bytes) => bytes,
        }
    }
}

impl PartQueue {
    pub(super) fn new(mut parts: Vec<Bytes>) -> Self {
        parts.retain(|part| !part.is_empty());
        parts.reverse();
        let bytes = parts.iter().map(Bytes::len).sum();
        Self { parts, bytes, gathered_bytes: 0 }
    }

    /// Bytes not sealed yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that were copied so that small parts share a record.
    pub(super) fn gathered_bytes(&self) -> usize {
        self.gathered_bytes
    }

    /// Takes the next record's worth.
    fn next_record<'a>(&mut self, scratch: &'a mut Vec<u8>) -> Piece<'a> {
        let fills = |part: &Bytes| part.len() >= PLAINTEXT_BYTES_MAX;
        if self.parts.len() == 1 || self.parts.last().is_some_and(fills) {
            return Piece::Lying(self.take(PLAINTEXT_BYTES_MAX));
        }
        scratch.clear();
        while scratch.len() < PLAINTEXT_BYTES_MAX && !self.parts.is_empty() {
            let part = self.take(PLAINTEXT_BYTES_MAX - scratch.len());
            scratch.extend_from_slice(&part);
        }
        self.gathered_bytes += scratch.len();
        Piece::Gathered(scratch)
    }

    /// Takes up to `bytes_max` of the next part.
    fn take(&mut self, bytes_max: usize) -> Bytes {
        let Some(part) = self.parts.last_mut() else { return Bytes::new() };
        let taken = part.split_to(part.len().min(bytes_max));
        if part.is_empty() {
            self.parts.pop();
        }
        self.bytes -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests;

//! One question, one answer: UDP with EDNS, TCP where the answer does not fit, time limits.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// How long and how often to ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long one attempt may take.
    pub(super) timeout: Duration,
    /// How often to ask before giving up, at least once.
    pub(super) attempts: u32,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It said nothing in time.
    Timeout,
    /// The system says that it cannot be reached: no route, or nothing listens there.
    Unreachable(io::ErrorKind),
    /// What came was no DNS message, or not about the question.
    Garbled,
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Self::Garbled,
            kind => Self::Unreachable(kind),
        }
    }
}

/// Asks one server, over UDP and then, where the answer is truncated, over TCP.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    recurse: bool,
    patience: Patience,
) -> Result<Message, NoAnswer> {
    let mut last = NoAnswer::Timeout;
    for _ in 0..patience.attempts.max(1) {
        // A new id and a new port for each attempt: harder to guess.
        let question = question(name, kind, recurse);
        match ask_once(server, &question, patience.timeout).await {
            Err(why @ (NoAnswer::Timeout | NoAnswer::Garbled)) => last = why,
            settled => return settled,
        }
    }
    Err(last)
}

async fn ask_once(
    server: SocketAddr,
    question: &Message,
    timeout: Duration,
) -> Result<Message, NoAnswer> {
    let deadline = Instant::now() + timeout;
    let wire = question.to_vec().map_err(|_| NoAnswer::Garbled)?;
    let answer = within(deadline, ask_udp(server, question, &wire)).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    // A truncated answer proves that the server lives: TCP has the whole time again.
    let answer = exchange_tcp(server, &wire, timeout).await?;
    decode(&answer, question).ok_or(NoAnswer::Garbled)
}

async fn ask_udp(server: SocketAddr, question: &Message, wire: &[u8]) -> io::Result<Message> {
    let local = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(wire).await?;
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    loop {
        let length = socket.recv(&mut datagram).await?;
        // Whatever does not answer the question may be forged: the true answer may still come.
        if let Some(answer) = decode(&datagram[..length], question) {
            return Ok(answer);
        }
    }
}

/// Sends one message over a TCP connection of its own and returns what comes back (RFC 7766).
pub(super) async fn exchange_tcp(
    server: SocketAddr,
    wire: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, NoAnswer> {
    within(Instant::now() + timeout, async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(wire.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(wire);
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    })
    .await
}

async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, NoAnswer> {
    Ok(timeout_at(deadline, work).await.map_err(|_| NoAnswer::Timeout)??)
}

fn question(name: &Name, kind: RecordType, recurse: bool) -> Message {
    let mut question = Message::query();
    question.metadata.op_code = OpCode::Query;
    question.metadata.recursion_desired = recurse;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD_BYTES).set_version(0);
    question.set_edns(edns);
    question
}

/// The answer in these bytes, if they are one to this question.
fn decode(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let is_ours = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.metadata.op_code == question.metadata.op_code;
    // A server that cannot read the question may leave it out; its code says so.
    let is_asked = answer.queries == question.queries || answer.queries.is_empty();
    (is_ours && is_asked).then_some(answer)
}

/// Fits every path without fragments (DNS flag day 2020).
const UDP_PAYLOAD_BYTES: u16 = 1_232;
/// What a server may send in spite of that.
const DATAGRAM_BYTES_MAX: usize = 4_096;

//! A client that sends exactly the bytes it is told to, over a plain or an encrypted connection.
//!
//! It reads replies strictly: each line has a code and ends in CRLF. Every read has a time limit,
//! so that a relay that says nothing fails the test instead of hanging it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::message::{self, Mail};
use crate::tls;

/// How long a reply may take. The slowest thing a test waits for is an argon2 hash on a busy core.
const REPLY_WITHIN: Duration = Duration::from_secs(20);

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Reply code.
    pub code: u16,
    /// Text of each line, without code and separator.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether the code is 2xx or 3xx.
    pub fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    /// Returns itself if it has this code.
    ///
    /// # Panics
    ///
    /// Otherwise.
    #[track_caller]
    pub fn expect(self, code: u16) -> Self {
        assert_eq!(self.code, code, "wanted {code}, got {self}");
        self
    }

    /// Returns itself if it has this code and its text starts with this enhanced status code.
    ///
    /// # Panics
    ///
    /// Otherwise.
    #[track_caller]
    pub fn expect_status(self, code: u16, status: &str) -> Self {
        assert!(
            self.code == code && self.lines[0].starts_with(&format!("{status} ")),
            "wanted {code} {status}, got {self}"
        );
        self
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" | "))
    }
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Only between the two others, while a handshake runs.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    /// Received and not yet read as a reply.
    pending: Vec<u8>,
}

impl Client {
    /// Connects, and reads nothing.
    ///
    /// # Errors
    ///
    /// When nothing listens.
    pub fn dial(addr: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&addr, REPLY_WITHIN)?)
    }

    /// Connects from a given loopback address.
    ///
    /// # Errors
    ///
    /// When the address is not ours or nothing listens.
    pub fn dial_from(source: IpAddr, addr: SocketAddr) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::new(source, 0))?;
        connect(&socket, &addr)?;
        Self::over(TcpStream::from(socket))
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(REPLY_WITHIN))?;
        stream.set_write_timeout(Some(REPLY_WITHIN))?;
        stream.set_nodelay(true)?;
        Ok(Self { wire: Wire::Plain(stream), pending: Vec::new() })
    }

    /// Connects and reads the greeting.
    ///
    /// # Panics
    ///
    /// When it is not `220`.
    #[track_caller]
    pub fn greeted(addr: SocketAddr) -> Self {
        let mut client = Self::dial(addr).expect("the relay listens");
        client.reply().expect(220);
        client
    }

    /// Connects to a port with implicit TLS and reads the greeting.
    #[track_caller]
    pub fn greeted_tls(addr: SocketAddr) -> Self {
        let mut client = Self::dial(addr).expect("the relay listens");
        client.handshake().expect("a TLS handshake");
        client.reply().expect(220);
        client
    }

    /// Connects, says EHLO, STARTTLS, EHLO again.
    #[track_caller]
    pub fn secured(addr: SocketAddr) -> Self {
        let mut client = Self::greeted(addr);
        client.ehlo();
        client.starttls();
        client.ehlo();
        client
    }

    /// As [`Client::secured`], and logs in.
    #[track_caller]
    pub fn authenticated(addr: SocketAddr, user: &str, password: &str) -> Self {
        let mut client = Self::secured(addr);
        client.auth_plain(user, password).expect(235);
        client
    }

    /// Changes how long a read may take.
    pub fn set_patience(&self, patience: Duration) {
        if let Some(stream) = self.stream() {
            stream.set_read_timeout(Some(patience)).expect("not zero");
        }
    }

    /// The socket below.
    pub fn stream(&self) -> Option<&TcpStream> {
        match &self.wire {
            Wire::Plain(stream) => Some(stream),
            Wire::Tls(stream) => Some(&stream.sock),
            Wire::Closed => None,
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// When the relay closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Plain(stream) => stream.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Wire::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// When the relay closed the connection.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the relay reads");
    }

    /// Sends bytes in parts of `part` bytes, each in a packet of its own.
    #[track_caller]
    pub fn send_split(&mut self, bytes: &[u8], part: usize) {
        for piece in bytes.chunks(part.max(1)) {
            self.send(piece);
            // Long enough for the relay's core to read this piece by itself, nearly always.
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let read = match &mut self.wire {
            Wire::Plain(stream) => stream.read(&mut buffer)?,
            Wire::Tls(stream) => match stream.read(&mut buffer) {
                // The peer closed the socket without saying so inside TLS.
                Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => 0,
                other => other?,
            },
            Wire::Closed => 0,
        };
        self.pending.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    /// Reads one reply.
    ///
    /// # Errors
    ///
    /// When the connection ends first, time runs out, or what comes is no reply.
    pub fn try_reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            let text = String::from_utf8(line).map_err(io::Error::other)?;
            let code = text.get(..3).and_then(|code| code.parse::<u16>().ok());
            let is_reply = |code: &u16| (200..600).contains(code);
            let Some(code) = code.filter(is_reply) else {
                return Err(io::Error::other(format!("no reply: {text:?}")));
            };
            lines.push(text.get(4..).unwrap_or_default().to_owned());
            match text.as_bytes().get(3) {
                Some(b'-') => {}
                Some(b' ') | None => return Ok(Reply { code, lines }),
                _ => return Err(io::Error::other(format!("no reply: {text:?}"))),
            }
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = message::find(&self.pending, b"\r\n") {
                let mut line: Vec<u8> = self.pending.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            if self.receive()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads one reply.
    ///
    /// # Panics
    ///
    /// When none comes.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        match self.try_reply() {
            Ok(reply) => reply,
            Err(why) => {
                panic!("no reply: {why}; pending {:?}", self.pending.escape_ascii().to_string())
            }
        }
    }

    /// Everything the relay sends until it closes; what came before a reset counts too.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.receive().is_ok_and(|read| read > 0) {}
        std::mem::take(&mut self.pending)
    }

    /// What the relay sends, up to `bytes` of it, until it closes or pauses for long.
    pub fn rest_within(&mut self, bytes: usize) -> Vec<u8> {
        while self.pending.len() < bytes && self.receive().is_ok_and(|read| read > 0) {}
        let end = self.pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.pending.drain(..end).collect()
    }

    /// Whether the relay closes the connection now, saying no more.
    pub fn is_closed(&mut self) -> bool {
        match self.receive() {
            Ok(read) => read == 0,
            Err(why) => !matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// Sends a command line and reads its reply.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> Reply {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends a command line and reads its reply, where either may fail.
    ///
    /// # Errors
    ///
    /// As [`Client::try_reply`].
    pub fn try_command(&mut self, line: &str) -> io::Result<Reply> {
        self.try_send(format!("{line}\r\n").as_bytes())?;
        self.try_reply()
    }

    /// Says EHLO and returns the extensions.
    #[track_caller]
    pub fn ehlo(&mut self) -> Vec<String> {
        self.command("EHLO client.example").expect(250).lines.split_off(1)
    }

    /// Turns the connection into TLS.
    #[track_caller]
    pub fn starttls(&mut self) {
        self.command("STARTTLS").expect(220);
        self.handshake().expect("a TLS handshake");
    }

    /// Runs a TLS handshake now.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn handshake(&mut self) -> io::Result<()> {
        let Wire::Plain(mut stream) = std::mem::replace(&mut self.wire, Wire::Closed) else {
            return Err(io::Error::other("encrypted already"));
        };
        let name = ServerName::try_from("relay.example").expect("a valid name");
        let config = tls::trusting_client();
        let mut tls = ClientConnection::new(Arc::clone(&config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        self.wire = Wire::Tls(Box::new(StreamOwned::new(tls, stream)));
        Ok(())
    }

    /// AUTH PLAIN with an initial response.
    #[track_caller]
    pub fn auth_plain(&mut self, user: &str, password: &str) -> Reply {
        self.command(&format!("AUTH PLAIN {}", BASE64.encode(format!("\0{user}\0{password}"))))
    }

    /// AUTH LOGIN, answering its two questions.
    #[track_caller]
    pub fn auth_login(&mut self, user: &str, password: &str) -> Reply {
        let first = self.command("AUTH LOGIN");
        if first.code != 334 {
            return first;
        }
        self.command(&BASE64.encode(user)).expect(334);
        self.command(&BASE64.encode(password))
    }

    /// Sends a message step by step; returns the first refusal, or the reply to its end.
    #[track_caller]
    pub fn submit(&mut self, mail: &Mail) -> Reply {
        self.try_submit(mail).expect("the relay answers")
    }

    /// As [`Client::submit`], where the connection may end at any time.
    ///
    /// # Errors
    ///
    /// As [`Client::try_reply`].
    pub fn try_submit(&mut self, mail: &Mail) -> io::Result<Reply> {
        let mut lines = vec![format!("MAIL FROM:<{}> BODY=8BITMIME", mail.from)];
        lines.extend(mail.to.iter().map(|to| format!("RCPT TO:<{to}>")));
        lines.push("DATA".to_owned());
        for line in lines {
            let reply = self.try_command(&line)?;
            if !reply.is_positive() {
                return Ok(reply);
            }
        }
        self.try_send(&message::to_wire(&mail.content))?;
        self.try_reply()
    }

    /// Sends envelope and DATA, which must all be accepted, and stops before the content.
    #[track_caller]
    pub fn begin(&mut self, from: &str, to: &[&str]) {
        self.command(&format!("MAIL FROM:<{from}> BODY=8BITMIME")).expect(250);
        for to in to {
            self.command(&format!("RCPT TO:<{to}>")).expect(250);
        }
        self.command("DATA").expect(354);
    }

    /// Closes our side only.
    pub fn half_close(&self) {
        if let Some(stream) = self.stream() {
            // The relay may have closed first.
            stream.shutdown(Shutdown::Write).ok();
        }
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        if let Some(stream) = self.stream() {
            let zero = Some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(stream, zero).expect("an open socket");
        }
    }
}

//! The demonstration's application: an SMTP client that verifies whom it talks to.
//!
//! One command, one reply, blocking; every wait is bounded by [`PATIENCE`]. A password is sent in
//! clear by [`Client::auth`] alone, and only where the story is that it gets refused.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern_smtp::reply::{Reply, ReplyReader};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// A session with the relay.
pub(super) struct Client {
    link: Link,
    /// Received and not read yet.
    pending: Vec<u8>,
}

enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// A handshake failed.
    Gone,
}

/// A mail to send.
pub(super) struct Mail<'a> {
    /// Reverse-path.
    pub(super) from: &'a str,
    /// Forward-path.
    pub(super) to: &'a str,
    /// Content in plain form, with CRLF line ends.
    pub(super) content: &'a str,
}

impl Client {
    /// Connects and says EHLO.
    ///
    /// # Errors
    /// No connection, or another greeting than 220.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Self { link: Link::Plain(stream), pending: Vec::new() };
        expect(client.reply()?, 220)?;
        expect(client.command("EHLO app.example.com")?, 250)?;
        Ok(client)
    }

    /// Connects, starts TLS, verifies the relay's certificate, authenticates.
    ///
    /// # Errors
    /// Any step fails; the error has the relay's words.
    pub(super) fn authenticated(
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
        app: &str,
        password: &str,
    ) -> io::Result<Self> {
        let mut client = Self::connect(address)?;
        client.start_tls(tls, address)?;
        expect(client.auth(app, password)?, 235)?;
        Ok(client)
    }

    /// Turns to TLS and says EHLO again; answers the protocol version.
    ///
    /// # Errors
    /// STARTTLS is refused, or the certificate is not the demonstration's.
    pub(super) fn start_tls(
        &mut self,
        tls: &Arc<ClientConfig>,
        address: SocketAddr,
    ) -> io::Result<&'static str> {
        expect(self.command("STARTTLS")?, 220)?;
        let Link::Plain(mut stream) = std::mem::replace(&mut self.link, Link::Gone) else {
            return Err(io::Error::other("TLS is on already"));
        };
        let name = ServerName::from(address.ip());
        let mut session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        self.link = Link::Tls(Box::new(StreamOwned::new(session, stream)));
        expect(self.command("EHLO app.example.com")?, 250)?;
        Ok(version)
    }

    /// Presents a password (AUTH PLAIN) and returns the relay's verdict.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) fn auth(&mut self, app: &str, password: &str) -> io::Result<Reply> {
        let credentials = STANDARD.encode(format!("\0{app}\0{password}"));
        self.command(&format!("AUTH PLAIN {credentials}"))
    }

    /// Sends a mail; returns the first reply that refused it, or the last.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) fn send(&mut self, mail: &Mail<'_>) -> io::Result<Reply> {
        let from = self.command(&format!("MAIL FROM:<{}>", mail.from))?;
        if !from.is_positive() {
            return Ok(from);
        }
        let to = self.command(&format!("RCPT TO:<{}>", mail.to))?;
        if !to.is_positive() {
            return Ok(to);
        }
        let data = self.command("DATA")?;
        if data.code != 354 {
            return Ok(data);
        }
        self.write(stuffed(mail.content).as_bytes())?;
        self.reply()
    }

    /// Sends one command line and reads its reply.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut reader = ReplyReader::new();
        loop {
            let (consumed, reply) = reader.receive(&self.pending).map_err(io::Error::other)?;
            self.pending.drain(..consumed);
            if let Some(reply) = reply {
                return Ok(reply);
            }
            if self.pending.is_empty() {
                self.fill()?;
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; RECEIVE_BYTES];
        let received = match &mut self.link {
            Link::Plain(stream) => stream.read(&mut chunk)?,
            Link::Tls(stream) => stream.read(&mut chunk)?,
            Link::Gone => 0,
        };
        if received == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the relay closed the connection",
            ));
        }
        self.pending.extend_from_slice(&chunk[..received]);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.link {
            Link::Plain(stream) => stream.write_all(bytes),
            Link::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Link::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Wire form, with the final dot (RFC 5321 4.5.2).
fn stuffed(content: &str) -> String {
    debug_assert!(content.ends_with("\r\n"), "content ends with a line end");
    let dot = if content.starts_with('.') { "." } else { "" };
    format!("{dot}{}.\r\n", content.replace("\r\n.", "\r\n.."))
}

fn expect(reply: Reply, code: u16) -> io::Result<Reply> {
    if reply.code == code {
        Ok(reply)
    } else {
        Err(io::Error::other(format!("the relay answered {reply}")))
    }
}

/// How long the relay may take for one reply.
const PATIENCE: Duration = Duration::from_secs(10);
const RECEIVE_BYTES: usize = 4_096;

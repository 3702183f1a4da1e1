//! One application's session: connect, greet, send message after message, start over.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Fate, Shared, Tls};
use crate::{histogram::Histogram, transport::Transport, wire::Reply};

/// First and longest pause before another attempt to connect.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Runs one session to its end. Only a ledger that fails is an error; what happens on the network is
/// counted.
pub(super) async fn run(shared: Arc<Shared>, index: usize) -> io::Result<Histogram> {
    let mut latencies = Histogram::default();
    // A message taken but not sent yet, because the connection broke before.
    let mut waiting = None;
    let mut pause = PAUSE_MIN;
    loop {
        if waiting.is_none() {
            waiting = shared.take_number();
        }
        if waiting.is_none() || shared.is_over() {
            return Ok(latencies);
        }
        let mut session = match Session::open(&shared, index).await {
            Ok(session) => session,
            Err(error) => {
                shared.note_failure(&error);
                if !shared.options.persist {
                    return Ok(latencies);
                }
                sleep(pause).await;
                pause = (2 * pause).min(PAUSE_MAX);
                continue;
            }
        };
        pause = PAUSE_MIN;
        shared.progress.connections.fetch_add(1, Ordering::Relaxed);
        match session.send_all(&mut waiting, &mut latencies).await {
            Ok(()) => session.quit().await,
            Err(Failure::Ledger(error)) => return Err(error),
            Err(Failure::Connection(error)) => {
                shared.note_failure(&error);
                if !shared.options.persist {
                    return Ok(latencies);
                }
            }
        }
    }
}

/// Why a session ended before its time.
enum Failure {
    Connection(io::Error),
    Ledger(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

struct Session<'a> {
    shared: &'a Shared,
    transport: Transport,
    input: Vec<u8>,
    output: Vec<u8>,
    envelope: Vec<u8>,
    /// MAIL, RCPT and DATA of the next message have gone out behind the content of the last.
    is_envelope_sent: bool,
}

impl<'a> Session<'a> {
    async fn open(shared: &'a Shared, index: usize) -> io::Result<Self> {
        let options = &shared.options;
        let stream = timeout(options.timeout, TcpStream::connect(options.to)).await??;
        stream.set_nodelay(true)?;
        let mut session = Self {
            shared,
            transport: Transport::Plain(stream),
            input: Vec::new(),
            output: Vec::new(),
            envelope: envelope(shared),
            is_envelope_sent: false,
        };
        if options.tls == Tls::Implicit {
            session = session.encrypt().await?;
        }
        session.expect(220).await?;
        session.hello().await?;
        if options.tls == Tls::StartTls {
            session.command("STARTTLS", 220).await?;
            session = session.encrypt().await?;
            session.hello().await?;
        }
        if !options.credentials.is_empty() {
            let credential = &options.credentials[index % options.credentials.len()];
            let plain = format!("\0{}\0{}", credential.user, credential.password);
            let command = format!("AUTH PLAIN {}", BASE64_STANDARD.encode(plain));
            session.command(&command, 235).await?;
        }
        Ok(session)
    }

    async fn encrypt(mut self) -> io::Result<Self> {
        let options = &self.shared.options;
        let config = self.shared.tls.clone().ok_or_else(|| io::Error::other("no TLS set up"))?;
        let name = server_name(options.server_name.as_deref(), options.to)?;
        if !self.input.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "words behind the 220"));
        }
        let encrypting = self.transport.connect_tls(config, name);
        self.transport = timeout(options.timeout, encrypting).await??;
        Ok(self)
    }

    async fn hello(&mut self) -> io::Result<()> {
        let command = format!("EHLO {}", self.shared.options.helo);
        self.command(&command, 250).await
    }

    /// Sends messages until there are no more, or as many as one connection may carry.
    async fn send_all(
        &mut self,
        waiting: &mut Option<u64>,
        latencies: &mut Histogram,
    ) -> Result<(), Failure> {
        let mut left = self.shared.options.messages_per_connection.unwrap_or(u64::MAX);
        while let Some(number) = *waiting {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            if let Some(refusal) = self.offer().await? {
                *waiting = None;
                let is_last = refusal.code == 421;
                self.settle(number, &Fate::Refused(&refusal))?;
                if is_last {
                    return Err(said_goodbye(&refusal).into());
                }
                *waiting = self.shared.take_number();
                continue;
            }
            // The next message is taken before this one's content goes out, so that its envelope can
            // go along. From here on this message may have arrived, whatever happens.
            *waiting = self.shared.take_number();
            let is_pipelined = self.shared.options.pipelining && waiting.is_some() && left > 0;
            let reply = match self.deliver(number, is_pipelined, latencies).await {
                Ok(reply) => reply,
                Err(error) => {
                    self.settle(number, &Fate::Unknown)?;
                    return Err(error.into());
                }
            };
            if reply.is_positive() {
                self.settle(number, &Fate::Accepted(&reply))?;
            } else {
                self.settle(number, &Fate::Refused(&reply))?;
            }
            if reply.code == 421 {
                return Err(said_goodbye(&reply).into());
            }
        }
        Ok(())
    }

    fn settle(&self, number: u64, fate: &Fate<'_>) -> Result<(), Failure> {
        self.shared.settle(number, fate).map_err(Failure::Ledger)
    }

    /// Sends the envelope, if it is not out already, and reads its replies. Returns what refused it,
    /// with the session ready for another.
    async fn offer(&mut self) -> io::Result<Option<Reply>> {
        if !self.shared.options.pipelining {
            return self.offer_step_by_step().await;
        }
        if !self.is_envelope_sent {
            self.transport.write(&self.envelope).await?;
        }
        self.is_envelope_sent = false;
        let mut refusal = None;
        let mut has_recipient = false;
        let recipients = self.shared.options.recipients.len();
        for step in 0..=recipients {
            let reply = self.reply().await?;
            if reply.code == 421 {
                return Ok(Some(reply));
            }
            has_recipient |= step > 0 && reply.is_positive();
            if !reply.is_positive() {
                refusal.get_or_insert(reply);
            }
        }
        let data = self.reply().await?;
        match (data.code, has_recipient) {
            (354, true) => Ok(None),
            (354, false) => {
                // A server may ask for content that nobody is to get (RFC 2920 3.1): send none.
                self.transport.write(b".\r\n").await?;
                let reply = self.reply().await?;
                Ok(Some(refusal.unwrap_or(reply)))
            }
            _ => {
                let refusal = refusal.unwrap_or(data);
                self.command("RSET", 250).await?;
                Ok(Some(refusal))
            }
        }
    }

    async fn offer_step_by_step(&mut self) -> io::Result<Option<Reply>> {
        let envelope = std::mem::take(&mut self.envelope);
        let mut refusal = None;
        for command in envelope.split_inclusive(|&byte| byte == b'\n') {
            self.transport.write(command).await?;
            let reply = self.reply().await?;
            if !reply.is_positive() && reply.code != 354 {
                refusal = Some(reply);
                break;
            }
        }
        self.envelope = envelope;
        if refusal.as_ref().is_some_and(|refusal| refusal.code != 421) {
            self.command("RSET", 250).await?;
        }
        Ok(refusal)
    }

    /// Sends the content and waits for what the server says of it.
    async fn deliver(
        &mut self,
        number: u64,
        is_pipelined: bool,
        latencies: &mut Histogram,
    ) -> io::Result<Reply> {
        self.output.clear();
        self.shared.maker.write(number, &mut self.output);
        if is_pipelined {
            self.output.extend_from_slice(&self.envelope);
        }
        // A server that stops reading must not hang us either.
        timeout(self.shared.options.timeout, self.transport.write(&self.output)).await??;
        let sent = Instant::now();
        let reply = self.reply().await?;
        self.is_envelope_sent = is_pipelined;
        if reply.is_positive() {
            latencies.record(sent.elapsed());
        }
        Ok(reply)
    }

    async fn command(&mut self, command: &str, code: u16) -> io::Result<()> {
        self.transport.write(format!("{command}\r\n").as_bytes()).await?;
        self.expect(code).await
    }

    async fn expect(&mut self, code: u16) -> io::Result<()> {
        let reply = self.reply().await?;
        if reply.code == code {
            return Ok(());
        }
        Err(io::Error::other(format!("expected {code}, was told {} {}", reply.code, reply.text)))
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some((reply, bytes)) = Reply::parse(&self.input)? {
                self.input.drain(..bytes);
                return Ok(reply);
            }
            let reading = self.transport.read(&mut self.input);
            if timeout(self.shared.options.timeout, reading).await?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Ends the session in good order; that it fails changes nothing.
    async fn quit(mut self) {
        if self.command("QUIT", 221).await.is_ok() {
            let _closed = self.transport.close().await;
        }
    }
}

fn said_goodbye(reply: &Reply) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("{} {}", reply.code, reply.text))
}

fn envelope(shared: &Shared) -> Vec<u8> {
    let mut envelope = format!("MAIL FROM:<{}>\r\n", shared.options.from);
    for recipient in &shared.options.recipients {
        envelope.push_str("RCPT TO:<");
        envelope.push_str(recipient);
        envelope.push_str(">\r\n");
    }
    envelope.push_str("DATA\r\n");
    envelope.into_bytes()
}

fn server_name(given: Option<&str>, to: SocketAddr) -> io::Result<ServerName<'static>> {
    match given {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error)),
        None => Ok(ServerName::from(to.ip())),
    }
}

//! A next hop that keeps what arrives byte for byte, judges it strictly, and fails where told to.
//!
//! One thread a session. It accepts only what RFC 5321 allows on the wire: CRLF line ends, no bare
//! CR or LF, no NUL, known commands in order; whatever breaks that is kept as a violation, which
//! [`Sink::stop`] turns into a failed test.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::message;

/// What a next hop sees before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A client connected and waits for the greeting.
    Connect,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// Some content arrived, but not its end.
    Content,
    /// The whole content arrived. [`Act::Close`] and [`Act::Reset`] here take the message first and
    /// leave the client without an answer.
    End,
    /// QUIT, RSET or NOOP.
    Other,
}

/// Where a session is when the script is asked.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Number of the session, from 0.
    pub session: u64,
    /// How many sessions reached this phase before, over all sessions.
    pub before: u64,
    /// The phase.
    pub phase: Phase,
    /// The command line, where there is one.
    pub line: String,
}

/// What the next hop does then.
#[derive(Debug, Clone)]
pub enum Act {
    /// The ordinary thing.
    Proceed,
    /// Answers with this line instead (without CRLF).
    Answer(String),
    /// Answers with these bytes as they are, then goes on as if it had proceeded.
    Raw(Vec<u8>),
    /// Waits, then proceeds.
    Stall(Duration),
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

type Script = dyn Fn(&Moment) -> Act + Send + Sync;

/// How a sink behaves.
#[derive(Clone)]
pub struct Options {
    /// Where it listens; an own loopback address unless told.
    pub addr: SocketAddr,
    /// Extensions it offers.
    pub extensions: Vec<String>,
    /// Offers STARTTLS with these settings.
    pub tls: Option<Arc<ServerConfig>>,
    /// Speaks TLS from the first byte.
    pub is_tls_implicit: bool,
    /// Asked at every phase.
    pub script: Arc<Script>,
}

impl Default for Options {
    fn default() -> Self {
        let extensions =
            ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 104857600", "ENHANCEDSTATUSCODES"];
        Self {
            addr: crate::address::own_port(2525),
            extensions: extensions.map(str::to_owned).to_vec(),
            tls: None,
            is_tls_implicit: false,
            script: Arc::new(|_| Act::Proceed),
        }
    }
}

impl Options {
    /// With this script.
    pub fn script(script: impl Fn(&Moment) -> Act + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), ..Self::default() }
    }
}

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Session that brought it.
    pub session: u64,
    /// The whole MAIL command.
    pub mail: String,
    /// Reverse-path without angle brackets.
    pub from: String,
    /// Accepted forward-paths without angle brackets.
    pub to: Vec<String>,
    /// Content as on the wire: dot-stuffed, up to and without the final dot.
    pub wire: Vec<u8>,
    /// Content in plain form.
    pub content: Vec<u8>,
    /// Whether it came over TLS.
    pub is_tls: bool,
    /// Whether the sink answered 2xx; false when it dropped the connection or refused instead.
    pub is_acknowledged: bool,
    /// When its end arrived.
    pub at: Instant,
}

#[derive(Default)]
struct Kept {
    messages: Vec<Received>,
    violations: Vec<String>,
    reached: Vec<(Phase, u64)>,
    commands: Vec<String>,
}

struct Shared {
    options: Options,
    kept: Mutex<Kept>,
    arrived: Condvar,
    is_stopping: AtomicBool,
    sessions: AtomicU64,
    open: AtomicU64,
    open_max: AtomicU64,
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn violation(&self, what: String) {
        self.kept().violations.push(what);
    }
}

/// A running next hop; it stops when dropped.
pub struct Sink {
    shared: Arc<Shared>,
    addr: SocketAddr,
    is_judged: bool,
}

impl Sink {
    /// Starts an ordinary sink.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Starts a sink.
    ///
    /// # Panics
    ///
    /// When the address is taken.
    pub fn with(options: Options) -> Self {
        let listener = listen(options.addr);
        let addr = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            options,
            kept: Mutex::default(),
            arrived: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            open: AtomicU64::new(0),
            open_max: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serve(&listener, &serving));
        Self { shared, addr, is_judged: false }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Everything that arrived whole so far.
    pub fn messages(&self) -> Vec<Received> {
        self.shared.kept().messages.clone()
    }

    /// What arrived whole after the first `count`.
    pub fn after(&self, count: usize) -> Vec<Received> {
        self.shared.kept().messages.get(count..).unwrap_or_default().to_vec()
    }

    /// How many messages arrived whole so far.
    pub fn count(&self) -> usize {
        self.shared.kept().messages.len()
    }

    /// How many sessions were opened so far.
    pub fn sessions(&self) -> u64 {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// How many sessions are open now. Each carries one delivery at a time, so this bounds those in
    /// flight.
    pub fn open_now(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// The most sessions that were open at once.
    pub fn open_max(&self) -> u64 {
        self.shared.open_max.load(Ordering::Relaxed)
    }

    /// Every command line so far.
    pub fn commands(&self) -> Vec<String> {
        self.shared.kept().commands.clone()
    }

    /// What arrived against the rules of the wire.
    pub fn violations(&self) -> Vec<String> {
        self.shared.kept().violations.clone()
    }

    /// Waits until `count` messages arrived.
    ///
    /// # Panics
    ///
    /// When they did not within `seconds`.
    #[track_caller]
    pub fn wait_for(&self, count: usize, seconds: u64) -> Vec<Received> {
        let arrived = self.wait_until(seconds, |messages| messages.len() >= count);
        let commands = self.commands();
        let last = &commands[commands.len().saturating_sub(12)..];
        assert!(
            arrived,
            "{} of {count} messages arrived within {seconds} s; last commands {last:?}",
            self.count()
        );
        self.messages()
    }

    /// Waits until `is_enough` says so, at most `seconds`; false when it never did.
    pub fn wait_until(&self, seconds: u64, is_enough: impl Fn(&[Received]) -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut kept = self.shared.kept();
        while !is_enough(&kept.messages) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            let waited = self.shared.arrived.wait_timeout(kept, left);
            kept = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Ends the sink and fails the test on anything that broke the rules of the wire.
    ///
    /// # Panics
    ///
    /// On any violation.
    #[track_caller]
    pub fn stop(mut self) -> Vec<Received> {
        self.is_judged = true;
        let violations = self.violations();
        assert!(violations.is_empty(), "the relay broke the rules of the wire: {violations:#?}");
        self.messages()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees the flag.
        TcpStream::connect(self.addr).ok();
        if !self.is_judged && !std::thread::panicking() {
            let violations = self.violations();
            assert!(violations.is_empty(), "the relay broke the rules: {violations:#?}");
        }
    }
}

fn listen(addr: SocketAddr) -> TcpListener {
    // A sink that stopped a moment ago may have left its port in a closing state.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpListener::bind(addr) {
            Ok(listener) => return listener,
            Err(why) if Instant::now() > deadline => panic!("cannot listen on {addr}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.is_stopping.load(Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let number = shared.sessions.fetch_add(1, Ordering::Relaxed);
            let open = shared.open.fetch_add(1, Ordering::Relaxed) + 1;
            shared.open_max.fetch_max(open, Ordering::Relaxed);
            let mut session = Session::new(&shared, number, stream);
            // How a session ends is the client's business; violations are kept apart.
            session.run().ok();
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
    Closed,
}

struct Session<'s> {
    shared: &'s Shared,
    number: u64,
    wire: Wire,
    pending: Vec<u8>,
    mail: Option<String>,
    to: Vec<String>,
    chunks: Vec<u8>,
    has_greeted: bool,
}

/// Ends the session quietly.
fn ended() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl<'s> Session<'s> {
    fn new(shared: &'s Shared, number: u64, stream: TcpStream) -> Self {
        Self {
            shared,
            number,
            wire: Wire::Plain(stream),
            pending: Vec::new(),
            mail: None,
            to: Vec::new(),
            chunks: Vec::new(),
            has_greeted: false,
        }
    }

    fn run(&mut self) -> io::Result<()> {
        self.socket()?.set_nodelay(true)?;
        self.socket()?.set_read_timeout(Some(Duration::from_secs(120)))?;
        if self.shared.options.is_tls_implicit {
            self.handshake()?;
        }
        self.respond(Phase::Connect, "", "220 sink.example ESMTP")?;
        loop {
            let line = self.line()?;
            self.judge_command(&line);
            let line = String::from_utf8_lossy(&line).into_owned();
            self.shared.kept().commands.push(line.clone());
            if !self.obey(&line)? {
                return Ok(());
            }
        }
    }

    /// Carries out one command; false after QUIT.
    fn obey(&mut self, line: &str) -> io::Result<bool> {
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => self.ehlo(line)?,
            "HELO" => self.respond(Phase::Ehlo, line, "250 sink.example").map(drop)?,
            "STARTTLS" => self.starttls(line)?,
            "AUTH" => self.auth(line)?,
            "MAIL" => self.mail(line)?,
            "RCPT" => self.rcpt(line)?,
            "DATA" => self.data(line)?,
            "BDAT" => self.bdat(line)?,
            "RSET" => {
                self.forget();
                self.respond(Phase::Other, line, "250 2.0.0 Ok").map(drop)?;
            }
            "NOOP" => self.respond(Phase::Other, line, "250 2.0.0 Ok").map(drop)?,
            "QUIT" => {
                self.respond(Phase::Other, line, "221 2.0.0 Bye")?;
                return Ok(false);
            }
            _ => {
                self.shared.violation(format!("unknown command {line:?}"));
                self.write(b"500 5.5.1 Unknown\r\n")?;
            }
        }
        Ok(true)
    }

    fn ehlo(&mut self, line: &str) -> io::Result<()> {
        self.has_greeted = true;
        self.forget();
        let options = &self.shared.options;
        let mut offers = vec!["sink.example".to_owned()];
        offers.extend(options.extensions.iter().cloned());
        if options.tls.is_some() && !self.is_tls() {
            offers.push("STARTTLS".to_owned());
        }
        let last = offers.len() - 1;
        let text: Vec<String> = offers
            .iter()
            .enumerate()
            .map(|(index, offer)| format!("250{}{offer}", if index == last { ' ' } else { '-' }))
            .collect();
        self.respond(Phase::Ehlo, line, &text.join("\r\n")).map(drop)
    }

    fn starttls(&mut self, line: &str) -> io::Result<()> {
        if !self.respond(Phase::StartTls, line, "220 2.0.0 Go")? {
            return Ok(());
        }
        if !self.pending.is_empty() {
            self.shared.violation("bytes in the clear after STARTTLS".to_owned());
        }
        self.has_greeted = false;
        self.handshake()
    }

    fn handshake(&mut self) -> io::Result<()> {
        let Wire::Plain(mut stream) = std::mem::replace(&mut self.wire, Wire::Closed) else {
            return Err(ended());
        };
        let config = self.shared.options.tls.clone().ok_or_else(ended)?;
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        self.wire = Wire::Tls(Box::new(StreamOwned::new(tls, stream)));
        Ok(())
    }

    fn auth(&mut self, line: &str) -> io::Result<()> {
        if !self.is_tls() {
            self.shared.violation("AUTH in the clear".to_owned());
        }
        self.respond(Phase::Auth, line, "235 2.7.0 Welcome").map(drop)
    }

    fn mail(&mut self, line: &str) -> io::Result<()> {
        if !self.has_greeted || self.mail.is_some() {
            self.shared.violation(format!("out of order: {line:?}"));
        }
        if self.respond(Phase::Mail, line, "250 2.1.0 Ok")? {
            self.mail = Some(line.to_owned());
        }
        Ok(())
    }

    fn rcpt(&mut self, line: &str) -> io::Result<()> {
        if self.mail.is_none() {
            return self.write(b"503 5.5.1 MAIL first\r\n");
        }
        if self.respond(Phase::Rcpt, line, "250 2.1.5 Ok")? {
            self.to.push(path_of(line));
        }
        Ok(())
    }

    fn data(&mut self, line: &str) -> io::Result<()> {
        if self.to.is_empty() {
            return self.write(b"503 5.5.1 RCPT first\r\n");
        }
        if !self.respond(Phase::Data, line, "354 Go on")? {
            self.forget();
            return Ok(());
        }
        let wire = self.content()?;
        self.judge_content(&wire);
        self.complete(unstuffed(&wire), wire)
    }

    /// Reads up to the final dot.
    fn content(&mut self) -> io::Result<Vec<u8>> {
        let mut asked = false;
        let mut from = 0;
        loop {
            if self.pending.starts_with(b".\r\n") {
                self.pending.drain(..3);
                return Ok(Vec::new());
            }
            if let Some(end) = message::find(&self.pending[from..], b"\r\n.\r\n") {
                let end = from + end + 2;
                let wire: Vec<u8> = self.pending.drain(..end).collect();
                self.pending.drain(..3);
                return Ok(wire);
            }
            if !asked && !self.pending.is_empty() {
                asked = true;
                self.ask(Phase::Content, "", "")?;
            }
            from = self.pending.len().saturating_sub(4);
            self.receive()?;
        }
    }

    fn bdat(&mut self, line: &str) -> io::Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let size = words.get(1).and_then(|size| size.parse::<usize>().ok()).unwrap_or_default();
        while self.pending.len() < size {
            self.receive()?;
        }
        self.chunks.extend(self.pending.drain(..size));
        if words.get(2).is_some_and(|word| word.eq_ignore_ascii_case("LAST")) {
            let content = std::mem::take(&mut self.chunks);
            let wire = message::to_wire(&content);
            self.judge_content(&content);
            return self.complete(content, wire);
        }
        self.respond(Phase::Content, line, "250 2.0.0 Ok").map(drop)
    }

    fn complete(&mut self, content: Vec<u8>, wire: Vec<u8>) -> io::Result<()> {
        let mail = self.mail.take().unwrap_or_default();
        let received = Received {
            session: self.number,
            from: path_of(&mail),
            mail,
            to: std::mem::take(&mut self.to),
            wire,
            content,
            is_tls: self.is_tls(),
            is_acknowledged: false,
            at: Instant::now(),
        };
        let index = {
            let mut kept = self.shared.kept();
            kept.messages.push(received);
            kept.messages.len() - 1
        };
        self.shared.arrived.notify_all();
        // A stall holds the answer back but not the message: the loss is the client's to bear.
        let accepted = self.respond(Phase::End, "", "250 2.0.0 Ok: kept")?;
        self.shared.kept().messages[index].is_acknowledged = accepted;
        self.shared.arrived.notify_all();
        Ok(())
    }

    fn forget(&mut self) {
        self.mail = None;
        self.to.clear();
        self.chunks.clear();
    }

    /// Asks the script and answers; true when the ordinary thing happened.
    fn respond(&mut self, phase: Phase, line: &str, ordinary: &str) -> io::Result<bool> {
        self.ask(phase, line, ordinary)
    }

    fn ask(&mut self, phase: Phase, line: &str, ordinary: &str) -> io::Result<bool> {
        let before = self.count(phase);
        let moment = Moment { session: self.number, before, phase, line: line.to_owned() };
        let ordinary = if ordinary.is_empty() { String::new() } else { format!("{ordinary}\r\n") };
        match (self.shared.options.script)(&moment) {
            Act::Proceed => self.write(ordinary.as_bytes()).map(|()| true),
            Act::Answer(text) => {
                self.write(format!("{text}\r\n").as_bytes())?;
                Ok(text.starts_with(['2', '3']))
            }
            Act::Raw(bytes) => self.write(&bytes).map(|()| true),
            Act::Stall(time) => {
                std::thread::sleep(time);
                self.write(ordinary.as_bytes()).map(|()| true)
            }
            Act::Close => {
                self.socket()?.shutdown(Shutdown::Both)?;
                Err(ended())
            }
            Act::Reset => {
                let socket = self.socket()?;
                rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
                Err(ended())
            }
        }
    }

    fn count(&self, phase: Phase) -> u64 {
        let mut kept = self.shared.kept();
        if let Some((_, count)) = kept.reached.iter_mut().find(|(reached, _)| *reached == phase) {
            *count += 1;
            return *count - 1;
        }
        kept.reached.push((phase, 1));
        0
    }

    fn judge_command(&self, line: &[u8]) {
        if line.iter().any(|&byte| byte == b'\r' || byte == b'\n' || byte == 0) {
            let shown = line.escape_ascii();
            self.shared.violation(format!("bare CR, bare LF or NUL in a command: {shown}"));
        }
        if line.len() > 1_000 {
            self.shared.violation(format!("a command of {} bytes", line.len()));
        }
    }

    fn judge_content(&self, wire: &[u8]) {
        for (index, &byte) in wire.iter().enumerate() {
            let before = index.checked_sub(1).map(|at| wire[at]);
            let bad = match byte {
                b'\n' => before != Some(b'\r'),
                b'\r' => wire.get(index + 1) != Some(&b'\n'),
                byte => byte == 0,
            };
            if bad {
                let around = &wire[index.saturating_sub(20)..(index + 20).min(wire.len())];
                self.shared
                    .violation(format!("bare CR, bare LF or NUL: {}", around.escape_ascii()));
                return;
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
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        let read = match &mut self.wire {
            Wire::Plain(stream) => stream.read(&mut buffer)?,
            Wire::Tls(stream) => stream.read(&mut buffer)?,
            Wire::Closed => 0,
        };
        if read == 0 || self.shared.is_stopping.load(Ordering::Relaxed) {
            return Err(ended());
        }
        self.pending.extend_from_slice(&buffer[..read]);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Plain(stream) => stream.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Wire::Closed => Err(ended()),
        }
    }

    fn socket(&self) -> io::Result<&TcpStream> {
        match &self.wire {
            Wire::Plain(stream) => Ok(stream),
            Wire::Tls(stream) => Ok(&stream.sock),
            Wire::Closed => Err(ended()),
        }
    }

    fn is_tls(&self) -> bool {
        matches!(self.wire, Wire::Tls(_))
    }
}

/// The path between the angle brackets of a MAIL or RCPT command.
fn path_of(line: &str) -> String {
    let inside = line.split_once('<').map_or("", |(_, rest)| rest);
    inside.split_once('>').map_or(inside, |(path, _)| path).to_owned()
}

fn unstuffed(wire: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(wire.len());
    for line in wire.split_inclusive(|&byte| byte == b'\n') {
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::message::Mail;

    #[test]
    fn what_is_sent_is_kept() {
        let sink = Sink::start();
        let mail = Mail::numbered(3, "a@one.example", "b@two.example", 100_000);
        let mut client = Client::greeted(sink.addr());
        assert!(client.ehlo().contains(&"8BITMIME".to_owned()));
        client.submit(&mail).expect(250);
        let got = sink.wait_for(1, 5).remove(0);
        assert_eq!((got.content, got.from, got.to), (mail.content, mail.from, mail.to));
        assert!(got.is_acknowledged || sink.wait_until(1, |all| all[0].is_acknowledged));
    }

    #[test]
    fn scripts_decide_and_violations_are_seen() {
        let sink = Sink::with(Options::script(|moment| match moment.phase {
            Phase::Mail if moment.before == 0 => Act::Answer("451 4.0.0 later".to_owned()),
            Phase::End => Act::Reset,
            _ => Act::Proceed,
        }));
        let mail = Mail::numbered(3, "a@one.example", "b@two.example", 1_000);
        let mut client = Client::greeted(sink.addr());
        client.ehlo();
        client.submit(&mail).expect(451);
        assert!(client.try_submit(&mail).is_err());
        assert!(!sink.wait_for(1, 5)[0].is_acknowledged);
        let mut client = Client::greeted(sink.addr());
        client.ehlo();
        client.begin("a@b", &["c@d"]);
        client.send(b"a\nb\r\n.\r\n");
        client.rest();
        assert_eq!(std::mem::take(&mut sink.shared.kept().violations).len(), 1);
    }

    #[test]
    fn tls_works_both_ways() {
        let addr = crate::address::own_port(2525);
        let tls = Some(crate::tls::Pair::new(addr.ip()).server());
        let sink = Sink::with(Options { addr, tls, ..Options::default() });
        let mut client = Client::secured(sink.addr());
        client.submit(&Mail::with_body("a@b.example", "c@d.example", b"x\r\n")).expect(250);
        assert!(sink.wait_for(1, 5)[0].is_tls);
    }
}

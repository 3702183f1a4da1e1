//! One session of the sink: reads what arrived, answers all of it in one write, reads on.

use std::{io, ops::Range, sync::atomic::Ordering};

use memchr::memchr;
use tokio::{net::TcpStream, time::sleep};

use super::{
    Shared,
    fault::{Action, Dice, Phase},
};
use crate::{transport::Transport, wire::Content};

/// A command line longer than this ends the session (RFC 5321 4.5.3.1.4 asks for 512; parameters and
/// AUTH need more).
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, shared: &Shared, number: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = Session {
        shared,
        transport: Transport::Plain(stream),
        dice: shared.options.faults.dice(number),
        input: Vec::new(),
        output: Vec::new(),
        is_encrypted: false,
        has_sender: false,
        recipients: 0,
    };
    if shared.options.implicit_tls {
        session = session.encrypt().await?;
    }
    let greeting = format!("220 {} ESMTP loadgen sink", shared.options.hostname);
    match session.answer(Phase::Connect, &greeting).await? {
        Answer::Given => session.run().await,
        Answer::Refused | Answer::Close => session.flush().await,
    }
}

struct Session<'a> {
    shared: &'a Shared,
    transport: Transport,
    dice: Dice,
    input: Vec<u8>,
    output: Vec<u8>,
    is_encrypted: bool,
    has_sender: bool,
    recipients: usize,
}

/// What a fault made of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing: it was given.
    Given,
    /// Another was given.
    Refused,
    /// None, or one that ends the session.
    Close,
}

impl Answer {
    /// `next` if the answer was given, else the next command.
    fn then(self, next: Next) -> Next {
        match self {
            Self::Given => next,
            Self::Refused => Next::Command,
            Self::Close => Next::Close,
        }
    }
}

/// What follows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Command,
    Content,
    Encrypt,
    Close,
}

impl Session<'_> {
    async fn run(mut self) -> io::Result<()> {
        // Start of what is not dealt with yet.
        let mut start = 0;
        loop {
            let Some(end) = memchr(b'\n', &self.input[start..]) else {
                self.input.drain(..start);
                start = 0;
                if self.input.len() > LINE_BYTES_MAX || !self.read().await? {
                    return Ok(());
                }
                continue;
            };
            let line = start..start + end;
            start += end + 1;
            match self.command(line).await? {
                Next::Command => {}
                Next::Content => {
                    self.input.drain(..start);
                    start = 0;
                    if self.content().await? == Next::Close {
                        return self.flush().await;
                    }
                }
                Next::Encrypt => {
                    self.flush().await?;
                    // What was sent behind STARTTLS in the clear is not obeyed (RFC 3207 4).
                    self.input.clear();
                    start = 0;
                    self = self.encrypt().await?;
                }
                Next::Close => return self.flush().await,
            }
        }
    }

    async fn encrypt(mut self) -> io::Result<Self> {
        let config = self.shared.options.tls.clone();
        let config = config.ok_or_else(|| io::Error::other("no certificate"))?;
        self.transport = self.transport.accept_tls(config).await?;
        self.is_encrypted = true;
        self.has_sender = false;
        self.recipients = 0;
        self.shared.counts.encrypted.fetch_add(1, Ordering::Relaxed);
        Ok(self)
    }

    /// Sends what has been answered and waits for more; false at the end of the stream.
    async fn read(&mut self) -> io::Result<bool> {
        self.flush().await?;
        Ok(self.transport.read(&mut self.input).await? > 0)
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.transport.write(&self.output).await?;
            self.output.clear();
        }
        Ok(())
    }

    async fn command(&mut self, line: Range<usize>) -> io::Result<Next> {
        let line = self.input[line].trim_ascii_end();
        let mut verb = [0; 4];
        let letters = line.len().min(4);
        verb[..letters].copy_from_slice(&line[..letters]);
        verb.make_ascii_uppercase();
        match &verb {
            b"MAIL" if self.has_sender => self.say("503 5.5.1 a transaction is open"),
            b"MAIL" => {
                let answer = self.answer(Phase::Mail, "250 2.1.0 ok").await?;
                self.has_sender = answer == Answer::Given;
                self.recipients = 0;
                return Ok(answer.then(Next::Command));
            }
            b"RCPT" if !self.has_sender => self.say("503 5.5.1 MAIL first"),
            b"RCPT" => {
                let answer = self.answer(Phase::Rcpt, "250 2.1.5 ok").await?;
                self.recipients += usize::from(answer == Answer::Given);
                return Ok(answer.then(Next::Command));
            }
            b"DATA" if self.recipients == 0 => self.say("503 5.5.1 RCPT first"),
            b"DATA" => {
                return Ok(self.answer(Phase::Data, "354 go").await?.then(Next::Content));
            }
            b"EHLO" | b"HELO" => {
                let hello = self.hello(&verb == b"EHLO");
                return Ok(self.answer(Phase::Ehlo, &hello).await?.then(Next::Command));
            }
            b"STAR" if self.offers_starttls() => {
                let answer = self.answer(Phase::StartTls, "220 2.0.0 go").await?;
                return Ok(answer.then(Next::Encrypt));
            }
            b"AUTH" => self.say("235 2.7.0 anybody may"),
            b"RSET" => {
                self.has_sender = false;
                self.recipients = 0;
                self.say("250 2.0.0 ok");
            }
            b"NOOP" => self.say("250 2.0.0 ok"),
            b"QUIT" => {
                self.say("221 2.0.0 bye");
                return Ok(Next::Close);
            }
            _ => self.say("502 5.5.1 not here"),
        }
        Ok(Next::Command)
    }

    fn offers_starttls(&self) -> bool {
        self.shared.options.tls.is_some() && !self.is_encrypted
    }

    fn hello(&self, is_extended: bool) -> String {
        let hostname = &self.shared.options.hostname;
        if !is_extended {
            return format!("250 {hostname}");
        }
        let starttls = if self.offers_starttls() { "250-STARTTLS\r\n" } else { "" };
        format!(
            "250-{hostname}\r\n250-PIPELINING\r\n{starttls}250-SIZE\r\n250-8BITMIME\r\n\
             250-SMTPUTF8\r\n250-DSN\r\n250-AUTH PLAIN\r\n250 ENHANCEDSTATUSCODES"
        )
    }

    /// Takes one message, to its final dot and the answer to it.
    async fn content(&mut self) -> io::Result<Next> {
        let mut content = Content::new(self.shared.options.dump.is_some());
        loop {
            let fed = content.feed(&self.input);
            self.input.drain(..fed.consumed);
            if fed.has_ended {
                break;
            }
            if !self.read().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.has_sender = false;
        self.recipients = 0;
        let strike = self.strike(Phase::End);
        if let Some(Action::Reply(code)) = strike {
            return Ok(self.refuse(code).then(Next::Command));
        }
        if self.shared.take(&content.finish()).is_err() {
            self.say("451 4.3.0 cannot note this");
            return Ok(Next::Command);
        }
        Ok(self.act(strike, "250 2.0.0 taken").await?.then(Next::Command))
    }

    fn say(&mut self, reply: &str) {
        self.output.extend_from_slice(reply.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    fn strike(&mut self, phase: Phase) -> Option<Action> {
        let strike = self.shared.options.faults.strike(phase, &mut self.dice);
        if strike.is_some() {
            self.shared.counts.faults.fetch_add(1, Ordering::Relaxed);
        }
        strike
    }

    /// Gives `reply`, or what a fault makes of it.
    async fn answer(&mut self, phase: Phase, reply: &str) -> io::Result<Answer> {
        let strike = self.strike(phase);
        self.act(strike, reply).await
    }

    async fn act(&mut self, strike: Option<Action>, reply: &str) -> io::Result<Answer> {
        match strike {
            None => {}
            Some(Action::Reply(code)) => return Ok(self.refuse(code)),
            // What was answered before still goes out; this is not answered.
            Some(Action::Drop) => return Ok(Answer::Close),
            Some(Action::Stall) => {
                while self.read().await? {
                    self.input.clear();
                }
                return Ok(Answer::Close);
            }
            Some(Action::Slow(time)) => {
                self.flush().await?;
                sleep(time).await;
            }
        }
        self.say(reply);
        Ok(Answer::Given)
    }

    fn refuse(&mut self, code: u16) -> Answer {
        self.say(&format!("{code} {}.3.0 a fault was asked for", code / 100));
        if code == 421 { Answer::Close } else { Answer::Refused }
    }
}

//! States from the greeting to readiness: EHLO, STARTTLS, AUTH.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::options::{Login, TlsPolicy};
use super::{Capabilities, Cause, Event, Phase, Security, Shared, State, Step};
use crate::reply::{Reply, Severity};

/// The connection was made.
#[derive(Debug)]
pub(super) struct ExpectGreeting;

/// EHLO was said.
#[derive(Debug)]
pub(super) struct ExpectEhlo;

/// HELO was said, since EHLO was not understood.
#[derive(Debug)]
pub(super) struct ExpectHelo;

/// STARTTLS was said.
#[derive(Debug)]
pub(super) struct ExpectTls;

/// The caller does the handshake.
#[derive(Debug)]
pub(super) struct AwaitingTls(());

/// AUTH was said.
#[derive(Debug)]
pub(super) enum ExpectAuth {
    /// All was said; the verdict is awaited.
    Verdict,
    /// LOGIN: `Username:` is awaited.
    NameChallenge,
    /// LOGIN: `Password:` is awaited.
    PasswordChallenge,
}

impl Shared {
    pub(super) fn say_ehlo(&mut self) -> State {
        self.say(&[b"EHLO ", self.options.clone().hostname.as_bytes()]);
        State::ExpectEhlo(ExpectEhlo)
    }

    /// Appends one command line.
    fn say(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.output.extend_from_slice(part);
        }
        self.output.extend_from_slice(b"\r\n");
    }

    /// EHLO or HELO was answered: TLS first, then AUTH, then readiness.
    fn go_on(&mut self) -> Step {
        if self.security == Security::Plain {
            match self.options.tls {
                TlsPolicy::Require if !self.capabilities.starttls => {
                    return Step::fail(Phase::Tls, Cause::TlsMissing);
                }
                TlsPolicy::Require | TlsPolicy::Opportunistic if self.capabilities.starttls => {
                    self.say(&[b"STARTTLS"]);
                    return Step::to(State::ExpectTls(ExpectTls));
                }
                _ => {}
            }
        }
        self.authenticate()
    }

    fn authenticate(&mut self) -> Step {
        let options = self.options.clone();
        let Some(login) = options.login.as_ref().filter(|_| !self.authenticated) else {
            return Step::with(State::Ready, Event::Ready);
        };
        let protected = self.security == Security::Tls || options.insecure_plaintext_auth;
        if protected && self.capabilities.auth_plain {
            self.say(&[b"AUTH PLAIN ", plain_response(login).as_bytes()]);
            Step::to(State::ExpectAuth(ExpectAuth::Verdict))
        } else if protected && self.capabilities.auth_login {
            self.say(&[b"AUTH LOGIN"]);
            Step::to(State::ExpectAuth(ExpectAuth::NameChallenge))
        } else {
            Step::fail(Phase::Auth, Cause::AuthMissing)
        }
    }
}

fn plain_response(login: &Login) -> Zeroizing<String> {
    let mut message = Zeroizing::new(Vec::with_capacity(256));
    message.push(0);
    message.extend_from_slice(login.authcid.as_bytes());
    message.push(0);
    message.extend_from_slice(login.password.expose());
    Zeroizing::new(STANDARD.encode(&*message))
}

impl ExpectGreeting {
    pub(super) fn reply(self, shared: &mut Shared, reply: Reply) -> Step {
        if reply.code == 220 {
            return Step::to(shared.say_ehlo());
        }
        Step::fail(Phase::Greeting, Cause::Reply(reply))
    }
}

impl ExpectEhlo {
    pub(super) fn reply(self, shared: &mut Shared, reply: Reply) -> Step {
        match reply.severity() {
            Severity::Positive => {
                shared.capabilities = Capabilities::parse(&reply);
                shared.go_on()
            }
            // An old server: try HELO (RFC 5321 3.2).
            Severity::Permanent => {
                shared.say(&[b"HELO ", shared.options.clone().hostname.as_bytes()]);
                Step::to(State::ExpectHelo(ExpectHelo))
            }
            _ => Step::fail(Phase::Hello, Cause::Reply(reply)),
        }
    }
}

impl ExpectHelo {
    pub(super) fn reply(self, shared: &mut Shared, reply: Reply) -> Step {
        if reply.is_positive() {
            return shared.go_on();
        }
        Step::fail(Phase::Hello, Cause::Reply(reply))
    }
}

impl ExpectTls {
    /// `more`: bytes follow the reply already.
    pub(super) fn reply(self, shared: &mut Shared, reply: Reply, more: bool) -> Step {
        if reply.code == 220 {
            if more {
                return Step::fail(Phase::Tls, Cause::Injection);
            }
            return Step::with(State::AwaitingTls(AwaitingTls(())), Event::StartTls);
        }
        let refused = matches!(reply.severity(), Severity::Transient | Severity::Permanent);
        if refused && shared.options.tls == TlsPolicy::Opportunistic {
            return shared.authenticate();
        }
        Step::fail(Phase::Tls, Cause::Reply(reply))
    }
}

impl ExpectAuth {
    pub(super) fn reply(self, shared: &mut Shared, reply: Reply) -> Step {
        let options = shared.options.clone();
        let login = options.login.as_ref();
        match (self, reply.code, login) {
            (Self::Verdict, 235, _) => {
                shared.authenticated = true;
                Step::with(State::Ready, Event::Ready)
            }
            (Self::NameChallenge, 334, Some(login)) => {
                shared.say(&[STANDARD.encode(&login.authcid).as_bytes()]);
                Step::to(State::ExpectAuth(Self::PasswordChallenge))
            }
            (Self::PasswordChallenge, 334, Some(login)) => {
                let encoded = Zeroizing::new(STANDARD.encode(login.password.expose()));
                shared.say(&[encoded.as_bytes()]);
                Step::to(State::ExpectAuth(Self::Verdict))
            }
            _ => Step::fail(Phase::Auth, Cause::Reply(reply)),
        }
    }
}

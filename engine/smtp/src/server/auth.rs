//! SASL: AUTH PLAIN and AUTH LOGIN (RFC 4954, RFC 4616).
//!
//! # Security
//! In clear AUTH is refused with `538 5.7.11` before any secret is asked for. A name with control
//! characters is refused here, so that it cannot reach a log or a header field. Secrets live in
//! memory that is wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::facts::Facts;
use super::hello::Ready;
use super::{CloseReason, Credentials, Event, Mechanism, Password, State, Step};
use crate::reply::{Enhanced, Reply};

/// A response of the client is awaited.
#[derive(Debug)]
pub(super) struct ExpectSasl {
    awaited: Awaited,
}

#[derive(Debug)]
enum Awaited {
    PlainResponse,
    LoginName,
    LoginPassword { authcid: String },
}

/// The caller checks the credentials.
#[derive(Debug)]
pub(super) struct DecidingAuth(());

/// AUTH, outside a transaction.
pub(super) fn start<'b>(facts: &mut Facts, mechanism: &str, initial: Option<&[u8]>) -> Step<'b> {
    if let Some(reply) = refusal(facts) {
        return facts.error(reply, State::Ready(Ready));
    }
    let awaited = match mechanism {
        name if name.eq_ignore_ascii_case("PLAIN") => Awaited::PlainResponse,
        name if name.eq_ignore_ascii_case("LOGIN") => Awaited::LoginName,
        _ => return facts.error(&UNKNOWN_MECHANISM, State::Ready(Ready)),
    };
    let state = ExpectSasl { awaited };
    match initial {
        // `=` stands for an empty initial response.
        Some(b"=") => state.decoded(facts, Zeroizing::new(Vec::new())),
        Some(response) => state.line(facts, response),
        None => state.challenge(facts),
    }
}

fn refusal(facts: &Facts) -> Option<&'static Reply> {
    if facts.authenticated {
        Some(&AUTH_ALREADY)
    } else if !facts.options.auth {
        Some(&NO_AUTH)
    } else if !facts.auth_is_open() {
        Some(&ENCRYPTION_REQUIRED)
    } else {
        None
    }
}

impl ExpectSasl {
    fn challenge<'b>(self, facts: &mut Facts) -> Step<'b> {
        // LOGIN's challenges are `Username:` and `Password:` in base64, and clients compare them.
        facts.reply(&Reply::bare(
            334,
            match self.awaited {
                Awaited::PlainResponse => "",
                Awaited::LoginName => "VXNlcm5hbWU6",
                Awaited::LoginPassword { .. } => "UGFzc3dvcmQ6",
            },
        ));
        Step::to(State::ExpectSasl(Box::new(self)))
    }

    /// One response line.
    pub(super) fn line<'b>(self, facts: &mut Facts, line: &[u8]) -> Step<'b> {
        if line == b"*" {
            return facts.error(&CANCELLED, State::Ready(Ready));
        }
        match STANDARD.decode(line) {
            Ok(response) => self.decoded(facts, Zeroizing::new(response)),
            Err(_) => facts.error(&BAD_BASE64, State::Ready(Ready)),
        }
    }

    fn decoded<'b>(self, facts: &mut Facts, response: Zeroizing<Vec<u8>>) -> Step<'b> {
        match self.awaited {
            Awaited::PlainResponse => match plain(&response) {
                Some(credentials) => decide(credentials),
                None => facts.error(&BAD_RESPONSE, State::Ready(Ready)),
            },
            Awaited::LoginName => match identity(&response).filter(|name| !name.is_empty()) {
                Some(authcid) => {
                    Self { awaited: Awaited::LoginPassword { authcid } }.challenge(facts)
                }
                None => facts.error(&BAD_RESPONSE, State::Ready(Ready)),
            },
            Awaited::LoginPassword { authcid } => decide(Credentials {
                mechanism: Mechanism::Login,
                authzid: String::new(),
                authcid,
                password: Password(response),
            }),
        }
    }
}

fn decide<'b>(credentials: Credentials) -> Step<'b> {
    Step::with(State::DecidingAuth(DecidingAuth(())), Event::Auth(credentials))
}

/// `[authzid] NUL authcid NUL passwd`.
fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.split(|&b| b == 0);
    let (authzid, authcid) = (identity(parts.next()?)?, identity(parts.next()?)?);
    let password = Password(Zeroizing::new(parts.next()?.to_vec()));
    let well_formed = parts.next().is_none() && !authcid.is_empty();
    well_formed.then_some(Credentials { mechanism: Mechanism::Plain, authzid, authcid, password })
}

/// A name: UTF-8 without control characters.
fn identity(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes).ok()?;
    (!name.chars().any(char::is_control)).then(|| name.to_owned())
}

impl DecidingAuth {
    pub(super) fn answer(self, facts: &mut Facts, reply: Option<Reply>) -> State {
        let reply = reply.unwrap_or(AUTHENTICATED);
        if reply.is_positive() {
            facts.authenticated = true;
            facts.reply(&reply);
            return State::Ready(Ready);
        }
        if !facts.count_error() {
            facts.reply(&super::facts::TOO_MANY_ERRORS);
            return State::Closed(CloseReason::Limit);
        }
        facts.reply(&reply);
        State::Ready(Ready)
    }
}

const AUTHENTICATED: Reply = Reply::fixed(235, Enhanced::new(2, 7, 0), "Authentication succeeded");
static AUTH_ALREADY: Reply = Reply::fixed(503, Enhanced::new(5, 5, 1), "Already authenticated");
static NO_AUTH: Reply = Reply::fixed(502, Enhanced::new(5, 5, 1), "AUTH is not available");
static ENCRYPTION_REQUIRED: Reply = Reply::fixed(
    538,
    Enhanced::new(5, 7, 11),
    "Encryption is required for authentication, use STARTTLS",
);
const UNKNOWN_MECHANISM: Reply =
    Reply::fixed(504, Enhanced::new(5, 5, 4), "Unknown mechanism, use PLAIN or LOGIN");
const CANCELLED: Reply = Reply::fixed(501, Enhanced::new(5, 7, 0), "Authentication cancelled");
const BAD_BASE64: Reply = Reply::fixed(501, Enhanced::new(5, 5, 2), "Bad base64");
const BAD_RESPONSE: Reply =
    Reply::fixed(501, Enhanced::new(5, 5, 2), "Bad authentication response");

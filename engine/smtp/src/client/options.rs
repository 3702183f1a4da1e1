//! What a client session is told once.

use std::time::Duration;

use super::event::Phase;
use crate::server::Password;

/// Most commands in flight when the server offers PIPELINING. Their replies fit any socket buffer,
/// so neither side can block the other (RFC 2920 3.1).
pub const PIPELINE_COMMANDS_MAX: usize = 100;

/// The options of a next hop, shared by its sessions.
#[derive(Debug)]
pub struct ClientOptions {
    /// Our name in EHLO; a host name or an address literal.
    pub hostname: String,
    /// Whether to use STARTTLS.
    pub tls: TlsPolicy,
    /// Credentials, if the next hop wants some.
    pub login: Option<Login>,
    /// Send credentials in clear. For tests on the loopback interface.
    pub insecure_plaintext_auth: bool,
    /// How long to wait for what.
    pub timeouts: ClientTimeouts,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            tls: TlsPolicy::Require,
            login: None,
            insecure_plaintext_auth: false,
            timeouts: ClientTimeouts::default(),
        }
    }
}

/// Whether to use STARTTLS on a session that begins in clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// No.
    Never,
    /// If it is offered.
    Opportunistic,
    /// Yes, or fail.
    #[default]
    Require,
}

/// Credentials for the next hop.
#[derive(Debug)]
pub struct Login {
    /// Identity that authenticates.
    pub authcid: String,
    /// Its password.
    pub password: Password,
}

/// How long a session waits, by phase (RFC 5321 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// For the greeting.
    pub greeting: Duration,
    /// For replies to EHLO, STARTTLS and AUTH.
    pub hello: Duration,
    /// For the reply to MAIL.
    pub mail: Duration,
    /// For the reply to each RCPT.
    pub rcpt: Duration,
    /// For the 354.
    pub data: Duration,
    /// For each part of the content to be taken.
    pub data_block: Duration,
    /// For the reply to the content.
    pub end_of_data: Duration,
    /// For the reply to RSET or QUIT, which nobody should wait long for.
    pub reset: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        Self {
            greeting: minutes(5),
            hello: minutes(5),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            data_block: minutes(3),
            end_of_data: minutes(10),
            reset: Duration::from_secs(20),
        }
    }
}

impl ClientTimeouts {
    /// The timeout of a phase.
    pub(super) fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Greeting => self.greeting,
            Phase::Hello | Phase::Tls | Phase::Auth | Phase::Idle => self.hello,
            Phase::Mail => self.mail,
            Phase::Rcpt => self.rcpt,
            Phase::Data => self.data,
            Phase::Content => self.data_block,
            Phase::EndOfData => self.end_of_data,
            Phase::Reset | Phase::Quit => self.reset,
        }
    }
}

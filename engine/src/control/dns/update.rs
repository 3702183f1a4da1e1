//! Changes one TXT record by dynamic update (RFC 2136), signed with TSIG (RFC 8945).
//!
//! An update carries what it believes is there as a prerequisite, which the server checks and acts
//! on in one step: nobody else's change is overwritten. It is idempotent: where the record is
//! already as wanted, perhaps by an update whose answer was lost, that is success. TCP only: an
//! update of two long keys does not fit a datagram, and a lost datagram would be sent twice.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::op::update_message::UpdateMessage as _;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use postern_signer::dns::{self, Txt};

use super::exchange::{NoAnswer, Patience, ask, exchange_tcp};
use super::look::{delegation, shown, txt_at, zone_of};
use super::tsig::TsigKey;

/// Where and how to update.
#[derive(Clone)]
pub struct UpdateOptions {
    /// The zone's primary server.
    pub server: SocketAddr,
    /// The key that the server lets change the records.
    pub key: TsigKey,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often to try before giving up.
    pub attempts: u32,
}

/// What to do with the record at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Publish a value where there is none.
    Add {
        /// The value.
        text: &'a str,
    },
    /// Put a value in place of another: also how a key is withdrawn, with
    /// [`postern_signer::dns::revoked_text`].
    Replace {
        /// The value that must be there.
        known: &'a str,
        /// The new value.
        text: &'a str,
    },
    /// Take the record away.
    Remove {
        /// The value that must be there.
        known: &'a str,
    },
}

/// How a change succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The server changed the record.
    Changed,
    /// The record was as wanted already.
    AlreadyThere,
}

/// Why a record was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateError {
    /// The name is no domain name, or not in a zone of this server; holds the name.
    NoZone(String),
    /// The name is a CNAME; holds where it leads. Update that name instead.
    Delegated(String),
    /// Somebody else wrote to the name: holds what is there, `None` for nothing.
    SecondWriter(Option<String>),
    /// The server does not know the key by this name and algorithm (BADKEY).
    BadKey,
    /// The server holds another secret under the key's name (BADSIG).
    BadSignature,
    /// The clocks are too far apart (BADTIME): by how many seconds the server's is ahead, where it
    /// says so.
    BadTime(Option<i64>),
    /// The server is not the primary of the zone (NOTAUTH without a TSIG error, or NOTZONE).
    NotAuthoritative,
    /// The server does not let this key change this name.
    Refused,
    /// The server failed (SERVFAIL): it may be unable to write its journal.
    ServFail,
    /// Another code; holds it.
    Code(String),
    /// The answer is not signed by the server: it may be forged, and says nothing.
    Unsigned,
    /// It said nothing in time. The change may have been made.
    Timeout,
    /// It cannot be reached; holds the system's reason.
    Unreachable(String),
    /// What came was no answer.
    Garbled,
}

/// Changes records at one server.
#[derive(Clone)]
pub struct Updater {
    options: UpdateOptions,
    clock_off_s: i64,
}

impl Updater {
    /// Makes one; nothing is asked yet.
    #[must_use]
    pub fn new(options: UpdateOptions) -> Self {
        Self { options, clock_off_s: 0 }
    }

    /// Signs as a host does whose clock is off by this many seconds: a rehearsal of that fault.
    #[must_use]
    pub fn with_clock_off_s(mut self, seconds: i64) -> Self {
        self.clock_off_s = seconds;
        self
    }

    /// Makes one change at a name, with this time to live in seconds.
    ///
    /// # Errors
    /// [`UpdateError`]; nothing was changed, except perhaps after [`UpdateError::Timeout`], which
    /// doing the same again settles.
    pub async fn update(
        &self,
        name: &str,
        ttl_s: u32,
        change: Change<'_>,
    ) -> Result<Done, UpdateError> {
        let owner = Name::from_ascii(name).map(|mut owner| {
            owner.set_fqdn(true);
            owner
        });
        let owner = owner.map_err(|_| UpdateError::NoZone(name.to_owned()))?;
        let mut last = UpdateError::Timeout;
        for _ in 0..self.options.attempts.max(1) {
            match self.update_once(&owner, ttl_s, change).await {
                // The answer may have been lost, or the record changed since it was read: look
                // again before saying so.
                Err(why @ (UpdateError::Timeout | UpdateError::SecondWriter(_))) => last = why,
                settled => return settled,
            }
        }
        Err(last)
    }

    async fn update_once(
        &self,
        owner: &Name,
        ttl_s: u32,
        change: Change<'_>,
    ) -> Result<Done, UpdateError> {
        let there = self.read(owner).await?;
        let text = joined(&there);
        if text.as_deref() == change.text() {
            return Ok(Done::AlreadyThere);
        }
        if text.as_deref() != change.known() || there.len() > 1 {
            return Err(UpdateError::SecondWriter(text));
        }
        let zone = self.zone(owner).await?;
        let update = compose(owner, zone, ttl_s, there.first(), change.text());
        self.send(update).await.map(|()| Done::Changed)
    }

    /// The TXT records that the server has now.
    async fn read(&self, owner: &Name) -> Result<Vec<Txt>, UpdateError> {
        let answer = self.ask(owner, RecordType::TXT).await?;
        match delegation(&answer, owner) {
            Some(target) => Err(UpdateError::Delegated(shown(&target))),
            None => Ok(txt_at(&answer, owner).0),
        }
    }

    async fn zone(&self, owner: &Name) -> Result<Name, UpdateError> {
        let answer = self.ask(owner, RecordType::SOA).await?;
        let zone = zone_of(&answer).filter(|zone| zone.zone_of(owner));
        zone.ok_or_else(|| UpdateError::NoZone(shown(owner)))
    }

    async fn ask(&self, owner: &Name, kind: RecordType) -> Result<Message, UpdateError> {
        let patience = Patience { timeout: self.options.timeout, attempts: self.options.attempts };
        let answer = ask(self.options.server, owner, kind, false, patience).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain if answer.metadata.authoritative => {
                Ok(answer)
            }
            ResponseCode::NoError | ResponseCode::NXDomain => Err(UpdateError::NotAuthoritative),
            code => Err(refusal(code)),
        }
    }

    async fn send(&self, mut update: Message) -> Result<(), UpdateError> {
        let id = update.metadata.id;
        let signer = self.options.key.signer();
        let now_s = now_s().saturating_add_signed(self.clock_off_s);
        let verifier = update.finalize(signer, now_s).map_err(|_| UpdateError::Garbled)?;
        let mut verifier = verifier.ok_or(UpdateError::Garbled)?;
        let wire = update.to_vec().map_err(|_| UpdateError::Garbled)?;
        let answer = exchange_tcp(self.options.server, &wire, self.options.timeout).await?;
        let message = Message::from_vec(&answer).map_err(|_| UpdateError::Garbled)?;
        if message.metadata.id != id || message.metadata.op_code != OpCode::Update {
            return Err(UpdateError::Garbled);
        }
        // Answers about the key itself cannot be signed with it (RFC 8945 5.3.2).
        if let Some(error) = tsig_refusal(&message) {
            return Err(error);
        }
        let is_verified = verifier.verify(&answer).is_ok();
        match message.metadata.response_code {
            ResponseCode::NoError if is_verified => Ok(()),
            ResponseCode::NoError => Err(UpdateError::Unsigned),
            code => Err(refusal(code)),
        }
    }
}

impl<'a> Change<'a> {
    /// What is wanted at the name.
    fn text(&self) -> Option<&'a str> {
        match self {
            Self::Add { text } | Self::Replace { text, .. } => Some(text),
            Self::Remove { .. } => None,
        }
    }

    /// What must be there before.
    fn known(&self) -> Option<&'a str> {
        match self {
            Self::Add { .. } => None,
            Self::Replace { known, .. } | Self::Remove { known } => Some(known),
        }
    }
}

impl From<NoAnswer> for UpdateError {
    fn from(why: NoAnswer) -> Self {
        match why {
            NoAnswer::Timeout => Self::Timeout,
            NoAnswer::Unreachable(kind) => Self::Unreachable(kind.to_string()),
            NoAnswer::Garbled => Self::Garbled,
        }
    }
}

/// The update message: `there` is the record that must be there as the server cut it, `text` what
/// shall be there.
fn compose(
    owner: &Name,
    zone: Name,
    ttl_s: u32,
    there: Option<&Txt>,
    text: Option<&str>,
) -> Message {
    let mut update = Message::query();
    update.metadata.op_code = OpCode::Update;
    update.metadata.recursion_desired = false;
    update.add_zone(Query::query(zone, RecordType::SOA));
    update.add_pre_requisite(match there {
        // RFC 2136 2.4.2: RRset exists, value dependent.
        Some(there) => record(owner, 0, there.iter().map(Vec::as_slice)),
        // RFC 2136 2.4.3: RRset does not exist.
        None => empty(owner, DNSClass::NONE),
    });
    if there.is_some() {
        // RFC 2136 2.5.2: delete an RRset.
        update.add_update(empty(owner, DNSClass::ANY));
    }
    if let Some(text) = text {
        update.add_update(record(owner, ttl_s, dns::split(text).map(str::as_bytes)));
    }
    update
}

fn record<'a>(owner: &Name, ttl_s: u32, strings: impl Iterator<Item = &'a [u8]>) -> Record {
    Record::from_rdata(owner.clone(), ttl_s, RData::TXT(TXT::from_bytes(strings.collect())))
}

fn empty(owner: &Name, class: DNSClass) -> Record {
    let mut record = Record::update0(owner.clone(), 0, RecordType::TXT).into_record_of_rdata();
    record.dns_class = class;
    record
}

/// The text of the records at a name, `None` for none; several are joined by line ends.
fn joined(records: &[Txt]) -> Option<String> {
    let texts: Vec<_> = records.iter().map(|record| record.concat()).collect();
    (!texts.is_empty()).then(|| String::from_utf8_lossy(&texts.join(&b'\n')).into_owned())
}

fn tsig_refusal(answer: &Message) -> Option<UpdateError> {
    if answer.metadata.response_code != ResponseCode::NotAuth {
        return None;
    }
    let tsig = &answer.signature()?.data;
    match tsig.error? {
        TsigError::BadKey => Some(UpdateError::BadKey),
        TsigError::BadSig | TsigError::BadTrunc => Some(UpdateError::BadSignature),
        TsigError::BadTime => Some(UpdateError::BadTime(clock_skew_s(&tsig.other, tsig.time))),
        TsigError::Unknown(code) => Some(UpdateError::Code(format!("TSIG error {code}"))),
    }
}

/// RFC 8945 5.2.3: with BADTIME, Other Data holds the server's time and Time Signed ours.
fn clock_skew_s(other: &[u8], ours_s: u64) -> Option<i64> {
    let octets: [u8; 6] = other.try_into().ok()?;
    let theirs_s = octets.iter().fold(0_u64, |time, octet| time << 8 | u64::from(*octet));
    i64::try_from(theirs_s).ok()?.checked_sub(i64::try_from(ours_s).ok()?)
}

fn refusal(code: ResponseCode) -> UpdateError {
    match code {
        ResponseCode::YXDomain
        | ResponseCode::YXRRSet
        | ResponseCode::NXRRSet
        | ResponseCode::NXDomain => UpdateError::SecondWriter(None),
        ResponseCode::NotAuth | ResponseCode::NotZone | ResponseCode::NotImp => {
            UpdateError::NotAuthoritative
        }
        ResponseCode::Refused => UpdateError::Refused,
        ResponseCode::ServFail => UpdateError::ServFail,
        code => UpdateError::Code(code.to_string()),
    }
}

#[allow(clippy::disallowed_methods, reason = "TSIG signs the time of day")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoZone(name) => {
                write!(f, "{name} is in no zone of the server; name the zone's primary server")
            }
            Self::Delegated(target) => {
                write!(f, "the name is a CNAME to {target}; update that name, at its zone's server")
            }
            Self::SecondWriter(None) => f.write_str(
                "somebody else changes this record: it is not what was published; leave one \
                 writer, or rotate to a new selector",
            ),
            Self::SecondWriter(Some(there)) => write!(
                f,
                "somebody else wrote to this name, which has {}; leave one writer, or rotate to a \
                 new selector",
                abridged(there)
            ),
            Self::BadKey => f.write_str(
                "the server does not know the TSIG key (BADKEY); compare its name and algorithm \
                 with the server's",
            ),
            Self::BadSignature => f.write_str(
                "the server has another secret for the TSIG key (BADSIG); copy the secret again",
            ),
            Self::BadTime(Some(skew)) => write!(
                f,
                "the server's clock is {} s {} this host's (BADTIME); set the clocks by NTP",
                skew.unsigned_abs(),
                if *skew < 0 { "behind" } else { "ahead of" }
            ),
            Self::BadTime(None) => f.write_str(
                "the server's clock is too far from this host's (BADTIME); set the clocks by NTP",
            ),
            Self::NotAuthoritative => f.write_str(
                "the server is not the zone's primary or takes no updates; name the primary",
            ),
            Self::Refused => f.write_str(
                "the server does not let this TSIG key change this name; grant it in the zone's \
                 update-policy",
            ),
            Self::ServFail => {
                f.write_str("the server failed; see its log: it may be unable to write its journal")
            }
            Self::Code(code) => write!(f, "the server said {code}"),
            Self::Unsigned => f.write_str(
                "the answer has no valid TSIG signature and does not count; see whether something \
                 between here and the server changes DNS",
            ),
            Self::Timeout => f.write_str("the server said nothing in time; see whether it runs"),
            Self::Unreachable(why) => write!(
                f,
                "the server cannot be reached ({why}); see whether it runs and TCP is open to it"
            ),
            Self::Garbled => f.write_str("what the server said is no answer to an update"),
        }
    }
}

impl std::error::Error for UpdateError {}

/// What is shown of a foreign record: printable, and no more than fits a line.
fn abridged(text: &str) -> String {
    let shown: String = text
        .chars()
        .take(SHOWN_MAX)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect();
    let more = if text.chars().count() > SHOWN_MAX { "..." } else { "" };
    format!("\"{shown}{more}\"")
}

const SHOWN_MAX: usize = 60;

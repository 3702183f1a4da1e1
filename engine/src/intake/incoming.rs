//! One message from the first content byte to its verdict.
//!
//! Every chunk is read where it lies: by the header scan until the header section ends, by the
//! filters, and by the body hasher from there on. The same chunk is copied once, into the draft
//! that the spool writes. Memory: the draft's blocks (bounded by the block pool), the filters'
//! state, at most one partial header line.
//!
//! A message that must be refused is dropped here at once; the session takes the rest of it to its
//! true end, where the reply is due, without looking.

use std::sync::Arc;
use std::time::SystemTime;

use postern_filters::{Filters, Finding, Scan, Verdict};
use postern_signer::canon::BodyHasher;
use postern_smtp::data::Unstuffer;
use postern_smtp::reply::{Enhanced, Reply};

use super::header::{HeaderError, HeaderScan, HeaderSummary};
use super::meta::{Meta, Recipient};
use super::trace::{self, Protocol, Received};
use crate::access::{Authenticated, Author, Refusal};
use crate::config::DkimKeys;
use crate::spool::{Draft, MessageId};

/// What a message is judged by; fixed when its content begins.
pub struct Rules {
    /// Proof that the sender is a known application.
    pub identity: Authenticated,
    /// The filters, unless switched off.
    pub filters: Option<Arc<Filters>>,
    /// Which mail is signed, and how its body is canonicalised.
    pub signing: Arc<DkimKeys>,
}

/// The envelope as it was accepted.
#[derive(Debug, Clone, Default)]
pub struct Envelope {
    /// Without brackets; empty for the null reverse-path.
    pub reverse_path: Box<str>,
    /// Accepted recipients.
    pub recipients: Vec<Recipient>,
    /// `BODY=8BITMIME`.
    pub is_8bit: bool,
    /// `SMTPUTF8`.
    pub smtputf8: bool,
    /// DSN `RET`, or empty.
    pub ret: Box<str>,
    /// DSN `ENVID`, or empty.
    pub envid: Box<str>,
    /// Declared `SIZE`.
    pub size: Option<u64>,
}

/// Where the message came from, for its trace field.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// EHLO name.
    pub helo: &'a str,
    /// Client address.
    pub client: std::net::IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// How it came.
    pub protocol: Protocol,
    /// TLS version and cipher suite.
    pub tls: Option<(&'a str, &'a str)>,
}

/// A message being received.
pub struct Incoming {
    draft: Draft,
    rules: Rules,
    plain: Unstuffer,
    header: Header,
    header_bytes: u64,
    scan: Option<Scan>,
    body: Option<BodyHasher>,
}

enum Header {
    Reading(HeaderScan),
    Read { author: Author, has_date: bool, has_message_id: bool },
}

/// A message that passed: what to store, and what the filters found all the same.
pub struct Passed {
    /// The content, staged.
    pub draft: Draft,
    /// What is stored beside it.
    pub meta: Meta,
    /// Findings that did not refuse it.
    pub findings: Vec<Finding>,
}

impl Incoming {
    /// Begins a message whose content is staged in `draft`.
    #[must_use]
    pub fn new(draft: Draft, rules: Rules) -> Self {
        let scan = rules.filters.as_ref().map(Scan::new);
        Self {
            draft,
            rules,
            plain: Unstuffer::new(),
            header: Header::Reading(HeaderScan::default()),
            header_bytes: 0,
            scan,
            body: None,
        }
    }

    /// The draft, for the copy into it.
    pub fn draft(&mut self) -> &mut Draft {
        &mut self.draft
    }

    /// Looks at the next chunk of wire form, in place.
    ///
    /// # Errors
    /// The reply that will refuse the message; then there is nothing more to do with it.
    pub fn inspect(&mut self, wire: &[u8]) -> Result<(), Reply> {
        let bytes = self.draft.content_bytes() + wire.len() as u64;
        self.rules.identity.content_bytes(bytes).map_err(refused)?;
        self.plain.chunk(wire).try_for_each(|slice| self.inspect_plain(slice))
    }

    fn inspect_plain(&mut self, plain: &[u8]) -> Result<(), Reply> {
        let mut body = plain;
        if let Header::Reading(scan) = &mut self.header {
            let used = scan.feed(plain).map_err(header_refusal)?;
            self.header_bytes += used as u64;
            body = &plain[used..];
            if scan.is_complete() {
                self.end_header()?;
            }
        }
        if let Some(scan) = &mut self.scan {
            scan.feed(plain);
        }
        if let Some(hasher) = &mut self.body {
            hasher.update(body);
        }
        Ok(())
    }

    /// The header section is complete: who is the author, and is the domain signed for?
    fn end_header(&mut self) -> Result<(), Reply> {
        let Header::Reading(scan) = &mut self.header else { return Ok(()) };
        let scan = std::mem::take(scan);
        let HeaderSummary { from, has_date, has_message_id } =
            scan.finish().map_err(header_refusal)?;
        let fields: Vec<&[u8]> = from.iter().map(Vec::as_slice).collect();
        let author = self.rules.identity.author(&fields).map_err(refused)?;
        let canonicalization = self.rules.signing.body_canonicalization(author.domain());
        self.body = canonicalization.map(BodyHasher::new);
        self.header = Header::Read { author, has_date, has_message_id };
        Ok(())
    }

    /// The content is complete: the verdict.
    ///
    /// # Errors
    /// The reply that refuses the message.
    pub fn finish(
        mut self,
        id: MessageId,
        lane: u8,
        envelope: Envelope,
        origin: &Origin<'_>,
        at: SystemTime,
    ) -> Result<Passed, Reply> {
        self.end_header()?;
        let findings = judge(self.scan)?;
        let Header::Read { author, has_date, has_message_id } = self.header else {
            unreachable!("the header section was ended above");
        };
        let id = id.to_string();
        let mut added = String::new();
        if !has_message_id {
            added.push_str(&trace::message_id_field(&id, origin.hostname));
        }
        if !has_date {
            added.push_str(&trace::date_field(at));
        }
        let received = received(&id, &envelope, origin, at);
        let meta = Meta {
            app: self.rules.identity.app().id.as_ref().into(),
            lane,
            received_ms: unix_ms(at),
            reverse_path: envelope.reverse_path,
            recipients: envelope.recipients,
            is_8bit: envelope.is_8bit,
            smtputf8: envelope.smtputf8,
            ret: envelope.ret,
            envid: envelope.envid,
            content_bytes: self.draft.content_bytes(),
            header_bytes: self.header_bytes,
            trace: received.into(),
            added: added.into(),
            author_domain: author.domain().into(),
            body_hash: self.body.map(BodyHasher::finish),
        };
        Ok(Passed { draft: self.draft, meta, findings })
    }
}

/// What the filters say in the end.
fn judge(scan: Option<Scan>) -> Result<Vec<Finding>, Reply> {
    let Some(scan) = scan else { return Ok(Vec::new()) };
    let outcome = scan.finish();
    match outcome.verdict {
        Verdict::Reject(rejection) => {
            Err(Reply::new(550, Enhanced::new(5, 7, 1), format!("Message refused: {rejection}")))
        }
        _ => Ok(outcome.findings),
    }
}

fn refused(refusal: Refusal) -> Reply {
    let (class, subject, detail) = refusal.enhanced;
    Reply::new(refusal.code, Enhanced::new(class, subject, detail), refusal.text)
}

fn received(id: &str, envelope: &Envelope, origin: &Origin<'_>, at: SystemTime) -> String {
    let recipient = match envelope.recipients.as_slice() {
        [only] => Some(&*only.path),
        _ => None,
    };
    let mut out = String::with_capacity(512);
    Received {
        helo: origin.helo,
        client: origin.client,
        hostname: origin.hostname,
        protocol: Protocol { is_utf8: envelope.smtputf8, ..origin.protocol },
        tls: origin.tls,
        id,
        recipient,
        at,
    }
    .write(&mut out);
    out
}

fn header_refusal(error: HeaderError) -> Reply {
    match error {
        HeaderError::TooLong => Reply::fixed(
            552,
            Enhanced::new(5, 3, 4),
            "Message refused: the header section is longer than 131072 bytes",
        ),
        HeaderError::Malformed => Reply::fixed(
            550,
            Enhanced::new(5, 6, 0),
            "Message refused: a header line is neither a field nor a continuation",
        ),
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

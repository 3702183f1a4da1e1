//! What is stored beside a message's content: the envelope, the trace fields and what signing
//! later needs. Opaque to the spool.
//!
//! Layout: one version byte, then fixed-width integers (little endian) and length-prefixed strings
//! in the order of [`Meta`]'s fields. A reader refuses versions it does not know and lengths that
//! do not fit, so that damage cannot become a wrong envelope.

use std::time::{Duration, SystemTime};

use postern_signer::canon::BodyHash;

/// The stored envelope of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The application that sent it.
    pub app: Box<str>,
    /// Number of its lane, as `queue::Lane` counts them.
    pub lane: u8,
    /// When it was accepted, in milliseconds since 1970.
    pub received_ms: u64,
    /// Without brackets; empty for the null reverse-path.
    pub reverse_path: Box<str>,
    /// In the order they were accepted.
    pub recipients: Vec<Recipient>,
    /// `BODY=8BITMIME` was declared, or 8-bit content was seen.
    pub is_8bit: bool,
    /// `SMTPUTF8` was declared.
    pub smtputf8: bool,
    /// DSN `RET`, empty where absent (RFC 3461 4.3).
    pub ret: Box<str>,
    /// DSN `ENVID` as received, in xtext (RFC 3461 4.4).
    pub envid: Box<str>,
    /// Bytes of content in wire form.
    pub content_bytes: u64,
    /// Bytes of the header section in plain form, its empty line included.
    pub header_bytes: u64,
    /// The `Received` field, sent before everything else of ours but the signature.
    pub trace: Box<str>,
    /// `Message-ID` and `Date` fields where the application left them out; signed with the rest.
    pub added: Box<str>,
    /// Domain of the header `From`.
    pub author_domain: Box<str>,
    /// Hash of the body, where the author's domain is signed for.
    pub body_hash: Option<BodyHash>,
}

/// One accepted forward-path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Without brackets.
    pub path: Box<str>,
    /// DSN `NOTIFY`, empty where absent (RFC 3461 4.1).
    pub notify: Box<str>,
    /// DSN `ORCPT` as received, in xtext (RFC 3461 4.2).
    pub orcpt: Box<str>,
}

/// Why stored meta bytes cannot be read: damage, or a newer version wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaError;

impl Recipient {
    /// The domain part, empty where there is none.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.path.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl Meta {
    /// The bytes the spool stores.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend([VERSION, self.lane, u8::from(self.is_8bit), u8::from(self.smtputf8)]);
        for number in [self.received_ms, self.content_bytes, self.header_bytes] {
            out.extend(number.to_le_bytes());
        }
        for text in [&self.app, &self.reverse_path, &self.ret, &self.envid, &self.author_domain] {
            put(&mut out, text.as_bytes());
        }
        put(&mut out, self.trace.as_bytes());
        put(&mut out, self.added.as_bytes());
        match self.body_hash {
            None => out.push(0),
            Some(hash) => {
                out.push(1);
                out.extend(hash.to_bytes());
            }
        }
        put_length(&mut out, self.recipients.len());
        for recipient in &self.recipients {
            for text in [&recipient.path, &recipient.notify, &recipient.orcpt] {
                put(&mut out, text.as_bytes());
            }
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`MetaError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        let mut reader = Reader(bytes);
        let [version, lane, is_8bit, smtputf8] = reader.array()?;
        if version != VERSION {
            return Err(MetaError);
        }
        let [received_ms, content_bytes, header_bytes] =
            [reader.number()?, reader.number()?, reader.number()?];
        let [app, reverse_path, ret, envid, author_domain] =
            [reader.text()?, reader.text()?, reader.text()?, reader.text()?, reader.text()?];
        let [trace, added] = [reader.text()?, reader.text()?];
        let body_hash = match reader.array()? {
            [0] => None,
            [1] => Some(BodyHash::from_bytes(&reader.array()?).ok_or(MetaError)?),
            _ => return Err(MetaError),
        };
        let count = reader.length()?;
        let mut recipients = Vec::with_capacity(count.min(RECIPIENTS_AT_ONCE));
        for _ in 0..count {
            let [path, notify, orcpt] = [reader.text()?, reader.text()?, reader.text()?];
            recipients.push(Recipient { path, notify, orcpt });
        }
        if !reader.0.is_empty() {
            return Err(MetaError);
        }
        Ok(Self {
            app,
            lane,
            received_ms,
            reverse_path,
            recipients,
            is_8bit: is_8bit != 0,
            smtputf8: smtputf8 != 0,
            ret,
            envid,
            content_bytes,
            header_bytes,
            trace,
            added,
            author_domain,
            body_hash,
        })
    }

    /// When the message was accepted.
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.received_ms)
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let length =
        u32::try_from(length).expect("meta is bounded by the SMTP limits, far below 4 GiB");
    out.extend(length.to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], MetaError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(MetaError)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MetaError> {
        self.take(N)?.try_into().map_err(|_| MetaError)
    }

    fn number(&mut self) -> Result<u64, MetaError> {
        self.array().map(u64::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, MetaError> {
        let length = self.array().map(u32::from_le_bytes)?;
        usize::try_from(length).map_err(|_| MetaError)
    }

    fn bytes(&mut self) -> Result<&'a [u8], MetaError> {
        let length = self.length()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<Box<str>, MetaError> {
        std::str::from_utf8(self.bytes()?).map(Into::into).map_err(|_| MetaError)
    }
}

const VERSION: u8 = 1;

/// Room made for recipients before any was read, so that a damaged count cannot exhaust memory.
const RECIPIENTS_AT_ONCE: usize = 1_000;

#[cfg(test)]
mod tests {
    use postern_signer::canon::Canonicalization;
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Meta {
        let recipient = |path: &str| Recipient {
            path: path.into(),
            notify: "SUCCESS,FAILURE".into(),
            orcpt: "rfc822;a+2Bb@c".into(),
        };
        Meta {
            app: "billing".into(),
            lane: 1,
            received_ms: 1_790_000_000_000,
            reverse_path: "bounce@example.com".into(),
            recipients: vec![recipient("a@example.net"), recipient("b@example.net")],
            is_8bit: true,
            smtputf8: false,
            ret: "HDRS".into(),
            envid: String::new().into(),
            content_bytes: 4096,
            header_bytes: 321,
            trace: "Received: x\r\n".into(),
            added: "Date: y\r\n".into(),
            author_domain: "example.com".into(),
            body_hash: Some(BodyHash::new(Canonicalization::Relaxed, [7; 32])),
        }
    }

    #[test]
    fn comes_back_as_stored() {
        let meta = sample();
        assert_eq!(Meta::decode(&meta.encode()), Ok(meta.clone()));
        let plain = Meta { body_hash: None, recipients: vec![], ..meta };
        assert_eq!(Meta::decode(&plain.encode()), Ok(plain));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert_eq!(Meta::decode(&bytes[..end]), Err(MetaError), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            drop(Meta::decode(&bytes));
        }
    }
}

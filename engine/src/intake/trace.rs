//! The fields the relay adds in front of a message: `Received`, and `Message-ID` and `Date` where
//! the application left them out.
//!
//! Security: every value that came from the client is reduced to characters that cannot end a
//! field or a comment; the application's identity and its credentials are not told.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// What a `Received` field says (RFC 5321 4.4).
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Name the client gave in EHLO or HELO.
    pub helo: &'a str,
    /// Address the client connected from.
    pub client: IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// `ESMTPSA` and its kin (RFC 3848, 6531 4.3).
    pub protocol: Protocol,
    /// TLS version and cipher suite, where TLS was used.
    pub tls: Option<(&'a str, &'a str)>,
    /// Queue id.
    pub id: &'a str,
    /// The recipient, where there is exactly one: with more, naming them would tell blind copies.
    pub recipient: Option<&'a str>,
    /// When the message was accepted.
    pub at: SystemTime,
}

/// How the message came, for the `with` clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// EHLO was used.
    pub is_extended: bool,
    /// Over TLS.
    pub is_tls: bool,
    /// With AUTH.
    pub is_authenticated: bool,
    /// With SMTPUTF8.
    pub is_utf8: bool,
}

impl Protocol {
    /// The registered keyword (RFC 3848; RFC 6531 4.3 for the UTF8 forms).
    #[must_use]
    pub fn keyword(self) -> &'static str {
        match (self.is_utf8, self.is_extended, self.is_tls, self.is_authenticated) {
            (true, _, false, false) => "UTF8SMTP",
            (true, _, true, false) => "UTF8SMTPS",
            (true, _, false, true) => "UTF8SMTPA",
            (true, _, true, true) => "UTF8SMTPSA",
            (false, false, _, _) => "SMTP",
            (false, true, false, false) => "ESMTP",
            (false, true, true, false) => "ESMTPS",
            (false, true, false, true) => "ESMTPA",
            (false, true, true, true) => "ESMTPSA",
        }
    }
}

impl Received<'_> {
    /// Appends the field, folded, with its final CRLF.
    pub fn write(&self, out: &mut String) {
        let client = match self.client {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        // Writing to a String cannot fail.
        _ = write!(out, "Received: from {} ({client})\r\n", token(self.helo));
        _ = write!(out, "\tby {} (Postern) with {}", self.hostname, self.protocol.keyword());
        if let Some((version, cipher)) = self.tls {
            _ = write!(out, "\r\n\t({version} {cipher})");
        }
        _ = write!(out, "\r\n\tid {}", self.id);
        if let Some(recipient) = self.recipient {
            _ = write!(out, "\r\n\tfor <{}>", path(recipient));
        }
        _ = write!(out, ";\r\n\t{}\r\n", date(self.at));
    }
}

/// A `Date` field for a message without one.
#[must_use]
pub fn date_field(at: SystemTime) -> String {
    format!("Date: {}\r\n", date(at))
}

/// A `Message-ID` field for a message without one, made from the queue id.
#[must_use]
pub fn message_id_field(id: &str, hostname: &str) -> String {
    format!("Message-ID: <{id}@{hostname}>\r\n")
}

/// RFC 5322 3.3 date-time in UTC.
fn date(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    let zoned = at.to_zoned_datetime(jiff::tz::TimeZone::UTC);
    rfc2822::to_string(&zoned).unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".to_owned())
}

/// A name from EHLO, reduced to what a domain or an address literal can hold.
fn token(text: &str) -> String {
    let kept: String = text
        .chars()
        .take(255)
        .map(|c| if c.is_ascii_alphanumeric() || "-._[]:".contains(c) { c } else { '?' })
        .collect();
    if kept.is_empty() { "unknown".to_owned() } else { kept }
}

/// A forward-path that was accepted by the grammar; what could still end a field is masked.
fn path(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '<' | '>') { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn received_field_is_complete_and_cannot_be_broken() {
        let mut out = String::new();
        Received {
            helo: "app (x)\r\nEvil: y",
            client: "2001:db8::1".parse().expect("an address"),
            hostname: "relay.example.com",
            protocol: Protocol {
                is_extended: true,
                is_tls: true,
                is_authenticated: true,
                is_utf8: false,
            },
            tls: Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
            id: "01J",
            recipient: Some("a@b"),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        }
        .write(&mut out);
        assert_eq!(
            out,
            "Received: from app??x???Evil:?y ([IPv6:2001:db8::1])\r\n\
             \tby relay.example.com (Postern) with ESMTPSA\r\n\
             \t(TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n\
             \tid 01J\r\n\
             \tfor <a@b>;\r\n\
             \tTue, 14 Nov 2023 22:13:20 +0000\r\n"
        );
    }

    #[test]
    fn added_fields() {
        assert_eq!(date_field(SystemTime::UNIX_EPOCH), "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n");
        assert_eq!(message_id_field("01J", "r.example"), "Message-ID: <01J@r.example>\r\n");
    }
}

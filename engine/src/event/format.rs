//! Log lines: `key=value` text or one JSON object a line.
//!
//! Every value that came from outside is escaped, so that no peer can forge a line.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use jiff::Timestamp;

use super::{Attempt, Event};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `2026-11-24T10:00:00.000Z info accepted id=… app=…`
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Appends one line, with its line feed.
    pub(super) fn line(
        self,
        at: SystemTime,
        shard: Option<usize>,
        event: &Event,
        out: &mut Vec<u8>,
    ) {
        let mut line = Line { format: self, out };
        line.begin(at, event);
        if let (Self::Json, Some(shard)) = (self, shard) {
            line.number("shard", shard as u64);
        }
        describe(event, &mut line);
        line.end();
    }
}

/// The name of an event.
fn name(event: &Event) -> &'static str {
    match event {
        Event::Notice { .. } => "notice",
        Event::TlsFailed { .. } => "tls_failed",
        Event::AuthRefused { .. } => "auth_refused",
        Event::Refused { .. } => "refused",
        Event::Accepted(_) => "accepted",
        Event::Delivered(_) => "delivered",
        Event::Deferred(_) => "deferred",
        Event::Failed(_) => "failed",
        Event::Suspension { cut: true, .. } => "cut",
        Event::Suspension { cut: false, .. } => "restored",
        Event::Key { .. } => "key",
        Event::Finding { .. } => "finding",
    }
}

fn describe(event: &Event, line: &mut Line<'_>) {
    match event {
        Event::Notice { text, .. } => line.text("text", text),
        Event::TlsFailed { client, error } => {
            line.address("client", *client);
            line.text("error", error);
        }
        Event::AuthRefused { client, authcid, reason } => {
            line.address("client", *client);
            line.text("authcid", authcid);
            line.text("reason", reason);
        }
        Event::Refused { app, client, stage, code, text } => {
            line.maybe("app", app.as_deref());
            line.address("client", *client);
            line.text("stage", stage);
            line.number("code", u64::from(*code));
            line.text("reply", text);
        }
        Event::Accepted(accepted) => {
            line.text("id", &accepted.id);
            line.text("app", &accepted.app);
            line.text("from", &accepted.reverse_path);
            line.number("recipients", accepted.recipients as u64);
            line.number("bytes", accepted.bytes);
            line.text("lane", accepted.lane);
            line.address("client", accepted.client);
            line.maybe("tls", accepted.tls);
        }
        Event::Delivered(attempt) | Event::Deferred(attempt) | Event::Failed(attempt) => {
            describe_attempt(attempt, line);
        }
        Event::Suspension { app, actor, reason, .. } => {
            line.text("app", app);
            line.text("actor", actor);
            line.text("reason", reason);
        }
        Event::Key { domain, selector, what, text, .. } => {
            line.text("domain", domain);
            line.text("selector", selector);
            line.text("stage", what);
            line.text(if *what == "waits" { "reason" } else { "was" }, text);
        }
        Event::Finding { id, app, detector, part, count } => {
            line.text("id", id);
            line.text("app", app);
            line.text("detector", detector);
            line.text("part", part);
            line.number("count", u64::from(*count));
        }
    }
}

fn describe_attempt(attempt: &Attempt, line: &mut Line<'_>) {
    line.text("id", &attempt.id);
    line.text("app", &attempt.app);
    line.text("to", &attempt.recipient);
    line.text("next_hop", &attempt.next_hop);
    line.number("attempt", u64::from(attempt.attempt));
    line.number("age_ms", attempt.age_ms);
    line.text("reply", &attempt.reply);
}

/// One line being written. Writing to memory cannot fail, so results are dropped.
struct Line<'a> {
    format: Format,
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn begin(&mut self, at: SystemTime, event: &Event) {
        let (level, name) = (event.level(), name(event));
        let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
        drop(match self.format {
            Format::Text => write!(self.out, "{at:.3} {level} {name}"),
            Format::Json => {
                write!(self.out, r#"{{"at":"{at:.3}","level":"{level}","event":"{name}""#)
            }
        });
    }

    fn end(&mut self) {
        if self.format == Format::Json {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }

    fn key(&mut self, key: &str) {
        drop(match self.format {
            Format::Text => write!(self.out, " {key}="),
            Format::Json => write!(self.out, r#","{key}":"#),
        });
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        drop(write!(self.out, "{value}"));
    }

    fn address(&mut self, key: &str, value: IpAddr) {
        self.key(key);
        drop(match self.format {
            Format::Text => write!(self.out, "{value}"),
            Format::Json => write!(self.out, "\"{value}\""),
        });
    }

    /// JSON quoting escapes quotes, line ends and control characters; plain words need none.
    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        if self.format == Format::Text && is_plain(value) {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            drop(serde_json::to_writer(&mut *self.out, value));
        }
    }

    /// Text that may be absent: left out of a text line, `null` in JSON.
    fn maybe(&mut self, key: &str, value: Option<&str>) {
        match (value, self.format) {
            (Some(value), _) => self.text(key, value),
            (None, Format::Text) => {}
            (None, Format::Json) => {
                self.key(key);
                self.out.extend_from_slice(b"null");
            }
        }
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format, event: &Event) -> String {
        let mut out = Vec::new();
        format.line(SystemTime::UNIX_EPOCH, Some(1), event, &mut out);
        String::from_utf8(out).expect("a log line is UTF-8")
    }

    fn forged() -> Event {
        Event::AuthRefused {
            client: [127, 0, 0, 1].into(),
            authcid: "x\r\n1970 info accepted id=\"1\"".into(),
            reason: "unknown",
        }
    }

    #[test]
    fn text_line_cannot_be_forged_by_a_peer() {
        assert_eq!(
            line(Format::Text, &forged()),
            "1970-01-01T00:00:00.000Z warn auth_refused client=127.0.0.1 \
             authcid=\"x\\r\\n1970 info accepted id=\\\"1\\\"\" reason=unknown\n"
        );
    }

    #[test]
    fn json_line_is_one_object() {
        let line = line(Format::Json, &forged());
        let value: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
        assert_eq!(value["event"], "auth_refused");
        assert_eq!(value["shard"], 1);
        assert_eq!(line.matches('\n').count(), 1);
    }
}

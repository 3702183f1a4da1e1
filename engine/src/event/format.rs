//! Log lines: `key=value` text or one JSON object a line.
//!
//! Every value that came from outside is escaped, so that no peer can forge a line.

use std::fmt::Write as _;
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

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
        let (name, fields) = describe(event);
        let level = event.level();
        let at = timestamp(at);
        match self {
            Self::Json => {
                let mut object = Map::new();
                object.insert("at".into(), at.into());
                object.insert("level".into(), level.to_string().into());
                object.insert("event".into(), name.into());
                object.extend(shard.map(|shard| ("shard".to_owned(), shard.into())));
                object.extend(fields.into_iter().map(|(key, value)| (key.to_owned(), value)));
                out.extend_from_slice(Value::Object(object).to_string().as_bytes());
            }
            Self::Text => {
                out.extend_from_slice(text(&at, &level.to_string(), name, fields).as_bytes())
            }
        }
        out.push(b'\n');
    }
}

type Fields = Vec<(&'static str, Value)>;

fn describe(event: &Event) -> (&'static str, Fields) {
    match event {
        Event::Notice { text, .. } => ("notice", vec![("text", json!(text))]),
        Event::TlsFailed { client, error } => {
            ("tls_failed", vec![("client", json!(client)), ("error", json!(error))])
        }
        Event::AuthRefused { client, authcid, reason } => (
            "auth_refused",
            vec![("client", json!(client)), ("authcid", json!(authcid)), ("reason", json!(reason))],
        ),
        Event::Refused { app, client, stage, code, text } => (
            "refused",
            vec![
                ("app", json!(app.as_deref())),
                ("client", json!(client)),
                ("stage", json!(stage)),
                ("code", json!(code)),
                ("reply", json!(text)),
            ],
        ),
        Event::Accepted(accepted) => (
            "accepted",
            vec![
                ("id", json!(accepted.id)),
                ("app", json!(&*accepted.app)),
                ("from", json!(accepted.reverse_path)),
                ("recipients", json!(accepted.recipients)),
                ("bytes", json!(accepted.bytes)),
                ("lane", json!(accepted.lane)),
                ("client", json!(accepted.client)),
                ("tls", json!(accepted.tls)),
            ],
        ),
        Event::Delivered(attempt) => ("delivered", attempt_fields(attempt)),
        Event::Deferred(attempt) => ("deferred", attempt_fields(attempt)),
        Event::Failed(attempt) => ("failed", attempt_fields(attempt)),
        Event::Suspension { app, cut, actor, reason } => (
            if *cut { "cut" } else { "restored" },
            vec![("app", json!(&**app)), ("actor", json!(actor)), ("reason", json!(reason))],
        ),
        Event::Finding { id, app, detector, part, count } => (
            "finding",
            vec![
                ("id", json!(id)),
                ("app", json!(&**app)),
                ("detector", json!(detector)),
                ("part", json!(part)),
                ("count", json!(count)),
            ],
        ),
    }
}

fn attempt_fields(attempt: &Attempt) -> Fields {
    vec![
        ("id", json!(attempt.id)),
        ("app", json!(&*attempt.app)),
        ("to", json!(attempt.recipient)),
        ("next_hop", json!(attempt.next_hop)),
        ("attempt", json!(attempt.attempt)),
        ("age_ms", json!(attempt.age_ms)),
        ("reply", json!(attempt.reply)),
    ]
}

fn text(at: &str, level: &str, name: &str, fields: Fields) -> String {
    let mut line = format!("{at} {level} {name}");
    for (key, value) in fields {
        match value {
            Value::Null => {}
            Value::String(value) if is_plain(&value) => {
                // Writing to a String cannot fail.
                _ = write!(line, " {key}={value}");
            }
            // JSON quoting escapes quotes, line ends and control characters.
            value => _ = write!(line, " {key}={value}"),
        }
    }
    line
}

fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|_| "-".to_owned(), |at| format!("{at:.3}"))
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
        let value: Value = serde_json::from_str(&line).expect("one JSON object");
        assert_eq!(value["event"], "auth_refused");
        assert_eq!(value["shard"], 1);
        assert_eq!(line.matches('\n').count(), 1);
    }
}

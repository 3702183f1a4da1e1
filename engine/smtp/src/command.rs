//! Command lines: verb and argument, in place (RFC 5321 4.1).
//!
//! Only the shape is judged here; whether a command fits the moment is the session's business.

use std::str;

use crate::address::is_address_literal;

/// Longest name in EHLO or HELO, as long as a domain may be.
const HELLO_NAME_BYTES_MAX: usize = 255;

/// One command line without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'b> {
    Ehlo(&'b [u8]),
    Helo(&'b [u8]),
    /// What follows `FROM:`.
    Mail(&'b [u8]),
    /// What follows `TO:`.
    Rcpt(&'b [u8]),
    Data,
    /// Size of the chunk in bytes, and whether it is the last.
    Bdat(u64, bool),
    Rset,
    Noop,
    Help,
    Vrfy,
    Quit,
    StartTls,
    /// Mechanism, and initial response if one was given.
    Auth(&'b str, Option<&'b [u8]>),
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandFault {
    /// The verb is not known.
    Unknown,
    /// The verb is known and deliberately not implemented.
    NotImplemented,
    /// The argument does not fit the verb.
    Argument,
    /// A BDAT whose size cannot be read: the stream has lost its framing.
    Framing,
    /// The line speaks another protocol.
    Foreign,
}

impl<'b> Command<'b> {
    /// Parses one line.
    pub(crate) fn parse(line: &'b [u8]) -> Result<Self, CommandFault> {
        let end = memchr::memchr(b' ', line).unwrap_or(line.len());
        let (verb, rest) = line.split_at(end);
        let argument = trim_spaces(rest);
        let mut folded = [0; VERB_BYTES_MAX];
        let Some(folded) = folded.get_mut(..verb.len()) else {
            return Err(CommandFault::Unknown);
        };
        folded.copy_from_slice(verb);
        folded.make_ascii_uppercase();
        match &*folded {
            b"MAIL" => colon(argument, b"FROM:").map(Command::Mail),
            b"RCPT" => colon(argument, b"TO:").map(Command::Rcpt),
            b"DATA" => alone(argument, Command::Data),
            b"BDAT" => bdat(argument),
            b"EHLO" => Ok(Command::Ehlo(argument)),
            b"HELO" => Ok(Command::Helo(argument)),
            b"RSET" => alone(argument, Command::Rset),
            b"QUIT" => alone(argument, Command::Quit),
            b"NOOP" => Ok(Command::Noop),
            b"HELP" => Ok(Command::Help),
            b"VRFY" => Ok(Command::Vrfy),
            b"STARTTLS" => alone(argument, Command::StartTls),
            b"AUTH" => auth(argument),
            b"EXPN" | b"ETRN" | b"TURN" | b"ATRN" | b"BURL" | b"SEND" | b"SOML" | b"SAML" => {
                Err(CommandFault::NotImplemented)
            }
            b"GET" | b"POST" | b"PUT" | b"HEAD" | b"DELETE" | b"CONNECT" | b"OPTIONS"
            | b"TRACE" | b"PATCH" | b"HOST:" | b"USER-AGENT:" | b"PRI" => {
                Err(CommandFault::Foreign)
            }
            _ => Err(CommandFault::Unknown),
        }
    }
}

/// Without the spaces at either end. Only spaces: a control character must stay to be seen.
fn trim_spaces(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|&b| b != b' ').unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|&b| b != b' ').map_or(first, |last| last + 1);
    &bytes[first..end]
}

/// Longest word that [`Command::parse`] looks at: `USER-AGENT:`.
const VERB_BYTES_MAX: usize = 11;

/// Whether the first bytes of a connection are a TLS handshake record (RFC 8446 5.1), which a
/// client sends that takes a clear port for an implicit-TLS one.
pub(crate) fn is_tls_record(first: u8) -> bool {
    first == 0x16
}

/// The name of EHLO or HELO: a domain or an address literal, taken generously, since clients put
/// all kinds of host names there and nothing is decided by it.
pub(crate) fn hello_name(argument: &[u8]) -> Option<&str> {
    let name = str::from_utf8(argument).ok()?;
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
    let fits = !name.is_empty() && name.len() <= HELLO_NAME_BYTES_MAX;
    (fits && (name.chars().all(plain) || is_address_literal(name))).then_some(name)
}

/// `FROM:<path>`; a space behind the colon is forgiven.
fn colon<'b>(argument: &'b [u8], keyword: &[u8]) -> Result<&'b [u8], CommandFault> {
    match argument.split_at_checked(keyword.len()) {
        Some((word, path)) if word.eq_ignore_ascii_case(keyword) => Ok(trim_spaces(path)),
        _ => Err(CommandFault::Argument),
    }
}

fn alone<'b>(argument: &[u8], command: Command<'b>) -> Result<Command<'b>, CommandFault> {
    if argument.is_empty() { Ok(command) } else { Err(CommandFault::Argument) }
}

/// `chunk-size [SP LAST]` (RFC 3030 2).
fn bdat(argument: &[u8]) -> Result<Command<'_>, CommandFault> {
    let end = memchr::memchr(b' ', argument).unwrap_or(argument.len());
    let (size, last) = argument.split_at(end);
    let last = match trim_spaces(last) {
        b"" => false,
        word if word.eq_ignore_ascii_case(b"LAST") => true,
        _ => return Err(CommandFault::Framing),
    };
    let digits = !size.is_empty() && size.iter().all(u8::is_ascii_digit);
    let size = str::from_utf8(size).ok().filter(|_| digits).and_then(|size| size.parse().ok());
    size.map(|size| Command::Bdat(size, last)).ok_or(CommandFault::Framing)
}

/// `mechanism [SP initial-response]` (RFC 4954 4).
fn auth(argument: &[u8]) -> Result<Command<'_>, CommandFault> {
    let end = memchr::memchr(b' ', argument).unwrap_or(argument.len());
    let (mechanism, initial) = argument.split_at(end);
    let mechanism = str::from_utf8(mechanism).map_err(|_| CommandFault::Argument)?;
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if mechanism.is_empty() || !mechanism.bytes().all(known) {
        return Err(CommandFault::Argument);
    }
    let initial = trim_spaces(initial);
    Ok(Command::Auth(mechanism, (!initial.is_empty()).then_some(initial)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        use Command::*;
        use CommandFault::*;
        for (line, expected) in [
            (&b"EHLO a.example"[..], Ok(Ehlo(b"a.example"))),
            (b"ehlo  a.example ", Ok(Ehlo(b"a.example"))),
            (b"EHLO", Ok(Ehlo(b""))),
            (b"MAIL FROM:<> SIZE=1", Ok(Mail(b"<> SIZE=1"))),
            (b"mail from: <a@b>", Ok(Mail(b"<a@b>"))),
            (b"MAIL FROM <a@b>", Err(Argument)),
            (b"MAIL", Err(Argument)),
            (b"RCPT TO:<a@b>", Ok(Rcpt(b"<a@b>"))),
            (b"RCPT FROM:<a@b>", Err(Argument)),
            (b"DATA", Ok(Data)),
            (b"DATA ", Ok(Data)),
            (b"DATA now", Err(Argument)),
            (b"DATA\t", Err(Unknown)),
            (b"BDAT 0", Ok(Bdat(0, false))),
            (b"BDAT 86 LAST", Ok(Bdat(86, true))),
            (b"bdat 86 last ", Ok(Bdat(86, true))),
            (b"BDAT", Err(Framing)),
            (b"BDAT -1", Err(Framing)),
            (b"BDAT +1", Err(Framing)),
            (b"BDAT 1 FIRST", Err(Framing)),
            (b"BDAT 1 LAST\t", Err(Framing)),
            (b"BDAT 99999999999999999999", Err(Framing)),
            (b"AUTH PLAIN", Ok(Auth("PLAIN", None))),
            (b"AUTH PLAIN =", Ok(Auth("PLAIN", Some(b"=")))),
            (b"AUTH", Err(Argument)),
            (b"AUTH PL\0AIN", Err(Argument)),
            (b"QUIT", Ok(Quit)),
            (b"QUIT now", Err(Argument)),
            (b"NOOP anything", Ok(Noop)),
            (b"VRFY user", Ok(Vrfy)),
            (b"EXPN list", Err(NotImplemented)),
            (b"", Err(Unknown)),
            (b" NOOP", Err(Unknown)),
            (b"STARTTLSSTARTTLS", Err(Unknown)),
            (b"GET / HTTP/1.1", Err(Foreign)),
            (b"host: a.example", Err(Foreign)),
        ] {
            assert_eq!(Command::parse(line), expected, "{:?}", line.escape_ascii().to_string());
        }
    }

    #[test]
    fn hello_names() {
        for name in ["a", "a.example", "[192.0.2.1]", "[IPv6:::1]", "my_pc", "例え.example"] {
            assert_eq!(hello_name(name.as_bytes()), Some(name));
        }
        for name in ["", "a b", "a\0", "<a>", "[not]", "a\u{7f}"] {
            assert_eq!(hello_name(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(hello_name(&[b'a'; 256]), None);
        assert_eq!(hello_name(b"\xff"), None);
    }
}

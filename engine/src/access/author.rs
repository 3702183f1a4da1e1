//! The author of a message: the one mailbox in its one `From` field, or a reason why there is none.
//!
//! Receivers judge a message by the domain of its author, and parsers disagree about what the
//! author of an odd field is ("Composition kills", USENIX Security 2020). So only fields are taken
//! that leave no room: exactly one field, exactly one mailbox, written as
//!
//! ```text
//! addr-spec [ "(" plain text ")" ]   or   [ display name ] "<" addr-spec ">"
//! ```
//!
//! with a dot-atom before the `@` and a domain name behind it. A display name is words, quoted
//! strings, encoded words and plain comments; what could be read as a second address in it is
//! refused: angle brackets in any disguise, and an `@` that is encoded or stands beside a backslash.
//! Groups, lists, source routes, address literals, quoted local parts, comments or spaces inside an
//! address, encoded words as address, control characters, bytes that are not UTF-8 and odd folds are
//! refused with the reason.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::refusal::Refusal;
use crate::config::{canonical_domain, is_disguise};

/// Proof that a message has exactly one author, who is among the application's senders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    address: String,
    domain_at: usize,
}

impl Author {
    /// `local@domain`; the local part as written, the domain in canonical form.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The domain in canonical form (lower case, A-labels): what DKIM and DMARC align with.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.address[self.domain_at..]
    }
}

/// Reads the author from all `From` fields of a message.
pub(super) fn read_author<F: AsRef<[u8]>>(from_fields: &[F]) -> Result<Author, Refusal> {
    let field = match from_fields {
        [field] => field.as_ref(),
        [] => return Err(refused("the message has no From field")),
        _ => return Err(refused("the message has more than one From field")),
    };
    read_field(field).map_err(refused)
}

fn refused(reason: &'static str) -> Refusal {
    Refusal::permanent(550, (7, 1), format!("From refused: {reason}"))
}

/// Reads one field body.
fn read_field(field: &[u8]) -> Result<Author, &'static str> {
    let text = unfolded(field)?;
    let text = text.trim_matches([' ', '\t']);
    if text.is_empty() {
        return Err("the field is empty");
    }
    let mut reader = Reader { rest: text };
    let phrase = reader.phrase()?;
    if reader.rest.starts_with('<') {
        return match phrase.address {
            Some(_) => Err("the display name holds a second address"),
            None => reader.angle_address(),
        };
    }
    // No angle bracket: the words read so far must be the address itself.
    if !reader.rest.is_empty() || phrase.words != 1 || phrase.is_decorated {
        return Err(reader.trouble(&phrase));
    }
    match phrase.address {
        Some(address) => addr_spec(address),
        None => Err("there is no address in it"),
    }
}

/// The field on one line. A fold must be CRLF before a space or tab, and bring more than space.
fn unfolded(field: &[u8]) -> Result<String, &'static str> {
    let text = str::from_utf8(field).map_err(|_| "it holds bytes that are not UTF-8")?;
    let text = text.strip_suffix("\r\n").unwrap_or(text);
    if text.trim_matches([' ', '\t']).is_empty() {
        return Ok(String::new());
    }
    let mut line = String::with_capacity(text.len());
    for (index, part) in text.split("\r\n").enumerate() {
        if index > 0 && !part.starts_with([' ', '\t']) {
            return Err("it has a line end that is no fold");
        }
        // The name alone on the first line is how long values are often folded.
        if index > 0 && part.trim_matches([' ', '\t']).is_empty() {
            return Err("it has a folded line without text");
        }
        line.push_str(part);
    }
    match line.chars().find(|c| c.is_control() && *c != '\t') {
        Some(_) => Err("it holds a control character"),
        None if line.chars().any(is_disguise) => {
            Err("it holds invisible or direction-changing characters")
        }
        None => Ok(line),
    }
}

/// What stood before an angle bracket, or instead of one.
#[derive(Default)]
struct Phrase<'a> {
    words: usize,
    /// The only word, where it holds an `@`.
    address: Option<&'a str>,
    /// There was a quoted string, or something after a comment.
    is_decorated: bool,
    is_after_comment: bool,
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Reads words, quoted strings and comments up to `<`, the end, or what cannot be read.
    fn phrase(&mut self) -> Result<Phrase<'a>, &'static str> {
        let mut phrase = Phrase::default();
        loop {
            let before = self.rest;
            self.rest = before.trim_start_matches([' ', '\t']);
            let has_space = before.len() != self.rest.len();
            match self.rest.chars().next() {
                Some('"') => self.quoted(&mut phrase)?,
                Some('(') => {
                    if !has_space && phrase.words > 0 {
                        return Err("a comment touches the address");
                    }
                    self.comment()?;
                    phrase.is_after_comment = true;
                }
                Some(c) if is_word(c) => self.word(&mut phrase)?,
                _ => return Ok(phrase),
            }
        }
    }

    fn word(&mut self, phrase: &mut Phrase<'a>) -> Result<(), &'static str> {
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if phrase.is_after_comment && phrase.words > 0 {
            phrase.is_decorated = true;
        }
        phrase.words += 1;
        if word.contains('@') {
            phrase.address = Some(word);
        } else {
            encoded_words_are_harmless(word)?;
        }
        Ok(())
    }

    fn quoted(&mut self, phrase: &mut Phrase<'a>) -> Result<(), &'static str> {
        let mut is_escaped = false;
        let inner = &self.rest[1..];
        let end = inner.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let (inner, rest) = inner.split_at(end.ok_or("a quotation mark is not closed")?);
        self.rest = &rest[1..];
        if self.rest.starts_with('@') {
            return Err("the part before the @ is quoted");
        }
        if inner.contains(['<', '>']) {
            return Err("the display name holds angle brackets");
        }
        if inner.contains('\\') && inner.contains(['@', ',', ';', ':']) {
            return Err("the display name holds a backslash beside address characters");
        }
        encoded_words_are_harmless(inner)?;
        phrase.words += 1;
        phrase.is_decorated = true;
        Ok(())
    }

    /// A comment of plain words: nothing in it can be read as an address or as structure.
    fn comment(&mut self) -> Result<(), &'static str> {
        let inner = &self.rest[1..];
        let end = inner.find(['(', ')', '<', '>', '@', ',', ';', ':', '"', '\\']);
        match end.map(|end| inner.split_at(end)) {
            Some((text, rest)) if rest.starts_with(')') => {
                self.rest = &rest[1..];
                encoded_words_are_harmless(text)
            }
            _ => Err("it holds a comment that can be read as something else"),
        }
    }

    /// `<addr-spec>` and then nothing but space and a plain comment.
    fn angle_address(&mut self) -> Result<Author, &'static str> {
        let inner = &self.rest[1..];
        let end = inner.find('>').ok_or("an angle bracket is not closed")?;
        let (address, rest) = inner.split_at(end);
        self.rest = rest[1..].trim_start_matches([' ', '\t']);
        if self.rest.starts_with('(') && rest[1..].starts_with([' ', '\t']) {
            self.comment()?;
        }
        match self.rest.trim_start_matches([' ', '\t']).chars().next() {
            None => addr_spec(address),
            Some(',') => Err("it names more than one mailbox"),
            Some(_) => Err("there is text behind the address"),
        }
    }

    /// Why what is left cannot be read.
    fn trouble(&self, phrase: &Phrase<'_>) -> &'static str {
        match self.rest.chars().next() {
            Some(',') => "it names more than one mailbox",
            Some(':' | ';') => "it is a group",
            Some('>') => "it has a stray angle bracket",
            Some('\\') => "it holds a backslash outside quotation marks",
            Some('[') if phrase.address.is_some_and(|word| word.ends_with('@')) => {
                "it names a host by an address literal"
            }
            Some(_) => "it holds a character that must be quoted",
            None if phrase.address.is_some() => "there is text beside the address without brackets",
            None => "there is no address in it",
        }
    }
}

/// What a word of an unquoted phrase, or a bare address, consists of: atext, dots, `@`, UTF-8.
/// RFC 5322 has no dots in words, but "J. R. Hacker" is what everybody writes and reads.
fn is_word(c: char) -> bool {
    is_atext(c) || matches!(c, '.' | '@')
}

/// RFC 5322 3.2.3, RFC 6532.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
}

/// Reads an address without brackets.
fn addr_spec(text: &str) -> Result<Author, &'static str> {
    if text.is_empty() {
        return Err("the angle brackets are empty");
    }
    if text.contains([' ', '\t']) {
        return Err("there is space inside the address");
    }
    if text.contains(['(', ')']) {
        return Err("there is a comment inside the address");
    }
    if text.starts_with('@') || text.contains([':', ',']) {
        return Err("the address has a source route");
    }
    if text.contains('"') {
        return Err("the part before the @ is quoted");
    }
    let (local, domain) = text.split_once('@').ok_or("there is no @ in the address")?;
    if domain.contains('@') {
        return Err("there is more than one @ in the address");
    }
    if local.contains("=?") || domain.contains("=?") {
        return Err("the address holds an encoded word");
    }
    let is_dot_atom = !local.is_empty()
        && local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext));
    if !is_dot_atom || local.len() > LOCAL_BYTES_MAX {
        return Err("the part before the @ is not a plain one");
    }
    if domain.starts_with('[') {
        return Err("it names a host by an address literal");
    }
    let domain = canonical_domain(domain).ok_or("the part behind the @ is no domain name")?;
    Ok(Author { address: format!("{local}@{domain}"), domain_at: local.len() + 1 })
}

/// RFC 5321 4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;

/// Checks each encoded word (RFC 2047) in a piece of display name: decoded, it must not bring what
/// would be structure or an address outside of it. Something that only looks like an encoded word
/// is refused, for one reader decodes it and another does not.
fn encoded_words_are_harmless(text: &str) -> Result<(), &'static str> {
    let mut rest = text;
    while let Some(at) = rest.find("=?") {
        let (decoded, after) =
            encoded_word(&rest[at + 2..]).ok_or("it holds a damaged encoded word")?;
        let is_harmful = |b: &u8| matches!(b, b'<' | b'>' | b'@' | 0..=8 | 10..=26 | 28..=31 | 127);
        if decoded.iter().any(is_harmful) {
            return Err("an encoded word hides an address or control characters");
        }
        rest = after;
    }
    Ok(())
}

/// Reads `charset?encoding?text?=`; the decoded bytes and what follows.
fn encoded_word(text: &str) -> Option<(Vec<u8>, &str)> {
    let (charset, text) = text.split_once('?')?;
    let (encoding, text) = text.split_once('?')?;
    let (encoded, rest) = text.split_once("?=")?;
    let is_token = !charset.is_empty()
        && charset.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*'));
    if !is_token || encoded.contains('?') {
        return None;
    }
    let decoded = match encoding {
        "b" | "B" => STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?,
        "q" | "Q" => q_decoded(encoded)?,
        _ => return None,
    };
    Some((decoded, rest))
}

/// RFC 2047 4.2.
fn q_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        decoded.push(match b {
            b'_' => b' ',
            b'=' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b => b,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests;

//! What the relay itself must know of a header section: who the author is, and whether `Date` and
//! `Message-ID` are there.
//!
//! Reads plain-form chunks as they arrive, cut anywhere. Invariants: the section is at most
//! [`HEADER_BYTES_MAX`] long, kept bytes are at most one partial line and the `From` fields; a line
//! that is neither a field nor a continuation makes the section [`Malformed`](HeaderError::Malformed),
//! because two readers could disagree about where the header ends and so about who the author is.

use memchr::memchr;

/// The header section of one arriving message.
#[derive(Debug, Default)]
pub struct HeaderScan {
    /// A line whose end has not arrived yet.
    partial: Vec<u8>,
    /// Bytes of the section so far.
    bytes: usize,
    /// Raw values of the `From` fields, folding included.
    from: Vec<Vec<u8>>,
    field: Field,
    has_date: bool,
    has_message_id: bool,
    is_complete: bool,
}

/// Which field a continuation line belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// No field has begun.
    #[default]
    None,
    From,
    Other,
}

/// Why a header section is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Longer than [`HEADER_BYTES_MAX`].
    TooLong,
    /// A line that is neither a field nor a continuation, or a field name with odd characters.
    Malformed,
}

/// What a complete header section said.
#[derive(Debug, PartialEq, Eq)]
pub struct HeaderSummary {
    /// Raw values of all `From` fields, folding included. Exactly one is acceptable.
    pub from: Vec<Vec<u8>>,
    /// A `Date` field is there.
    pub has_date: bool,
    /// A `Message-ID` field is there.
    pub has_message_id: bool,
}

impl HeaderScan {
    /// Takes the next chunk; returns how many of its bytes belong to the header section, the
    /// empty line included. Fewer than all means that the rest is body.
    ///
    /// # Errors
    /// [`HeaderError`], after which the message must be refused.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<usize, HeaderError> {
        let mut used = 0;
        while !self.is_complete && used < chunk.len() {
            let rest = &chunk[used..];
            let Some(end) = memchr(b'\n', rest) else {
                self.count(rest.len())?;
                self.partial.extend_from_slice(rest);
                return Ok(chunk.len());
            };
            let (line, _) = rest.split_at(end + 1);
            self.count(line.len())?;
            used += line.len();
            if self.partial.is_empty() {
                self.line(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole)?;
            }
        }
        Ok(used)
    }

    /// The empty line has been seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Ends the section: at the empty line, or where the content ended without one.
    ///
    /// # Errors
    /// [`HeaderError::Malformed`] when the content ended inside a line that is no field.
    pub fn finish(mut self) -> Result<HeaderSummary, HeaderError> {
        let partial = std::mem::take(&mut self.partial);
        if !partial.is_empty() {
            self.line(&partial)?;
        }
        let Self { from, has_date, has_message_id, .. } = self;
        Ok(HeaderSummary { from, has_date, has_message_id })
    }

    fn count(&mut self, bytes: usize) -> Result<(), HeaderError> {
        self.bytes += bytes;
        if self.bytes > HEADER_BYTES_MAX { Err(HeaderError::TooLong) } else { Ok(()) }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), HeaderError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.first() {
            None => self.is_complete = true,
            Some(b' ' | b'\t') => self.continuation(line)?,
            Some(_) => self.field(line)?,
        }
        Ok(())
    }

    fn continuation(&mut self, line: &[u8]) -> Result<(), HeaderError> {
        match self.field {
            Field::None => return Err(HeaderError::Malformed),
            Field::Other => {}
            Field::From => {
                if let Some(from) = self.from.last_mut() {
                    from.extend_from_slice(b"\r\n");
                    from.extend_from_slice(line);
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), HeaderError> {
        let colon = memchr(b':', line).ok_or(HeaderError::Malformed)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // RFC 5322 2.2: printable US-ASCII without colon. "From :" is read differently by others.
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return Err(HeaderError::Malformed);
        }
        self.field = Field::Other;
        if name.eq_ignore_ascii_case(b"from") {
            self.field = Field::From;
            self.from.push(value.to_vec());
        } else if name.eq_ignore_ascii_case(b"date") {
            self.has_date = true;
        } else if name.eq_ignore_ascii_case(b"message-id") {
            self.has_message_id = true;
        }
        Ok(())
    }
}

/// Longest header section, in bytes of plain form. Postfix's `header_size_limit` truncates at
/// 102,400; here longer ones are refused.
pub const HEADER_BYTES_MAX: usize = 131_072;

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(content: &[u8], step: usize) -> (usize, Result<HeaderSummary, HeaderError>) {
        let mut scan = HeaderScan::default();
        let mut header = 0;
        for chunk in content.chunks(step) {
            match scan.feed(chunk) {
                Ok(used) => header += used,
                Err(error) => return (header, Err(error)),
            }
        }
        (header, scan.finish())
    }

    fn check(content: &str, header: usize, from: &[&str]) {
        for step in 1..=content.len() {
            let (bytes, summary) = scan(content.as_bytes(), step);
            let summary = summary.expect("a well-formed header section");
            let found: Vec<_> =
                summary.from.iter().map(|from| String::from_utf8_lossy(from)).collect();
            assert_eq!(
                (bytes, found),
                (header, from.iter().map(|&from| from.into()).collect()),
                "cut at {step}"
            );
        }
    }

    #[test]
    fn finds_the_author_however_the_content_is_cut() {
        check("From: a@b\r\nDate: x\r\n\r\nFrom: c@d\r\n", 22, &[" a@b"]);
        check("fRoM: a\r\n <a@b>\r\nX: y\r\n z\r\n\r\n", 29, &[" a\r\n <a@b>"]);
        check("From: a@b\r\nFrom: c@d\r\n\r\n", 24, &[" a@b", " c@d"]);
        check("From: a@b", 9, &[" a@b"]);
    }

    #[test]
    fn notes_date_and_message_id() {
        let (_, summary) = scan(b"DATE: x\r\nMessage-Id: <y>\r\n\r\n", 7);
        let summary = summary.expect("a well-formed header section");
        assert!(summary.has_date && summary.has_message_id);
    }

    #[test]
    fn refuses_what_readers_would_disagree_about() {
        for content in [
            "hello\r\n",
            " x\r\n",
            "From : a@b\r\n",
            "From\t: a@b\r\n",
            ": a\r\n",
            "Fr\u{f6}m: a\r\n",
        ] {
            for step in [1, 100] {
                let (_, summary) = scan(content.as_bytes(), step);
                assert_eq!(summary, Err(HeaderError::Malformed), "{content:?}");
            }
        }
    }

    #[test]
    fn bounds_the_section() {
        let field = b"X: 0123456789\r\n".repeat(HEADER_BYTES_MAX / 15 + 1);
        assert_eq!(scan(&field, 4096).1, Err(HeaderError::TooLong));
        let endless = vec![b'x'; HEADER_BYTES_MAX + 1];
        assert_eq!(scan(&endless, 4096).1, Err(HeaderError::TooLong));
    }
}

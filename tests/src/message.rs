//! Messages with a number, whose every byte can be made again from that number.
//!
//! A sink proves that a message arrived whole by making it anew and comparing.

/// The header field that carries a message's number.
pub const NUMBER_FIELD: &str = "X-Ledger";

/// One message: envelope and content in plain form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Reverse-path without angle brackets.
    pub from: String,
    /// Forward-paths without angle brackets.
    pub to: Vec<String>,
    /// Header section and body, with CRLF, not dot-stuffed.
    pub content: Vec<u8>,
}

impl Mail {
    /// A message of about `bytes` bytes from `from` to one recipient, made of `number` alone.
    pub fn numbered(number: u64, from: &str, to: &str, bytes: usize) -> Self {
        Self {
            from: from.to_owned(),
            to: vec![to.to_owned()],
            content: content(number, from, to, bytes),
        }
    }

    /// A message with this body, and the header fields a message must have.
    pub fn with_body(from: &str, to: &str, body: &[u8]) -> Self {
        let header = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nSubject: test\r\n\
             Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{:x}@test.example>\r\n\r\n",
            checksum(body)
        );
        let content = [header.as_bytes(), body].concat();
        Self { from: from.to_owned(), to: vec![to.to_owned()], content }
    }
}

/// The content of message `number`: lines of several kinds, among them dots and 8-bit text.
fn content(number: u64, from: &str, to: &str, bytes: usize) -> Vec<u8> {
    let mut text = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: message {number}\r\n{NUMBER_FIELD}: {number}\r\n\
         Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}.ledger@test.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
    .into_bytes();
    let mut seed = Seed(number);
    while text.len() < bytes {
        match seed.below(8) {
            0 => text.extend_from_slice(b".\r\n"),
            1 => text.extend_from_slice(b"..leading dots\r\n"),
            2 => text.extend_from_slice("caf\u{e9} \u{2192} \u{65e5}\u{672c}\r\n".as_bytes()),
            3 => text.extend_from_slice(b"\r\n"),
            _ => text
                .extend_from_slice(format!("line {} of {number}\r\n", word(&mut seed)).as_bytes()),
        }
    }
    text.extend_from_slice(format!("end of {number}\r\n").as_bytes());
    text
}

/// Sixteen letters: digits at random would now and then be a valid card number.
fn word(seed: &mut Seed) -> String {
    let bits = seed.next();
    (0..16)
        .map(|at| char::from(b'a' + u8::try_from(bits >> (4 * at) & 15).expect("below 16")))
        .collect()
}

/// The number a message carries, read from its header section.
pub fn number_of(content: &[u8]) -> Option<u64> {
    let mark = format!("\r\n{NUMBER_FIELD}: ");
    let head = &content[..find(content, b"\r\n\r\n")?];
    let at = find(head, mark.as_bytes())? + mark.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&head[at..at + digits]).ok()?.parse().ok()
}

/// Where `needle` starts in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

/// Dot-stuffs plain content and ends it with the final dot.
pub fn to_wire(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + 8);
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    if !wire.is_empty() && !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// The header fields that the relay put before the message it was given: `arrived` must end with
/// `sent`, byte for byte, and what stands before must be whole trace and signature fields.
///
/// # Errors
///
/// Says what is wrong.
pub fn added_fields(sent: &[u8], arrived: &[u8]) -> Result<Vec<String>, String> {
    let Some(added) = arrived.strip_suffix(sent) else {
        return Err(format!(
            "not byte-exact: sent {} bytes, arrived {}\n--- sent\n{}\n--- arrived\n{}",
            sent.len(),
            arrived.len(),
            excerpt(sent),
            excerpt(arrived)
        ));
    };
    let added = String::from_utf8(added.to_vec()).map_err(|why| why.to_string())?;
    let mut names = Vec::new();
    for line in added.split_inclusive("\r\n") {
        if line.starts_with([' ', '\t']) && !names.is_empty() {
            continue;
        }
        let name = line.split(':').next().unwrap_or_default();
        let known = ["Received", "DKIM-Signature", "Message-ID", "Date"];
        if !line.ends_with("\r\n") || !known.contains(&name) {
            return Err(format!("the relay added {line:?}"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn excerpt(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(2_000)].escape_ascii().to_string().replace("\\r\\n", "\n")
}

/// A small generator, so that a run can be repeated from its seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Seed(pub u64);

impl Seed {
    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "an endless source, not an iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// A seed for this run, printed so that a failure can be repeated: `POSTERN_SEED`, else the clock.
pub fn seed(what: &str) -> Seed {
    let given = std::env::var("POSTERN_SEED").ok().and_then(|text| text.parse().ok());
    let value = given.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::from(since.map_or(0, |since| since.subsec_nanos()))
    });
    crate::tool::say(&format!("{what}: POSTERN_SEED={value}"));
    Seed(value)
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_message_is_always_the_same() {
        let one = Mail::numbered(7, "a@one.example", "b@two.example", 4_096);
        assert_eq!(one, Mail::numbered(7, "a@one.example", "b@two.example", 4_096));
        assert_eq!(number_of(&one.content), Some(7));
        assert!(one.content.len() >= 4_096 && one.content.ends_with(b"end of 7\r\n"));
    }

    #[test]
    fn dots_are_stuffed() {
        assert_eq!(to_wire(b".\r\na\r\n..b\r\n"), b"..\r\na\r\n...b\r\n.\r\n");
        assert_eq!(to_wire(b""), b".\r\n");
        assert_eq!(to_wire(b"a"), b"a\r\n.\r\n");
    }

    #[test]
    fn what_the_relay_adds_is_told_from_what_was_sent() {
        let sent = b"From: <a@b>\r\n\r\nx\r\n";
        let with = |added: &str| added_fields(sent, &[added.as_bytes(), sent].concat());
        assert_eq!(with("Received: a\r\n\tb\r\n").expect("fine"), ["Received"]);
        assert!(with("X-Other: a\r\n").is_err());
        assert!(with("Received: a").is_err());
        assert!(added_fields(sent, b"From: <a@b>\r\n\r\ny\r\n").is_err());
    }
}

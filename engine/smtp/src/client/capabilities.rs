//! What a server offers in its EHLO reply.

use crate::reply::Reply;

/// The extensions of one EHLO reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 1870: SIZE was offered.
    pub size: bool,
    /// The largest content taken, in bytes, if the server says.
    pub size_max: Option<u64>,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// AUTH with mechanism PLAIN.
    pub auth_plain: bool,
    /// AUTH with mechanism LOGIN.
    pub auth_login: bool,
    /// RFC 9422 RCPTMAX: most recipients of a transaction.
    pub recipients_max: Option<u32>,
    /// RFC 9422 MAILMAX: most transactions of a session.
    pub transactions_max: Option<u32>,
}

impl Capabilities {
    /// Reads the lines of an EHLO reply; the first holds the server's name.
    pub fn parse(reply: &Reply) -> Self {
        let mut offered = Self::default();
        for line in reply.text.split('\n').skip(1) {
            offered.take_line(line);
        }
        offered
    }

    fn take_line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or("").to_ascii_uppercase();
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => {
                self.size = true;
                // 0 means no fixed limit (RFC 1870 4).
                self.size_max = words.next().and_then(|w| w.parse().ok()).filter(|&max| max > 0);
            }
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "CHUNKING" => self.chunking = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "AUTH" => words.for_each(|word| self.take_mechanism(word)),
            "LIMITS" => words.for_each(|word| self.take_limit(word)),
            _ => {}
        }
    }

    fn take_mechanism(&mut self, word: &str) {
        self.auth_plain |= word.eq_ignore_ascii_case("PLAIN");
        self.auth_login |= word.eq_ignore_ascii_case("LOGIN");
    }

    fn take_limit(&mut self, word: &str) {
        let Some((name, value)) = word.split_once('=') else {
            return;
        };
        let value = value.parse().ok().filter(|&value| value > 0);
        if name.eq_ignore_ascii_case("RCPTMAX") {
            self.recipients_max = value;
        } else if name.eq_ignore_ascii_case("MAILMAX") {
            self.transactions_max = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_offered() {
        let reply = Reply::bare(
            250,
            "mx.example\npipelining\nSIZE 1000\n8BITMIME\nDSN\nAUTH LOGIN plain X\nLIMITS \
             RCPTMAX=5 MAILMAX=x OTHER\nNOVELTY\n",
        );
        let offered = Capabilities::parse(&reply);
        assert!(offered.pipelining && offered.size && offered.eight_bit_mime && offered.dsn);
        assert!(offered.auth_plain && offered.auth_login && !offered.starttls);
        assert_eq!((offered.size_max, offered.recipients_max), (Some(1_000), Some(5)));
        assert_eq!(offered.transactions_max, None);
        let none = Capabilities::parse(&Reply::bare(250, "STARTTLS"));
        assert_eq!(none, Capabilities::default());
        assert_eq!(Capabilities::parse(&Reply::bare(250, "a\nSIZE 0")).size_max, None);
    }
}

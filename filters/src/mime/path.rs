//! The address of a part inside a message.

use std::fmt;

use crate::limits::DEPTH_LIMIT;

/// Where in a message something is, in IMAP's numbering (RFC 9051 6.4.5.1): `1` is the only body,
/// `1.2` the second part of the first part.
///
/// Written with `Display`: `header` is the message's own header section, `2.header` the one of part
/// 2, and `0` is text outside every part (before the first or after the last boundary).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PartPath {
    numbers: [u16; DEPTH_LIMIT + 1],
    depth: u8,
    header: bool,
}

impl PartPath {
    /// The numbers from the outermost part to this one.
    #[must_use]
    pub fn numbers(&self) -> &[u16] {
        &self.numbers[..usize::from(self.depth)]
    }

    /// Whether this is a header section rather than a body.
    #[must_use]
    pub const fn is_header(&self) -> bool {
        self.header
    }

    /// How deep this part lies; the message itself is 0.
    pub(crate) fn depth(&self) -> usize {
        usize::from(self.depth)
    }

    /// Goes down to child `number`. False, and unchanged, at the deepest level.
    pub(crate) fn push(&mut self, number: u16) -> bool {
        let Some(slot) = self.numbers.get_mut(usize::from(self.depth)) else { return false };
        *slot = number;
        self.depth += 1;
        true
    }

    /// Goes up to `depth`.
    pub(crate) fn truncate(&mut self, depth: usize) {
        let depth = depth.min(self.depth());
        // Numbers below are cleared, because equality compares them.
        self.numbers[depth..].fill(0);
        self.depth = u8::try_from(depth).expect("at most DEPTH_LIMIT + 1");
        self.header = false;
    }

    /// Says whether the header section or the body is meant.
    pub(crate) fn set_header(&mut self, header: bool) {
        self.header = header;
    }
}

impl fmt::Display for PartPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.numbers().iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{number}")?;
        }
        match (self.header, self.depth) {
            (true, 0) => f.write_str("header"),
            (true, _) => f.write_str(".header"),
            (false, 0) => f.write_str("0"),
            (false, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_imap_does() {
        let mut path = PartPath::default();
        assert_eq!(path.to_string(), "0");
        path.set_header(true);
        assert_eq!(path.to_string(), "header");
        path.set_header(false);
        assert!(path.push(1) && path.push(12));
        assert_eq!(path.to_string(), "1.12");
        path.set_header(true);
        assert_eq!(path.to_string(), "1.12.header");
        path.truncate(1);
        assert_eq!(path.to_string(), "1");
    }

    #[test]
    fn stops_at_the_deepest_level() {
        let mut path = PartPath::default();
        assert!((0..=DEPTH_LIMIT).all(|_| path.push(1)));
        assert!(!path.push(1));
        assert_eq!(path.depth(), DEPTH_LIMIT + 1);
    }
}

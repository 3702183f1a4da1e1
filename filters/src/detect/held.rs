//! The end of a text, held until what follows is known, so that cuts between pieces change nothing.

/// Holds the end of a text: what begins at a place is judged when `AHEAD` bytes follow it or the text
/// ends, with `BEHIND` bytes before it.
///
/// At most twice the sum of both is held.
#[derive(Default)]
pub(crate) struct Held<const BEHIND: usize, const AHEAD: usize> {
    bytes: Vec<u8>,
    /// How much of it has been judged.
    judged: usize,
}

impl<const BEHIND: usize, const AHEAD: usize> Held<BEHIND, AHEAD> {
    /// Takes the next piece. `judge` is given bytes and a range of places in them; together the
    /// ranges cover the text once.
    pub(crate) fn push(&mut self, text: &[u8], mut judge: impl FnMut(&[u8], usize, usize)) {
        let joined = text.len().min(AHEAD + BEHIND);
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&text[..joined]);
        let until = self.bytes.len().saturating_sub(AHEAD).max(self.judged);
        judge(&self.bytes, self.judged, until);
        self.judged = until;
        if joined == text.len() {
            let done = self.judged.saturating_sub(BEHIND);
            self.bytes.drain(..done);
            self.judged -= done;
            return;
        }
        // What was held before is judged, and BEHIND bytes of the text or more.
        let begin = until - before;
        let end = (text.len() - AHEAD).max(begin);
        judge(text, begin, end);
        self.bytes.clear();
        self.bytes.extend_from_slice(&text[end - BEHIND.min(end)..]);
        self.judged = BEHIND.min(end);
    }

    /// Ends the text: what follows is unrelated.
    pub(crate) fn end(&mut self, judge: impl FnOnce(&[u8], usize, usize)) {
        judge(&self.bytes, self.judged, self.bytes.len());
        self.bytes.clear();
        self.judged = 0;
    }

    /// Heap memory held, bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_judged_once_with_what_is_around_it() {
        let text: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        for bytes in [1, 2, 3, 7, 12, 13, 20, 100, 1_000] {
            let mut held = Held::<4, 8>::default();
            let (mut judged, mut at) = (Vec::new(), 0);
            let mut judge = |window: &[u8], begin: usize, end: usize| {
                for place in begin..end {
                    // What lies before and behind is that of the text, as far as it goes.
                    let before = place.min(4).min(at);
                    assert_eq!(window[place - before..place], text[at - before..at]);
                    assert!(before == 4 || before == at);
                    let ahead = (window.len() - place).min(8);
                    assert_eq!(window[place..place + ahead], text[at..at + ahead]);
                    assert!(ahead == 8 || at + ahead == text.len());
                    judged.push(window[place]);
                    at += 1;
                }
            };
            for piece in text.chunks(bytes) {
                held.push(piece, &mut judge);
                assert!(held.bytes.len() <= 2 * 12);
            }
            held.end(&mut judge);
            assert_eq!(judged, text, "in pieces of {bytes}");
        }
    }
}

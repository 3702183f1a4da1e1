//! The little DER (X.690) that RSA keys need: a reader that borrows, a writer of definite lengths.

/// Reads elements one after another.
pub(super) struct Reader<'a>(&'a [u8]);

/// Why an element cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DerFault {
    /// Fewer bytes than a length says; a cut file is the usual cause.
    Truncated,
    /// Not DER, or not the element that stands here.
    Malformed,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads the element of this tag that stands next; returns its contents.
    pub(super) fn element(&mut self, tag: u8) -> Result<&'a [u8], DerFault> {
        let (&found, rest) = self.0.split_first().ok_or(DerFault::Truncated)?;
        if found != tag {
            return Err(DerFault::Malformed);
        }
        let (length, rest) = read_length(rest)?;
        let (contents, rest) = rest.split_at_checked(length).ok_or(DerFault::Truncated)?;
        self.0 = rest;
        Ok(contents)
    }

    /// Reads the element of this tag, where it stands next or after others that are skipped; `None`
    /// where there is none.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerFault> {
        while let Some(&next) = self.0.first() {
            let contents = self.element(next)?;
            if next == tag {
                return Ok(Some(contents));
            }
        }
        Ok(None)
    }

    /// Reads a non-negative INTEGER; returns its magnitude without leading zeros.
    pub(super) fn unsigned(&mut self) -> Result<&'a [u8], DerFault> {
        match self.element(INTEGER)? {
            [] => Err(DerFault::Malformed),
            [0] => Ok(&[]),
            [0, rest @ ..] if rest[0] & 0x80 != 0 => Ok(rest),
            [first, ..] if *first == 0 || first & 0x80 != 0 => Err(DerFault::Malformed),
            contents => Ok(contents),
        }
    }

    /// Refuses bytes after the last element.
    pub(super) fn end(self) -> Result<(), DerFault> {
        if self.0.is_empty() { Ok(()) } else { Err(DerFault::Malformed) }
    }
}

/// Definite lengths in their shortest form, up to four octets.
fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), DerFault> {
    let (&first, rest) = bytes.split_first().ok_or(DerFault::Truncated)?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    let octets = usize::from(first & 0x7f);
    if octets == 0 || octets > 4 {
        return Err(DerFault::Malformed);
    }
    let (digits, rest) = rest.split_at_checked(octets).ok_or(DerFault::Truncated)?;
    let length = digits.iter().fold(0usize, |length, &digit| length << 8 | usize::from(digit));
    if digits[0] == 0 || length < 0x80 {
        return Err(DerFault::Malformed);
    }
    Ok((length, rest))
}

/// Appends one element.
pub(super) fn write(out: &mut Vec<u8>, tag: u8, contents: &[u8]) {
    out.push(tag);
    write_length(out, contents.len());
    out.extend_from_slice(contents);
}

/// Appends a non-negative INTEGER given as a magnitude without leading zeros.
pub(super) fn write_unsigned(out: &mut Vec<u8>, magnitude: &[u8]) {
    let sign_octet = magnitude.first().is_none_or(|first| first & 0x80 != 0);
    out.push(INTEGER);
    write_length(out, magnitude.len() + usize::from(sign_octet));
    if sign_octet {
        out.push(0);
    }
    out.extend_from_slice(magnitude);
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        out.push(short);
        return;
    }
    let octets = length.to_be_bytes();
    let skipped = octets.iter().take_while(|&&octet| octet == 0).count();
    #[allow(clippy::cast_possible_truncation, reason = "at most eight octets")]
    out.push(0x80 | (octets.len() - skipped) as u8);
    out.extend_from_slice(&octets[skipped..]);
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[1] IMPLICIT BIT STRING`: the public key of a `OneAsymmetricKey` (RFC 5958 2).
pub(super) const PUBLIC_KEY_1: u8 = 0x81;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let mut out = Vec::new();
            write(&mut out, OCTET_STRING, &vec![7; length]);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.element(OCTET_STRING).map(<[u8]>::len), Ok(length));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn bad_lengths() {
        for (bytes, fault) in [
            (&[4][..], DerFault::Truncated),
            (&[4, 2, 0], DerFault::Truncated),
            (&[4, 0x80, 0, 0], DerFault::Malformed),
            (&[4, 0x81, 0x7f], DerFault::Malformed),
            (&[4, 0x82, 0, 0x80], DerFault::Malformed),
            (&[4, 0x85, 1, 1, 1, 1, 1], DerFault::Malformed),
            (&[4, 0x84, 0xff, 0xff, 0xff, 0xff], DerFault::Truncated),
            (&[5, 0], DerFault::Malformed),
        ] {
            assert_eq!(Reader::new(bytes).element(OCTET_STRING), Err(fault), "{bytes:x?}");
        }
    }

    #[test]
    fn integers() {
        for magnitude in [&[][..], &[1], &[0x7f], &[0x80], &[1, 0, 0], &[0xff; 256]] {
            let mut out = Vec::new();
            write_unsigned(&mut out, magnitude);
            assert_eq!(Reader::new(&out).unsigned(), Ok(magnitude));
        }
        for bytes in [&[2, 0][..], &[2, 1, 0x80], &[2, 2, 0, 1], &[2, 2, 0, 0]] {
            assert_eq!(Reader::new(bytes).unsigned(), Err(DerFault::Malformed), "{bytes:x?}");
        }
    }
}

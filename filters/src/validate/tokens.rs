//! Keys and tokens of services. Unlike identifiers they keep their case and their `_`, `-` and `.`.

use super::is_shaped;

/// GitHub token: `ghp_`, `gho_`, `ghu_`, `ghs_` or `ghr_`, thirty characters of base 62, and the
/// CRC-32 of these in six more (GitHub, "Behind GitHub's new authentication token formats", 2021).
#[must_use]
pub fn github_token(value: &[u8]) -> bool {
    let Some((prefix, rest)) = value.split_first_chunk::<4>() else { return false };
    let Some((entropy, check)) = rest.split_first_chunk::<30>() else { return false };
    let mut written: u64 = 0;
    for &character in check {
        let (Some(code), true) = (base62(character), check.len() == 6) else { return false };
        written = written * 62 + u64::from(code);
    }
    matches!(prefix, b"ghp_" | b"gho_" | b"ghu_" | b"ghs_" | b"ghr_")
        && entropy.iter().all(u8::is_ascii_alphanumeric)
        && check.len() == 6
        && u64::from(crc32(entropy)) == written
}

/// The digit of a character in GitHub's base 62: `0-9A-Za-z`.
fn base62(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'A'..=b'Z' => Some(character - b'A' + 10),
        b'a'..=b'z' => Some(character - b'a' + 36),
        _ => None,
    }
}

/// CRC-32 as in ISO/IEC/IEEE 8802-3 and zlib, a byte at a time: what it reads is thirty bytes.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ CRC32[usize::from(low ^ byte)]
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The remainders of each byte by the reflected polynomial.
const CRC32: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (if crc & 1 == 1 { 0xedb8_8320 } else { 0 });
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

/// AWS access key id: `AKIA` (of a user) or `ASIA` (for a time) and sixteen characters of base 32
/// (AWS IAM User Guide, "IAM identifiers", unique identifiers). There is no check character.
#[must_use]
pub fn aws_access_key_id(value: &[u8]) -> bool {
    is_shaped(value, b"AAAAXXXXXXXXXXXXXXXX")
        && matches!(&value[..4], b"AKIA" | b"ASIA")
        && value[4..].iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}

/// JSON Web Token in compact form: three parts of base64url, the last of which may be empty; the
/// first two are JSON objects, the first with a member `alg` (RFC 7519 section 3, RFC 7515 section
/// 7.1). The JSON is scanned for strings and brackets, not parsed.
#[must_use]
pub fn jwt(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    is_base64url(signature)
        && object(header).is_some_and(|object| object.has_alg)
        && object(payload).is_some()
}

fn is_base64url(part: &[u8]) -> bool {
    part.len() % 4 != 1 && part.iter().all(|byte| sextet(*byte).is_some())
}

/// The six bits of a character (RFC 4648 section 5).
fn sextet(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

/// What a scan of a JSON object tells.
struct Object {
    has_alg: bool,
}

/// Scans the JSON object that `part` encodes, if it is one.
fn object(part: &[u8]) -> Option<Object> {
    if !is_base64url(part) {
        return None;
    }
    let mut scan = ObjectScan::default();
    for group in part.chunks(4) {
        let mut bits: u32 = 0;
        for place in 0..4 {
            let sextet = group.get(place).map_or(Some(0), |character| sextet(*character))?;
            bits = bits << 6 | u32::from(sextet);
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        // Four characters are three bytes, three are two, two are one.
        for &byte in &bytes[..group.len() - 1] {
            scan.push(byte)?;
        }
    }
    scan.end()
}

/// A scan of one JSON object, byte by byte. The kinds of brackets are not matched against each
/// other, and so the depth is all that is kept of them.
#[derive(Default)]
struct ObjectScan {
    depth: u32,
    has_begun: bool,
    string: Option<StringScan>,
    /// A string here would be the name of a member of the object itself.
    is_name: bool,
    has_alg: bool,
}

/// A string that is open.
struct StringScan {
    is_escape: bool,
    /// Bytes that agree with `alg` from the start, `None` as soon as one does not.
    alg_bytes: Option<usize>,
}

impl ObjectScan {
    /// Takes the next byte, `None` where no object goes on like this.
    fn push(&mut self, byte: u8) -> Option<()> {
        if self.string.is_some() {
            self.push_string(byte);
            return Some(());
        }
        let is_blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        if self.depth == 0 {
            // Before the object and after it there can only be blanks.
            let begins = byte == b'{' && !self.has_begun;
            (self.depth, self.is_name) = (u32::from(begins), begins);
            self.has_begun |= begins;
            return (is_blank || begins).then_some(());
        }
        match byte {
            b'"' => {
                let alg_bytes = (self.is_name && self.depth == 1).then_some(0);
                self.string = Some(StringScan { is_escape: false, alg_bytes });
            }
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth -= 1,
            b',' => self.is_name = true,
            b':' => self.is_name = false,
            // Numbers, true, false, null.
            b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.' => {}
            _ if is_blank => {}
            _ => return None,
        }
        Some(())
    }

    fn push_string(&mut self, byte: u8) {
        let Some(string) = &mut self.string else { return };
        match byte {
            _ if string.is_escape => string.is_escape = false,
            b'\\' => (string.is_escape, string.alg_bytes) = (true, None),
            b'"' => {
                self.has_alg |= string.alg_bytes == Some(ALG.len());
                self.string = None;
            }
            _ => {
                let at = string.alg_bytes.filter(|at| ALG.get(*at) == Some(&byte));
                string.alg_bytes = at.map(|at| at + 1);
            }
        }
    }

    fn end(&self) -> Option<Object> {
        let is_whole = self.has_begun && self.depth == 0 && self.string.is_none();
        is_whole.then_some(Object { has_alg: self.has_alg })
    }
}

/// The member that every JOSE header has (RFC 7515 section 4.1.1).
const ALG: &[u8] = b"alg";

/// Shannon's entropy of the bytes' frequencies, in thousandths of a bit a byte, right to one: 0 for
/// one byte repeated or nothing, 8000 at most (C. E. Shannon, "A Mathematical Theory of
/// Communication", 1948). In integers, so that it is the same on every machine.
#[must_use]
pub fn entropy_millibits(value: &[u8]) -> u32 {
    let mut counts = [0_u64; 256];
    value.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let count: u64 = counts.iter().sum();
    if count == 0 {
        return 0;
    }
    // n log n less the sum of c log c, over n.
    let term = |count: u64| u128::from(count) * u128::from(log2(count));
    let terms: u128 = counts.iter().filter(|count| **count > 0).map(|count| term(*count)).sum();
    let bits = term(count).saturating_sub(terms) * 1000 / u128::from(count);
    u32::try_from(bits >> LOG_BITS).unwrap_or(8000).min(8000)
}

/// Binary places of a logarithm: an error below a thousandth of a bit.
const LOG_BITS: u32 = 20;

/// The logarithm to base two of a number from 1, in units of `2^-LOG_BITS`, rounded down.
fn log2(number: u64) -> u64 {
    let whole = number.max(1).ilog2();
    // The number over its power of two, from 1 to 2, with 62 binary places.
    let mut mantissa = u128::from(number.max(1)) << (62 - whole.min(62)) >> (whole - whole.min(62));
    let mut log = u64::from(whole);
    for _ in 0..LOG_BITS {
        mantissa = (mantissa * mantissa) >> 62;
        let bit = mantissa >> 63;
        mantissa >>= bit;
        log = log << 1 | u64::from(bit == 1);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::super::Validator;
    use super::super::tests::{check, check_digits};
    use super::*;

    #[test]
    fn github() {
        // In two pieces, so that no scanner of sources takes the examples for tokens.
        let valid = [
            concat!("ghp", "_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"),
            concat!("gho", "_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"),
            concat!("ghu", "_0000000000000000000000000000002C8GjS"),
            concat!("ghs", "_0000000000000000000000000000002C8GjS"),
            concat!("ghr", "_abcdefghijklmnopqrstuvwxyz01232LolCm"),
        ];
        let refused = [
            // Another kind.
            "ghx_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17",
            "GHP_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17",
            // A change in the check, in the entropy, of case.
            "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18",
            "ghp_zqWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17",
            "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLQ17",
            // More than 32 bits.
            "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJzzzzzz",
            "ghp_000000000000000000000000000000000000",
        ];
        check_digits(Validator::GithubToken, &[40], &valid, &refused);
    }

    #[test]
    fn crc_32() {
        // The check value of the catalogue of CRC algorithms.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn aws() {
        // The first two are those of the AWS documentation.
        let valid = ["AKIAIOSFODNN7EXAMPLE", "AKIAI44QH7DHBEXAMPLE", "ASIAY34FZKBOKMUTVV7A"];
        let refused = [
            "AGPAIOSFODNN7EXAMPLE",
            "AKIAIOSFODNN1EXAMPLE",
            "AKIAIOSFODNN8EXAMPLE",
            "AKIAIOSFODNN0EXAMPLE",
            "akiaiosfodnn7example",
        ];
        check(Validator::AwsAccessKeyId, &[20], &valid, &refused);
    }

    #[test]
    fn json_web_tokens() {
        let accepts = |value: &str| Validator::Jwt.accepts(value.as_bytes());
        const EMPTY: &str = "e30";
        for header in [
            r#"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"#, // {"alg":"HS256","typ":"JWT"}
            "eyJhbGciOiJub25lIn0",                     // {"alg":"none"}
            "IHsgInR5cCIgOiAiSlwiV1QiICwgImFsZyIgOiAibm9uZSIgfSA", // blanks, an escaped quote
            "eyJhIjpbMSwiYWxnIl0sImFsZyI6dHJ1ZX0",     // {"a":[1,"alg"],"alg":true}
            "eyJuIjp7Im0iOltdfSwiYWxnIjoieCJ9",        // {"n":{"m":[]},"alg":"x"}
        ] {
            for signature in ["", "AA", "dGVzdA", "__-_"] {
                let token = [header, EMPTY, signature].join(".");
                assert!(accepts(&token), "{token}");
            }
            for token in [
                [header, EMPTY].join("."),
                [header, EMPTY, "", ""].join("."),
                [header, EMPTY, "A"].join("."),
                [header, EMPTY, "A+=="].join("."),
                [header, "", "AA"].join("."),
                [header, "ImFsZyI", "AA"].join("."),
                [header, "W10", "AA"].join("."),
                ["", header, "AA"].join("."),
                [&header[1..], EMPTY, "AA"].join("."),
                [&header[..header.len() - 4], EMPTY, "AA"].join("."),
                [&header.to_ascii_uppercase(), EMPTY, "AA"].join("."),
            ] {
                assert!(!accepts(&token), "{token}");
            }
        }
        for header in [
            "eyJ0eXAiOiJKV1QifQ",                       // {"typ":"JWT"}
            "eyJzdWIiOiJhbGcifQ",                       // {"sub":"alg"}
            "eyJhIjp7ImFsZyI6MX19",                     // {"a":{"alg":1}}
            "W3siYWxnIjoxfV0",                          // [{"alg":1}]
            "eyJhbGciOiJub25lIg",                       // {"alg":"none"
            "eyJhbGciOiJub25lIn19",                     // {"alg":"none"}}
            "eyJhbGciOiJub25lIn17",                     // {"alg":"none"}{
            "eyJhbGciOiJub25lIn0geA",                   // {"alg":"none"} x
            "eyJhbGdvIjoxLCJhbCI6MiwiYVx1MDA2Y2ciOjF9", // algo, al, a\u006cg
            "eydhbGcnOjF9",                             // {'alg':1}
            "e30",
            "",
        ] {
            let token = [header, EMPTY, "AA"].join(".");
            assert!(!accepts(&token), "{token}");
        }
        for token in ["", ".", "..", "...", "e30.e30.", "0.0.0"] {
            assert!(!accepts(token), "{token}");
        }
    }

    #[test]
    fn entropy() {
        for (value, want) in [
            (&b""[..], 0),
            (b"a", 0),
            (b"aaaaaaaaaa", 0),
            (b"ab", 1000),
            (b"aabb", 1000),
            (b"aab", 918),
            (b"abcdefgh", 3000),
            (b"aaab", 811),
            (b"0123456789", 3321),
            (b"hello world", 2845),
        ] {
            let got = entropy_millibits(value);
            assert!(got.abs_diff(want) <= 1, "{got} for {}", String::from_utf8_lossy(value));
        }
        let all: Vec<_> = (0..=u8::MAX).collect();
        assert_eq!(entropy_millibits(&all), 8000);
        assert_eq!(entropy_millibits(&all.repeat(300)), 8000);
    }

    #[test]
    fn logarithms() {
        for (number, want) in [(1, 0.0), (2, 1.0), (3, 1.584_962_5), (100, 6.643_856_2)] {
            let got = f64::from(u32::try_from(log2(number)).unwrap()) / f64::from(1 << LOG_BITS);
            assert!((got - want).abs() < 1e-5, "{got} for {number}");
        }
        assert_eq!(log2(0), 0);
        assert_eq!(log2(1 << 63), 63 << LOG_BITS);
        assert_eq!(log2(u64::MAX) >> LOG_BITS, 63);
    }
}

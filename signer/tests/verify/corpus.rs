//! Messages, and signing them as the relay does.

use postern_signer::batch::{BatchSigner, Input, Job, KeyId, RingSigner, Ticket};
use postern_signer::canon::{Canonicalization, ContentHasher};
use postern_signer::dns;
use postern_signer::header::{Profile, Unsigned};
use postern_signer::key::{Algorithm, SigningKey};

const KEY: &[u8] = include_bytes!("../keys/rsa2048.pkcs8.pem");
const DOMAIN: &str = "example.org";
const SELECTOR: &str = "2026h2";
const ED25519_KEY: &[u8] = include_bytes!("../keys/ed25519.pem");
const ED25519_SELECTOR: &str = "2026h2-ed";
/// 2024-01-01: verifiers that read the clock refuse signatures from the future.
const NOW_UNIX_S: u64 = 1_704_067_200;

/// Header, then body.
pub(crate) type Pair = (Canonicalization, Canonicalization);

pub(crate) const PAIRS: [Pair; 4] = [
    (Canonicalization::Relaxed, Canonicalization::Relaxed),
    (Canonicalization::Relaxed, Canonicalization::Simple),
    (Canonicalization::Simple, Canonicalization::Relaxed),
    (Canonicalization::Simple, Canonicalization::Simple),
];

/// One content.
pub(crate) struct Message {
    pub(crate) name: &'static str,
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Who signs a message, in the order of the fields.
pub(crate) type Signers = &'static [Algorithm];

pub(crate) const RSA: Signers = &[Algorithm::RsaSha256];
pub(crate) const ED25519: Signers = &[Algorithm::Ed25519Sha256];
/// RFC 8463: both, for verifiers of either kind.
pub(crate) const BOTH: Signers = &[Algorithm::RsaSha256, Algorithm::Ed25519Sha256];

fn key(algorithm: Algorithm) -> SigningKey {
    let text = match algorithm {
        Algorithm::RsaSha256 => KEY,
        Algorithm::Ed25519Sha256 => ED25519_KEY,
    };
    SigningKey::from_pem(text).expect("is good")
}

fn selector(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RsaSha256 => SELECTOR,
        Algorithm::Ed25519Sha256 => ED25519_SELECTOR,
    }
}

/// What is published for the keys: the name and the text of each record.
pub(crate) fn records() -> [(String, String); 2] {
    [Algorithm::RsaSha256, Algorithm::Ed25519Sha256].map(|algorithm| {
        let selector = selector(algorithm).parse().expect("is valid");
        let domain = DOMAIN.parse().expect("is valid");
        (dns::record_name(&selector, &domain), dns::record_text(&key(algorithm).public()))
    })
}

/// Signs; the content arrives in chunks of `chunk_bytes`.
pub(crate) fn sign(
    message: &Message,
    (header, body): Pair,
    signers: Signers,
    chunk_bytes: usize,
) -> Vec<u8> {
    let content = message.content();
    let mut hasher = ContentHasher::new(body);
    content.chunks(chunk_bytes).for_each(|chunk| hasher.update(chunk));
    let hash = hasher.finish();
    let header_bytes = usize::try_from(hash.header_bytes).expect("fits");
    let section: Vec<_> = content[..header_bytes].chunks(chunk_bytes).collect();
    let mut signed = Vec::new();
    for &algorithm in signers {
        let agent = format!("billing@mail.{DOMAIN}").parse().expect("is valid");
        let selector = selector(algorithm).parse().expect("is valid");
        let profile = Profile::new(DOMAIN.parse().expect("is valid"), selector)
            .with_algorithm(algorithm)
            .with_agent(agent)
            .expect("is inside")
            .with_header_canonicalization(header);
        let unsigned = profile.prepare(&section, &hash.body, NOW_UNIX_S).expect("has one From");
        signed.extend(unsigned.complete(&signature(&key(algorithm), &unsigned)));
    }
    [signed, content].concat()
}

fn signature(key: &SigningKey, unsigned: &Unsigned) -> Vec<u8> {
    match key {
        SigningKey::Ed25519(key) => key.sign(&unsigned.digest()).to_vec(),
        SigningKey::Rsa(key) => {
            let mut signer = RingSigner::new();
            signer.load(KeyId(1), key).expect("is taken");
            let input = Input::Canonical(unsigned.input());
            let mut done = Vec::new();
            signer.sign(&[Job { ticket: Ticket(0), key: KeyId(1), input }], &mut done);
            done.remove(0).result.expect("signs").as_bytes().to_vec()
        }
    }
}

/// The signed message with one letter of the body or of the subject changed.
pub(crate) fn spoil(signed: &[u8]) -> Vec<u8> {
    let mut spoiled = signed.to_vec();
    let subject = b"\r\nSubject:";
    let at = spoiled.windows(subject.len()).position(|window| window == subject);
    let letter = at.expect("every message has a subject") + subject.len() + 1;
    spoiled[letter] ^= 1;
    spoiled
}

impl Message {
    pub(crate) fn content(&self) -> Vec<u8> {
        [&self.header[..], b"\r\n", &self.body].concat()
    }

    /// Whether a body line of nothing but white space stands at the end, which mail-auth 0.13 does
    /// not treat as empty (RFC 6376 3.4.4 does).
    pub(crate) fn ends_in_white_space(&self) -> bool {
        let body = self.body.strip_suffix(b"\r\n").unwrap_or(&self.body);
        body.ends_with(b" ") || body.ends_with(b"\t")
    }
}

pub(crate) fn messages() -> Vec<Message> {
    let plain = "From: Billing <billing@example.org>\r\nTo: a@example.net\r\n\
        Subject: Invoice 42\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\
        Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";
    let folded = "RECEIVED: from x\r\n\tby y; z\r\nfrom:   \r\n billing@example.org\t\r\n\
        To: a@example.net,\r\n\tb@example.net,\r\n  c@example.net\r\nTo: d@example.net\r\n\
        Subject:  a \t b\r\n\tc  \r\nX-Other: not signed\r\nList-Unsubscribe: <https://e.example>\r\n\
        List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n";
    let twice = "X-Twice: one\r\nFrom: billing@example.org\r\nX-Twice: two\r\nSubject: first\r\n\
        Subject: second\r\n";
    let huge = format!("{plain}References:{}\r\n", "\r\n <1234567890@example.org>".repeat(2_000));
    let utf8 = "From: Gr\u{fc}n <billing@example.org>\r\nTo: \u{6771}@example.net\r\n\
        Subject: Gr\u{fc}\u{df}e \u{6771}\u{4eac}\r\n";
    let message = |name, header: &str, body: &[u8]| Message {
        name,
        header: header.into(),
        body: body.to_vec(),
    };
    let base64 = format!("{}\r\n", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJz")
        .repeat(900);
    vec![
        message("plain", plain, b"Hello,\r\n\r\nyour invoice.\r\n"),
        message("folded", folded, b"Hello\r\n"),
        message("duplicate-fields", twice, b"Hello\r\n"),
        message("huge-field", &huge, b"Hello\r\n"),
        message("utf-8-fields", utf8, b"Hello\r\n"),
        message("no-final-line-end", plain, b"Hello"),
        message("empty", plain, b""),
        message("one-empty-line", plain, b"\r\n"),
        message("trailing-empty-lines", plain, b"a\r\n\r\n\r\n\r\n"),
        message("leading-empty-lines", plain, b"\r\n\r\na\r\n"),
        message("white-space", plain, b" a\t\tb  c \r\n\t\r\n  d\t\r\n"),
        message("white-space-line-at-the-end", plain, b"hi\r\n \r\n"),
        message("white-space-lines-at-the-end", plain, b"hi\r\n\r\n \t\r\n\t\r\n"),
        message("eight-bit", plain, "Gr\u{fc}\u{df}e, \u{6771}\u{4eac}\r\n".as_bytes()),
        message("dots", plain, b".\r\n..\r\n. \r\n"),
        message("long-line", plain, &[&b"x".repeat(20_000)[..], b"\r\n"].concat()),
        message("base64", plain, base64.as_bytes()),
        message("text", plain, "Some words  and two spaces.\r\n".repeat(3_000).as_bytes()),
    ]
}

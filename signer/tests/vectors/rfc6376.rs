//! RFC 6376 appendix A: the message, its signature, and the key of appendix C. The key has 1,024 bits,
//! so that it can be verified with here and not signed with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_signer::canon::{Canonicalization, ContentHasher, FieldCanon};
use ring::signature::{RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RsaPublicKeyComponents};

/// A.2, up to the signature itself.
const SIGNATURE_FIELD: &str = "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n      \
    c=simple/simple; q=dns/txt; i=joe@football.example.com;\r\n      \
    h=Received : From : To : Subject : Date : Message-ID;\r\n      \
    bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n      b=;";

const SIGNATURE: &str = "AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB\
    4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut\
    KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV4bmp/YzhwvcubU4=";

/// In the order of `h=`, which is that of the message.
const FIELDS: [&str; 6] = [
    "Received: from client1.football.example.com  [192.0.2.1]\r\n      \
     by submitserver.example.com with SUBMISSION;\r\n      \
     Fri, 11 Jul 2003 21:01:54 -0700 (PDT)\r\n",
    "From: Joe SixPack <joe@football.example.com>\r\n",
    "To: Suzie Q <suzie@shopping.example.net>\r\n",
    "Subject: Is dinner ready?\r\n",
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n",
    "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n",
];

const BODY: &str = "Hi.\r\n\r\nWe lost the game. Are you hungry yet?\r\n\r\nJoe.\r\n";

/// Appendix C.
const PUBLIC_KEY: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkM\
    oGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/R\
    tdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToI\
    MmPSPDdQPNUYckcQ2QIDAQAB";

/// What is hashed, with the message handed over in pieces of so many octets.
fn input(piece_bytes: usize) -> Vec<u8> {
    let mut input = Vec::new();
    for field in FIELDS {
        let mut canon = FieldCanon::new(Canonicalization::Simple, &mut input);
        field.as_bytes().chunks(piece_bytes).for_each(|piece| canon.update(piece));
        canon.finish();
    }
    let mut canon = FieldCanon::new(Canonicalization::Simple, &mut input);
    SIGNATURE_FIELD.as_bytes().chunks(piece_bytes).for_each(|piece| canon.update(piece));
    canon.finish_open();
    input
}

fn verifies(input: &[u8]) -> bool {
    let key = STANDARD.decode(PUBLIC_KEY).expect("base64");
    // SubjectPublicKeyInfo of 1,024 bits: the modulus ends before `02 03 01 00 01`.
    let modulus = &key[key.len() - 5 - 128..key.len() - 5];
    let signature = STANDARD.decode(SIGNATURE).expect("base64");
    RsaPublicKeyComponents { n: modulus, e: &[1, 0, 1] }
        .verify(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, input, &signature)
        .is_ok()
}

#[test]
fn the_example_signature_is_over_what_we_hash() {
    for piece_bytes in [1, 7, 64, 4_096] {
        let mut hasher = ContentHasher::new(Canonicalization::Simple);
        let content = [FIELDS.concat().as_bytes(), b"\r\n", BODY.as_bytes()].concat();
        content.chunks(piece_bytes).for_each(|piece| hasher.update(piece));
        let hash = STANDARD.encode(hasher.finish().body.digest());
        assert_eq!(hash, "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=");
        assert!(verifies(&input(piece_bytes)));
    }
    let mut changed = input(64);
    changed[50] ^= 1;
    assert!(!verifies(&changed));
}

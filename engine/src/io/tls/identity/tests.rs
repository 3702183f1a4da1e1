//! What operators get wrong in PEM files, and what they are told.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::io::tls::generate::{Authority, self_signed};

fn now() -> Timestamp {
    "2026-06-15T12:00:00Z".parse().unwrap()
}

fn load(certificate: &str, key: &str) -> Result<Identity, PemError> {
    let (certificate_file, key_file) = (Path::new("cert.pem"), Path::new("key.pem"));
    Identity::from_pem(certificate_file, certificate.as_bytes(), key_file, key.as_bytes())
}

fn refused(certificate: &str, key: &str) -> String {
    load(certificate, key).err().expect("refused").to_string()
}

#[test]
fn a_good_pair_is_taken_in_any_order_and_with_commentary() {
    let authority = Authority::new("Test", now()).unwrap();
    let made = authority.issue(&["relay.test", "127.0.0.1", "::1"], now()).unwrap();
    let bundle = format!(
        "commentary\r\n{}\n{}subject=x\n{}",
        made.key_pem.as_str(),
        made.certificate_pem.replace('\n', "\r\n"),
        authority.certificate_pem()
    );
    let identity = load(&bundle, &bundle).unwrap();
    assert_eq!(identity.names(), ["relay.test", "127.0.0.1", "::1"]);
    assert_eq!(identity.certified_key.cert.len(), 2);
    assert_eq!(identity.warnings(now()), []);
    assert_eq!(identity.not_after().to_string(), "2027-07-17T00:00:00Z");
}

#[test]
fn what_is_wrong_is_told_with_file_and_line() {
    let made = self_signed(&["relay.test"], now()).unwrap();
    let other = self_signed(&["relay.test"], now()).unwrap();
    let (good, key) = (made.certificate_pem.as_str(), made.key_pem.as_str());
    let lines = |text: &str, from: usize, to: usize| {
        text.lines().skip(from).take(to - from).collect::<Vec<_>>().join("\n")
    };
    let count = good.lines().count();
    let headless = lines(good, 1, count);
    let endless = lines(good, 0, count - 1);
    let garbled = good.replacen('M', "!", 3);
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let two_keys = format!("{key}{}", other.key_pem.as_str());
    let pkcs8 = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let traditional = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                       DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let dsa = key.replace("PRIVATE KEY", "DSA PRIVATE KEY");
    let nested = format!("{}\n{good}", lines(good, 0, 3));

    let cases: &[(&str, &str, &str)] = &[
        ("", key, "cert.pem: is not PEM"),
        ("\x30\x02\x01\x00", key, "cert.pem: is not PEM"),
        (&headless, key, "cert.pem: is not PEM"),
        (&endless, key, "cert.pem: line 1: `-----BEGIN CERTIFICATE-----` has no matching"),
        (&nested, key, "cert.pem: line 1: `-----BEGIN CERTIFICATE-----` has no matching"),
        ("-----BEGIN CERTIFICATE\n", key, "cert.pem: line 1: the `-----BEGIN` line is damaged"),
        (&garbled, key, "cert.pem: line 1: the section `CERTIFICATE` is damaged"),
        (empty, key, "cert.pem: line 1: not a valid certificate"),
        (key, key, "cert.pem: has no `CERTIFICATE` section (found: PRIVATE KEY)"),
        (good, good, "key.pem: has no private key (found: CERTIFICATE)"),
        (good, "", "key.pem: is not PEM"),
        (good, &two_keys, "key.pem: line 6: a second private key"),
        (good, &pkcs8, "key.pem: line 1: the private key is encrypted"),
        (good, traditional, "key.pem: line 1: the private key is encrypted"),
        (good, &dsa, "key.pem: the private key cannot be used: `DSA PRIVATE KEY`"),
        (
            good,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "key.pem: the priv",
        ),
        (good, other.key_pem.as_str(), "key.pem: the private key does not belong to the first"),
    ];
    for (certificate, key, told) in cases {
        let text = refused(certificate, key);
        assert!(text.starts_with(told), "{text:?} should start with {told:?}");
    }
    // A chain is checked to its end, and the line is that of the bad one.
    let text = refused(&format!("{good}{empty}"), key);
    let line = count + 1;
    assert!(text.starts_with(&format!("cert.pem: line {line}: not a valid")), "{text}");
}

#[test]
fn no_message_repeats_key_material() {
    let made = self_signed(&["relay.test"], now()).unwrap();
    let secret: String = made.key_pem.lines().nth(1).unwrap().to_owned();
    let damaged = made.key_pem.replace(&secret, &format!("{secret}!"));
    for key in [damaged.as_str(), made.key_pem.trim_end().trim_end_matches('-')] {
        let text = refused(&made.certificate_pem, key);
        assert!(!text.contains(&secret[..8]), "{text}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let missing = Path::new("/nonexistent/cert.pem");
    let text = Identity::load(missing, missing).err().unwrap().to_string();
    assert!(text.starts_with("/nonexistent/cert.pem: cannot be read:"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large.pem");
    fs::write(&large, vec![b'x'; 2 << 20]).unwrap();
    let text = read_certificates(&large).err().unwrap().to_string();
    assert!(text.ends_with("is larger than 1048576 bytes"), "{text}");
}

#[test]
fn dates_are_warnings() {
    let made = self_signed(&["relay.test"], now()).unwrap();
    let identity = load(&made.certificate_pem, &made.key_pem).unwrap();
    let told = |moment: &str| -> Vec<String> {
        let warnings = identity.warnings(moment.parse().unwrap());
        warnings.iter().map(ToString::to_string).collect()
    };
    assert_eq!(told("2026-06-15T00:00:00Z"), [""; 0]);
    assert_eq!(
        told("2026-01-01T00:00:00Z"),
        ["cert.pem: the certificate is not valid before 2026-06-14T00:00:00Z"]
    );
    assert_eq!(
        told("2027-07-10T00:00:00Z"),
        ["cert.pem: the certificate expires at 2027-07-17T00:00:00Z"]
    );
    assert_eq!(
        told("2027-08-01T00:00:00Z"),
        ["cert.pem: the certificate expired at 2027-07-17T00:00:00Z"]
    );
}

#[test]
fn a_certificate_without_names_is_a_warning() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    let identity = load(&certificate, &key.serialize_pem()).unwrap();
    assert_eq!(
        identity.warnings(now()),
        [IdentityWarning::NoNames { file: PathBuf::from("cert.pem") }]
    );
}

#[test]
fn generated_names_are_checked() {
    assert!(self_signed(&["not a host ✉"], now()).is_err());
}

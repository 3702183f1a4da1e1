//! Golden tests: broken configurations and exactly what is said about them, and good ones with the
//! snapshot they give.
//!
//! `golden/NAME.toml` is read, `golden/NAME.txt` is what must come out. To accept a changed output,
//! run the test with `POSTERN_GOLDEN=write` and read the difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_signer::key::Ed25519PrivateKey;

use super::*;

mod golden_tests;
mod good;
mod signing;

/// A machine with four cores where `/memory` is a tmpfs and every PEM file is what its name says.
pub(super) const SURROUNDINGS: Surroundings = Surroundings {
    cores: || vec![0, 1, 2, 3],
    is_volatile: |path| path.starts_with("/memory"),
    identity: |certificate, key| {
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match (&*name(certificate), &*name(key)) {
            ("expired.pem", _) => Ok(vec!["the certificate has expired".to_owned()]),
            ("missing.pem", _) => {
                Err(BadIdentity { in_key: false, problem: "missing.pem: no such file".to_owned() })
            }
            (_, "other.pem") => Err(BadIdentity {
                in_key: true,
                problem: "the private key does not belong to the certificate".to_owned(),
            }),
            _ => Ok(Vec::new()),
        }
    },
    certificates: |path| match path.ends_with("bad-ca.pem") {
        true => Err("bad-ca.pem: not a certificate".to_owned()),
        false => Ok(()),
    },
};

/// Where the files that the test configurations name are made.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, content).expect("a writable folder");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&path, mode).expect("an own file");
        };
        write("seal.key", &[7; 32]);
        write("short.key", &[7; 8]);
        write("smarthost.password", b"hunter2\r\nignored\n");
        write("empty.password", b"\n");
        write("tsig.secret", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
        write("dkim.pem", KEY_2048.as_bytes());
        write("dkim-1024.pem", KEY_1024.as_bytes());
        let key = Ed25519PrivateKey::generate().expect("a key");
        write("dkim-ed25519.pem", key.to_pkcs8_pem().as_bytes());
        write("not-a-key.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("postern.toml")
    }

    fn parse(&self, source: &str) -> Result<Loaded, Report> {
        parse(&self.path(), source, &SURROUNDINGS)
    }

    /// Takes the folder's name out of a text.
    fn anonymous(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

const KEY_2048: &str = include_str!("key-2048.pem");
const KEY_1024: &str = include_str!("key-1024.pem");

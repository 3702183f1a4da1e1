//! dkimpy and OpenDKIM, over files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use postern_signer::canon::Canonicalization;
use tempfile::TempDir;

use crate::corpus::{Message, PAIRS, Pair, messages, record, sign, spoil};

/// Prints the name of each file given whose signature verifies.
const DKIMPY: &str = "
import sys, dkim
text = sys.argv[1].encode()
for path in sys.argv[2:]:
    message = open(path, 'rb').read()
    if dkim.verify(message, dnsfunc=lambda name, timeout=5: text):
        print(path)
";

#[test]
fn dkimpy_verifies() {
    if !succeeds(Command::new("python3").args(["-c", "import dkim"])) {
        return skip("dkimpy");
    }
    let files = SignedFiles::write(|_, _| true);
    let (_, text) = record();
    let output = Command::new("python3")
        .args(["-c", DKIMPY, &text])
        .args(files.good.iter().chain(&files.spoiled))
        .output()
        .expect("python3 is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("is UTF-8");
    let passed: Vec<_> = printed.lines().map(PathBuf::from).collect();
    assert_eq!(passed, files.good);
}

#[test]
fn opendkim_verifies() {
    let Some(program) = find("opendkim") else { return skip("opendkim") };
    // Its test mode takes header fields apart as a milter would and puts them together with one
    // space after the colon, which simple header canonicalisation does not survive.
    let survives = |message: &Message, pair: Pair| {
        message.name != "folded" || pair.0 == Canonicalization::Relaxed
    };
    let files = SignedFiles::write(survives);
    let (name, text) = record();
    let keys = files.folder.path().join("keys");
    fs::write(&keys, format!("{name} {text}\n")).expect("is writable");
    let configuration = files.folder.path().join("opendkim.conf");
    let settings = format!("Mode v\nTestPublicKeys {}\n", keys.display());
    fs::write(&configuration, settings).expect("is writable");
    for path in files.good.iter().chain(&files.spoiled) {
        let output = Command::new(&program)
            .arg("-x")
            .arg(&configuration)
            .arg("-t")
            .arg(path)
            .output()
            .expect("opendkim is there");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let passed = said.contains("verification (s=") && said.contains("succeeded");
        assert_eq!(passed, files.good.contains(path), "{}: {said}", path.display());
    }
}

/// The corpus on disk, signed.
struct SignedFiles {
    folder: TempDir,
    good: Vec<PathBuf>,
    spoiled: Vec<PathBuf>,
}

impl SignedFiles {
    fn write(wanted: impl Fn(&Message, Pair) -> bool) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut files = Self { folder, good: Vec::new(), spoiled: Vec::new() };
        for message in messages() {
            for pair in PAIRS.into_iter().filter(|&pair| wanted(&message, pair)) {
                let name = format!("{}.{}.{}", message.name, pair.0, pair.1);
                let signed = sign(&message, pair, 1_000);
                files.good.push(write(files.folder.path(), &name, &signed));
                let spoiled = spoil(&signed);
                files.spoiled.push(write(files.folder.path(), &format!("{name}.bad"), &spoiled));
            }
        }
        files
    }
}

fn write(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).expect("is writable");
    path
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Says so past the capture of passing tests' output.
fn skip(name: &str) {
    let required = std::env::var("POSTERN_REQUIRE").unwrap_or_default();
    let is_required = required.split([',', ' ']).any(|word| word == "all" || word == name);
    assert!(!is_required, "{name} is required here and absent");
    let line = format!("skipped: {name} absent\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
}

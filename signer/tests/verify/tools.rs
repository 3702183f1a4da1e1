//! dkimpy, OpenDKIM and Perl's Mail::DKIM, over files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use postern_signer::canon::Canonicalization;
use tempfile::TempDir;

use crate::corpus::{
    BOTH, ED25519, Message, PAIRS, Pair, RSA, Signers, messages, records, sign, spoil,
};
use crate::skip::skip;

/// Prints the name of each file all of whose signatures verify. Records: name, text, name, text.
const DKIMPY: &str = "
import sys, dkim
records = {sys.argv[1] + '.': sys.argv[2], sys.argv[3] + '.': sys.argv[4]}
def ask(name, timeout=5):
    return records[name.decode()].encode()
for path in sys.argv[5:]:
    message = open(path, 'rb').read()
    count = message.count(b'DKIM-Signature: ')
    if count and all(dkim.DKIM(message).verify(idx=i, dnsfunc=ask) for i in range(count)):
        print(path)
";

/// Prints the name of each file whose RSA signature verifies: Mail::DKIM of Debian 12 and 13 has no
/// Ed25519 and passes over such fields.
const MAIL_DKIM: &str = r#"
use strict; use warnings; use Mail::DKIM::Verifier; use Net::DNS::RR;
my %records = splice(@ARGV, 0, 4);
{
    no warnings 'redefine';
    *Mail::DKIM::DNS::query = sub {
        my ($name) = @_;
        my @strings = unpack('(A255)*', $records{$name} // return);
        $@ = 'NOERROR';
        return Net::DNS::RR->new(owner => $name, type => 'TXT', txtdata => \@strings);
    };
}
for my $path (@ARGV) {
    open(my $file, '<:raw', $path) or die $!;
    my $verifier = Mail::DKIM::Verifier->new;
    while (my $line = <$file>) { $verifier->PRINT($line) }
    $verifier->CLOSE;
    print "$path\n" if $verifier->result eq 'pass';
}
"#;

#[test]
fn dkimpy_verifies() {
    if !succeeds(Command::new("python3").args(["-c", "import dkim"])) {
        return skip("dkim");
    }
    let mut kinds = vec![RSA];
    if succeeds(Command::new("python3").args(["-c", "import nacl"])) {
        kinds.extend([ED25519, BOTH]);
    } else {
        skip("nacl");
    }
    for signers in kinds {
        let files = SignedFiles::write(signers, |_, _| true);
        let output = Command::new("python3")
            .args(["-c", DKIMPY])
            .args(records().into_iter().flat_map(|(name, text)| [name, text]))
            .args(files.good.iter().chain(&files.spoiled))
            .output()
            .expect("python3 is there");
        files.check(output);
    }
}

#[test]
fn mail_dkim_verifies() {
    if !succeeds(Command::new("perl").args(["-MMail::DKIM::Verifier", "-e", "1"])) {
        return skip("Mail::DKIM");
    }
    // Its reader of lines wants the last one to end.
    let ends = |message: &Message, _| message.name != "no-final-line-end";
    for signers in [RSA, BOTH] {
        let files = SignedFiles::write(signers, ends);
        let script = files.folder.path().join("verify.pl");
        fs::write(&script, MAIL_DKIM).expect("is writable");
        let output = Command::new("perl")
            .arg(&script)
            .args(records().into_iter().flat_map(|(name, text)| [name, text]))
            .args(files.good.iter().chain(&files.spoiled))
            .output()
            .expect("perl is there");
        files.check(output);
    }
}

#[test]
fn opendkim_verifies() {
    let Some(program) = find("opendkim") else { return skip("opendkim") };
    // Its test mode takes header fields apart as a milter would and puts them together with one
    // space after the colon, which simple header canonicalisation does not survive; a field of many
    // KiB it folds anew; and it takes a body of one unended line for part of the header.
    let survives = |message: &Message, pair: Pair| match message.name {
        "folded" | "huge-field" => pair.0 == Canonicalization::Relaxed,
        "no-final-line-end" => false,
        _ => true,
    };
    // Debian's is built without Ed25519, and takes no notice of such signatures beside RSA's.
    for signers in [RSA, BOTH] {
        let files = SignedFiles::write(signers, survives);
        let keys = files.folder.path().join("keys");
        let lines = records().map(|(name, text)| format!("{name} {text}\n"));
        fs::write(&keys, lines.concat()).expect("is writable");
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
}

/// The corpus on disk, signed.
struct SignedFiles {
    folder: TempDir,
    good: Vec<PathBuf>,
    spoiled: Vec<PathBuf>,
}

impl SignedFiles {
    fn write(signers: Signers, wanted: impl Fn(&Message, Pair) -> bool) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut files = Self { folder, good: Vec::new(), spoiled: Vec::new() };
        for message in messages() {
            for pair in PAIRS.into_iter().filter(|&pair| wanted(&message, pair)) {
                let name = format!("{}.{}.{}", message.name, pair.0, pair.1);
                let signed = sign(&message, pair, signers, 1_000);
                files.good.push(write(files.folder.path(), &name, &signed));
                let spoiled = spoil(&signed);
                files.spoiled.push(write(files.folder.path(), &format!("{name}.bad"), &spoiled));
            }
        }
        files
    }

    /// A verifier has printed what passed: all that is good and nothing that is spoiled.
    fn check(&self, output: Output) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).expect("is UTF-8");
        let passed: Vec<_> = printed.lines().map(PathBuf::from).collect();
        let missing: Vec<_> = self.good.iter().filter(|path| !passed.contains(path)).collect();
        assert!(missing.is_empty(), "did not pass: {missing:?}");
        assert_eq!(passed, self.good);
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

//! NIST CAVP's vectors for RSASSA-PKCS1-v1_5 (FIPS 186-3), as the Python module
//! `cryptography-vectors` carries them. They publish no private keys, so they test the verification
//! that watches our signers: each of their signatures is accepted, each with its verdict.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

use postern_signer::key::RsaPublicKey;

use crate::skip::skip;

#[test]
fn generated_signatures() {
    let Some(text) = vectors("SigGen15_186-3.rsp") else { return };
    let mut verified = 0;
    for vector in read(&text) {
        if vector["SHAAlg"] != "SHA256" || vector["n"].len() < 2 * 256 {
            continue;
        }
        assert!(verifies(&vector), "{}", vector["Msg"]);
        verified += 1;
    }
    println!("{verified} signatures");
    assert!(verified >= 20);
}

#[test]
fn verdicts() {
    let Some(text) = vectors("SigVer15_186-3.rsp") else { return };
    let (mut accepted, mut refused) = (0, 0);
    for vector in read(&text) {
        if vector["SHAAlg"] != "SHA256" || vector["n"].len() < 2 * 256 {
            continue;
        }
        let expected = vector["Result"].starts_with('P');
        assert_eq!(verifies(&vector), expected, "{}", vector["Msg"]);
        if expected { accepted += 1 } else { refused += 1 }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > 0 && refused > 0);
}

/// The text of a file of vectors; `None`, with the reason told, where it is not installed.
fn vectors(name: &str) -> Option<String> {
    const WHERE: &str = "import cryptography_vectors as v, os; print(os.path.dirname(v.__file__))";
    let asked = Command::new("python3").args(["-c", WHERE]).output();
    let found = asked.ok().filter(|found| found.status.success());
    let Some(found) = found else {
        skip("cryptography_vectors");
        return None;
    };
    let mut path = PathBuf::from(String::from_utf8(found.stdout).expect("is text").trim());
    path.extend(["asymmetric", "RSA", "FIPS_186-2", name]);
    Some(std::fs::read_to_string(path).expect("is in the module"))
}

/// One map a vector: what stands above it holds until it changes.
fn read(text: &str) -> Vec<HashMap<String, String>> {
    let mut standing: HashMap<String, String> = HashMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(" = ") else { continue };
        standing.insert(name.trim().to_owned(), value.trim().to_owned());
        if matches!((name.trim(), standing.contains_key("p")), ("S", false) | ("Result", _)) {
            found.push(standing.clone());
        }
    }
    found
}

fn verifies(vector: &HashMap<String, String>) -> bool {
    let bytes = |name: &str| unhex(&vector[name]);
    RsaPublicKey::from_numbers(&bytes("n"), &bytes("e")).verifies(&bytes("Msg"), &bytes("S"))
}

fn unhex(text: &str) -> Vec<u8> {
    let padded = if text.len().is_multiple_of(2) { text.to_owned() } else { format!("0{text}") };
    (0..padded.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&padded[at..at + 2], 16).expect("is hexadecimal"))
        .collect()
}

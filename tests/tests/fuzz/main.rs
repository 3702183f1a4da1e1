//! Every fuzz body on the stable compiler: the corpora are replayed, then mutated from a seed.
//!
//! This is no substitute for coverage-guided fuzzing (`docs/testing.md` says how to run that), but
//! it runs everywhere, and an input that once failed stays in the corpus and fails again.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use postern_tests::message::{Seed, seed};
use postern_tests::source;

/// An input never grows beyond this.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// What a protocol stumbles over, spliced into inputs.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b".",
    b"\r\n.\r\n",
    b"\n.\n",
    b"..",
    b" ",
    b"\t",
    b"<>",
    b"@",
    b":",
    b"EHLO a\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"RCPT TO:<c@d>\r\n",
    b"DATA\r\n",
    b"BDAT 3 LAST\r\n",
    b"BDAT 18446744073709551615\r\n",
    b"RSET\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN ",
    b"QUIT\r\n",
    b"SIZE=9",
    b"=?utf-8?B?",
    b"?=",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"--b\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"4111111111111111",
    b"=0D=0A",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xc3\x28",
    b"\x1b$B",
];

fn rounds() -> u64 {
    let given = std::env::var("POSTERN_FUZZ_ROUNDS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// A fuzz body, and where its corpus lies: beside the crate that owns it, or here.
struct Target {
    name: &'static str,
    corpus: &'static str,
    body: fn(&[u8]),
}

const TARGETS: [Target; 5] = [
    Target { name: "canon", corpus: "signer/corpus/canon", body: postern_signer::fuzz::fuzz_canon },
    Target { name: "key", corpus: "signer/corpus/key", body: postern_signer::fuzz::fuzz_key },
    Target {
        name: "smtp_client",
        corpus: "engine/smtp/corpus/client",
        body: |data| postern_smtp::fuzz::fuzz_client(data, Instant::now()),
    },
    Target {
        name: "smtp_server",
        corpus: "engine/smtp/corpus/server",
        body: |data| postern_smtp::fuzz::fuzz_server(data, Instant::now()),
    },
    Target {
        name: "spool_recovery",
        corpus: "tests/fuzz/corpus/spool_recovery",
        body: postern::spool::fuzz_recover,
    },
];

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(source::root().join(target.corpus))
        .unwrap_or_else(|why| panic!("no corpus at {}: {why}", target.corpus))
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a readable corpus")).collect()
}

/// Runs one input; where it fails, keeps it and says how to replay it.
fn run(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.body)(input))).is_err() {
        let name = format!("postern-fuzz-{}-{}", target.name, input.len());
        let kept = std::env::temp_dir().join(name);
        fs::write(&kept, input).expect("a writable folder");
        panic!("{} failed; put {} into {}", target.name, kept.display(), target.corpus);
    }
}

fn replay_and_mutate(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of the table");
    let inputs = corpus(target);
    assert!(!inputs.is_empty(), "the corpus of {name} is empty");
    inputs.iter().for_each(|input| run(target, input));
    let mut seed = seed(name);
    for _ in 0..rounds() {
        let mut input = pick(&mut seed, &inputs).clone();
        for _ in 0..=seed.below(6) {
            mutate(&mut seed, &mut input, &inputs);
        }
        input.truncate(INPUT_BYTES_MAX);
        run(target, &input);
    }
}

fn pick<'a, T>(seed: &mut Seed, all: &'a [T]) -> &'a T {
    &all[place(seed, all.len())]
}

/// A place below `bound`, or 0.
fn place(seed: &mut Seed, bound: usize) -> usize {
    usize::try_from(seed.below(bound as u64)).expect("below a usize")
}

fn byte(seed: &mut Seed) -> u8 {
    seed.next().to_be_bytes()[0]
}

fn mutate(seed: &mut Seed, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
    let at = place(seed, input.len() + 1);
    let end = at + place(seed, (input.len() - at).min(64) + 1);
    match seed.below(8) {
        0 if at < input.len() => input[at] ^= 1 << seed.below(8),
        1 if at < input.len() => input[at] = byte(seed),
        2 => drop(input.drain(at..end)),
        3 => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        4 => {
            let word = pick(seed, WORDS);
            input.splice(at..at, word.iter().copied());
        }
        5 => {
            let word = pick(seed, WORDS);
            let end = (at + word.len()).min(input.len());
            input.splice(at..end, word.iter().copied());
        }
        6 => {
            let other = pick(seed, inputs);
            let from = place(seed, other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.truncate(at),
    }
}

#[test]
fn canon() {
    replay_and_mutate("canon");
}

#[test]
fn key() {
    replay_and_mutate("key");
}

#[test]
fn spool_recovery() {
    replay_and_mutate("spool_recovery");
}

#[test]
fn smtp_server() {
    replay_and_mutate("smtp_server");
}

#[test]
fn smtp_client() {
    replay_and_mutate("smtp_client");
}

/// Each target is known here and to cargo-fuzz, in a file of its own.
#[test]
fn every_target_is_replayed() {
    let folder = source::root().join("tests/fuzz/fuzz_targets");
    let mut files: Vec<String> = fs::read_dir(folder)
        .expect("the targets")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned())
        .collect();
    files.sort();
    assert_eq!(files, TARGETS.map(|target| target.name));
    let manifest = fs::read_to_string(source::root().join("tests/fuzz/Cargo.toml")).expect("it");
    assert!(TARGETS.iter().all(|target| manifest.contains(&format!("{:?}", target.name))));
}

#[test]
fn mutations_are_repeated_by_their_seed() {
    let inputs = vec![b"EHLO a\r\n".to_vec(), b"QUIT\r\n".to_vec()];
    let run = || {
        let mut seed = Seed(7);
        let mut input = inputs[0].clone();
        for _ in 0..100 {
            mutate(&mut seed, &mut input, &inputs);
        }
        input
    };
    assert_eq!(run(), run());
}

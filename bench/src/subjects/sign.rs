//! RSA-2048 signatures, each checked against the public key before it is given out: the signer's
//! backend in full and in partial batches, beside ring, aws-lc-rs and OpenSSL.
//!
//! The peers in this process do what the signer does: hash the canonical header, sign, check.
//! OpenSSL measures itself: `openssl speed` runs as a child on the same core in the same rounds and
//! reports its own user CPU time of the EVP signature without a hash of the message (0.4 us). It
//! needs no binding and no `unsafe` here; and its figure is the one that others publish.

use std::hint::black_box;
use std::io;
use std::process::{Command, Stdio};

use aws_lc_rs::rsa::KeyPair as AwsKey;
use postern_signer::batch::{self, BatchSigner, Input, Job, KeyId, SignerOptions, Ticket};
use postern_signer::key::{OsRandom, RsaPrivateKey};
use ring::rand::SystemRandom;
use ring::signature::RsaKeyPair;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use super::{Report, Subject};
use crate::case::{Case, Unit};
use crate::rig::cpu::thread_cost_ns;
use crate::rig::place;
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "sign", about: "RSA-2048 signatures, checked, one core", run };

/// About what the canonical header of a message comes to.
const HEADER_BYTES: usize = 800;
/// Signatures a round; a peer needs a tenth of a second for them.
const SIGNATURES: u64 = 240;

/// How many times better than each peer the IFMA backend should be.
const OVER_RING: f64 = 4.2;
const OVER_AWS_LC: f64 = 1.85;

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    place::pin(place::SERVER_CORE);
    let mut bench = Bench::open()?;
    full_batches(effort, report, &mut bench)?;
    partial_batches(effort, report, &mut bench)
}

fn full_batches(effort: &Effort, report: &mut dyn Report, bench: &mut Bench) -> io::Result<()> {
    let count = effort.messages(SIGNATURES);
    let (name, lanes) = (bench.signer.name(), bench.signer.lanes());
    let Bench { signer, messages, ring, aws, .. } = bench;
    let messages: &[Vec<u8>] = messages;
    let passes = count.div_ceil(lanes as u64);
    let mut ours = || {
        let nanos = thread_cost_ns(|| (0..passes).for_each(|_| pass(&mut **signer, messages)));
        Ok(super::micros_each(nanos, passes * lanes as u64))
    };
    let mut by_ring = || each_message(count, messages, |message| ring_sign(ring, message));
    let mut by_aws = || each_message(count, messages, |message| aws_sign(aws, message));
    let mut by_openssl = || Ok(openssl_micros());
    let is_there = openssl_micros().is_finite();
    if !is_there {
        report.note("skipped: `openssl speed` is not installed or gave no figure");
    }
    let mut contestants: Vec<&mut dyn FnMut() -> io::Result<f64>> =
        vec![&mut ours, &mut by_ring, &mut by_aws];
    if is_there {
        contestants.push(&mut by_openssl);
    }
    let medians = effort.medians(&mut contestants)?;
    let input = format!("{name}, {lanes} of {lanes} lanes");
    let is_ifma = name == "ifma";
    let peers =
        [("ring", Some(OVER_RING)), ("aws-lc-rs", Some(OVER_AWS_LC)), ("openssl speed", None)];
    for (index, (peer, over)) in peers.into_iter().enumerate() {
        let figure = medians.get(index + 1).copied();
        let case = Case::new(SUBJECT.name, &*input, medians[0], Unit::MicrosPerMessage);
        let case = case.beside(peer, figure);
        let most = figure.zip(over).filter(|_| is_ifma).map(|(figure, over)| figure / over);
        report.case(if let Some(most) = most { case.goal(most) } else { case });
    }
    Ok(())
}

/// What a pass costs when less waits than it could take, which is also how long those who wait for
/// it wait; beside ring, one by one.
fn partial_batches(effort: &Effort, report: &mut dyn Report, bench: &mut Bench) -> io::Result<()> {
    let (name, lanes) = (bench.signer.name(), bench.signer.lanes());
    let Bench { signer, messages, ring, .. } = bench;
    let passes = effort.messages(SIGNATURES).div_ceil(lanes as u64);
    for filled in 1..lanes {
        let messages = &messages[..filled];
        let mut ours = || {
            let nanos = thread_cost_ns(|| (0..passes).for_each(|_| pass(&mut **signer, messages)));
            Ok(super::micros_each(nanos, passes))
        };
        let mut by_ring = || {
            let count = passes * filled as u64;
            let micros = each_message(count, messages, |message| ring_sign(ring, message))?;
            Ok(micros * super::each(count as f64, passes))
        };
        let medians = effort.medians(&mut [&mut ours, &mut by_ring])?;
        let input = format!("{name}, {filled} of {lanes} lanes");
        let case = Case::new(SUBJECT.name, input, medians[0], Unit::MicrosPerPass);
        report.case(case.beside("ring, one by one", Some(medians[1])));
    }
    Ok(())
}

/// The signer and the peers, with one key, and what is signed.
struct Bench {
    signer: Box<dyn BatchSigner>,
    ring: RsaKeyPair,
    aws: AwsKey,
    /// One for each lane.
    messages: Vec<Vec<u8>>,
}

impl Bench {
    /// Makes a key, loads it everywhere, and checks that all give the same signatures.
    fn open() -> io::Result<Self> {
        let key = RsaPrivateKey::generate(2048, &mut OsRandom::new()).map_err(io::Error::other)?;
        let mut signer = batch::open(&SignerOptions::default()).map_err(io::Error::other)?;
        signer.load(KEY, &key).map_err(io::Error::other)?;
        let pem = key.to_pkcs8_pem();
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(io::Error::other)?;
        let der = der.secret_pkcs8_der();
        let ring = RsaKeyPair::from_pkcs8(der).map_err(io::Error::other)?;
        let aws = AwsKey::from_pkcs8(der).map_err(io::Error::other)?;
        let lanes = u8::try_from(signer.lanes()).unwrap_or(u8::MAX);
        let messages = (0..lanes).map(|n| vec![b'a' + n % 26; HEADER_BYTES]).collect();
        let mut bench = Self { signer, ring, aws, messages };
        bench.check()?;
        Ok(bench)
    }

    fn check(&mut self) -> io::Result<()> {
        let mut done = Vec::new();
        self.signer.sign(&jobs(&self.messages), &mut done);
        for (message, signed) in self.messages.iter().zip(done) {
            let ours = signed.result.map_err(io::Error::other)?;
            if ours.as_bytes() != ring_sign(&self.ring, message)
                || ours.as_bytes() != aws_sign(&self.aws, message)
            {
                return Err(io::Error::other("the signatures differ; nothing is measured"));
            }
        }
        Ok(())
    }
}

fn jobs(messages: &[Vec<u8>]) -> Vec<Job<'_>> {
    (0..)
        .zip(messages)
        .map(|(n, message)| Job { ticket: Ticket(n), key: KEY, input: Input::Canonical(message) })
        .collect()
}

fn pass(signer: &mut dyn BatchSigner, messages: &[Vec<u8>]) {
    let mut done = Vec::with_capacity(messages.len());
    signer.sign(&jobs(messages), &mut done);
    assert!(done.iter().all(|signed| signed.result.is_ok()), "a signature is missing");
    black_box(&done);
}

/// Signs `count` times, message after message; returns the microseconds of each.
fn each_message(
    count: u64,
    messages: &[Vec<u8>],
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> io::Result<f64> {
    let work = || {
        (0..count).zip(messages.iter().cycle()).for_each(|(_, message)| {
            black_box(sign(message));
        });
    };
    Ok(super::micros_each(thread_cost_ns(work), count))
}

fn ring_sign(key: &RsaKeyPair, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public().modulus_len()];
    let padding = &ring::signature::RSA_PKCS1_SHA256;
    let signed = key.sign(padding, &SystemRandom::new(), message, &mut signature);
    signed.map_or_else(|_| Vec::new(), |()| signature)
}

fn aws_sign(key: &AwsKey, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
    let random = aws_lc_rs::rand::SystemRandom::new();
    let signed = key.sign(padding, &random, message, &mut signature);
    signed.map_or_else(|_| Vec::new(), |()| signature)
}

/// One second of OpenSSL signing; not finite where it cannot be had.
fn openssl_micros() -> f64 {
    let output = Command::new("openssl")
        .args(["speed", "-mr", "-seconds", "1", "rsa2048"])
        .stderr(Stdio::null())
        .output();
    output
        .ok()
        .and_then(|output| speed_micros(&String::from_utf8_lossy(&output.stdout)))
        .unwrap_or(f64::NAN)
}

/// Reads `+F2:index:bits:signatures a second:verifications a second`.
fn speed_micros(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("+F2:"))?;
    let rate: f64 = line.split(':').nth(2)?.parse().ok()?;
    (rate > 0.0).then_some(1e6 / rate)
}

const KEY: KeyId = KeyId(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_give_the_same_signatures() {
        Bench::open().expect("a key, and equal signatures");
    }

    #[test]
    fn the_line_of_openssl_is_read() {
        let text = "version: 3.0\n+F2:2:2048:4000.000000:60941.304348\n";
        let micros = speed_micros(text).expect("a figure");
        assert!((micros - 250.0).abs() < 1e-6, "{micros}");
        assert_eq!(speed_micros("nothing"), None);
    }
}

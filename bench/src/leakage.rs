//! Does the time of a signature depend on what must stay secret? Welch's t over many passes of the
//! default signer, in the manner of dudect (Reparaz, Balasch, Verbauwhede: "dude, is my code
//! constant time?", 2017).
//!
//! Two questions, each with two classes whose samples are taken in random order, from the same
//! memory, in one thread:
//!
//! - **message**: one fixed message, or a random one of the same length;
//! - **key**: one key, or another, loaded in turns under the same id. Both would otherwise lie in
//!   pages of their own, and where a key lies tells more in time than what it is.
//!
//! Samples above the 90th percentile of both classes together are interrupts and neighbours, and
//! are left out. |t| above 4.5 says that the classes differ; below, that no difference was found in
//! so many samples. The figure is for people to read: no test asserts a time.

use std::io;

use postern_signer::batch::{BatchSigner, Input, Job, KeyId, SignerOptions, Ticket, open};
use postern_signer::key::{OsRandom, RsaPrivateKey};

use crate::rig::cpu::thread_cost_ns;
use crate::rig::place;

/// What was found for one question.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Between what the classes are.
    pub question: &'static str,
    /// Which backend signed.
    pub backend: &'static str,
    /// Samples of both classes together.
    pub samples: usize,
    /// Welch's t.
    pub t: f64,
    /// Mean of each class, nanoseconds of CPU time.
    pub means_ns: [f64; 2],
}

/// Measures both questions.
///
/// # Errors
/// Where no key can be made or no signer opened.
pub fn run(samples: usize, tell: &mut dyn FnMut(Verdict)) -> io::Result<()> {
    place::pin(place::SERVER_CORE);
    let mut signer = open(&SignerOptions::default()).map_err(io::Error::other)?;
    let make = || RsaPrivateKey::generate(2048, &mut OsRandom::new()).map_err(io::Error::other);
    let keys = [make()?, make()?];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for question in ["message", "key"] {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..samples {
            let class = random.class();
            let (key, message) = match question {
                "message" => (0, if class == 0 { FIXED } else { random.message() }),
                _ => (class, random.message()),
            };
            times[class].push(sample(&mut *signer, &keys[key], &message));
        }
        let (t, means_ns) = welch(times);
        let backend = signer.name();
        tell(Verdict { question, backend, samples, t, means_ns });
    }
    Ok(())
}

/// Loads a key into the same place as the one before, warms it up, and times one full pass.
fn sample(signer: &mut dyn BatchSigner, key: &RsaPrivateKey, message: &[u8; 64]) -> f64 {
    const ID: KeyId = KeyId(1);
    signer.unload(ID);
    signer.load(ID, key).expect("was loaded before");
    let mut done = Vec::with_capacity(8);
    let jobs = [Job { ticket: Ticket(0), key: ID, input: Input::Canonical(&[7; 64]) }; LANES];
    signer.sign(&jobs, &mut done);
    let jobs = jobs.map(|job| Job { input: Input::Canonical(message), ..job });
    done.clear();
    let time = thread_cost_ns(|| signer.sign(&jobs, &mut done));
    assert!(done.iter().all(|signed| signed.result.is_ok()), "a signature failed");
    time
}

/// Welch's t of what lies below the 90th percentile of both classes together, and their means.
fn welch(mut times: [Vec<f64>; 2]) -> (f64, [f64; 2]) {
    let mut all = times.concat();
    all.sort_by(f64::total_cmp);
    let limit = all.get(all.len() * 9 / 10).copied().unwrap_or(f64::MAX);
    times.iter_mut().for_each(|class| class.retain(|&time| time <= limit));
    #[allow(clippy::cast_precision_loss, reason = "counts of samples, far below 2^52")]
    let [a, b] = times.map(|class| {
        let count = class.len() as f64;
        let mean = class.iter().sum::<f64>() / count;
        let squares = class.iter().map(|time| (time - mean).powi(2)).sum::<f64>();
        (mean, squares / (count - 1.0) / count)
    });
    ((a.0 - b.0) / (a.1 + b.1).sqrt(), [a.0, b.0])
}

/// Xorshift: the order of the classes must not follow anything else, and no more.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn class(&mut self) -> usize {
        usize::from(self.next() >> 40 & 1 == 1)
    }

    fn message(&mut self) -> [u8; 64] {
        let mut message = [0; 64];
        message
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .for_each(|word| *word = self.next().to_le_bytes());
        message
    }
}

const FIXED: [u8; 64] = [0x5a; 64];

/// A full pass of every batched backend there is.
const LANES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_differ_are_told_apart_and_others_are_not() {
        let mut random = Random(1);
        let mut noisy = |base: f64| {
            let noise =
                |random: &mut Random| f64::from(u16::try_from(random.next() % 1000).unwrap_or(0));
            (0..10_000).map(|_| base + noise(&mut random)).collect::<Vec<_>>()
        };
        let same = welch([noisy(0.0), noisy(0.0)]).0;
        let other = welch([noisy(0.0), noisy(50.0)]).0;
        assert!(same.abs() < 4.5, "{same}");
        assert!(other < -4.5, "{other}");
    }

    #[test]
    fn every_question_is_answered() {
        let mut questions = Vec::new();
        run(20, &mut |verdict| {
            assert!(verdict.t.is_finite());
            questions.push(verdict.question);
        })
        .expect("there is always a signer");
        assert_eq!(questions, ["message", "key"]);
    }
}

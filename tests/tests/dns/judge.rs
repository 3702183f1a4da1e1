//! Judges every message when it arrives, as a receiver would.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postern_tests::sink::Sink;
use postern_tests::verifier::{Verdict, Verifier};

/// Ends the judge also where the test fails, so that it fails instead of hanging.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What arrived, with the selectors that it was verified with.
#[derive(Default)]
pub(crate) struct Judged {
    /// Selectors, in the order of the fields, and content.
    pub(crate) good: Vec<(Vec<String>, Vec<u8>)>,
    /// What could not be verified.
    pub(crate) faults: Vec<String>,
}

impl Judged {
    /// What was verified with this selector.
    pub(crate) fn with(&self, selector: &str) -> impl Iterator<Item = &[u8]> {
        self.good
            .iter()
            .filter(move |(selectors, _)| selectors.iter().any(|own| own == selector))
            .map(|(_, content)| content.as_slice())
    }
}

/// Judges what arrives until it is told to stop and nothing is left.
pub(crate) fn judge(
    sink: &Sink,
    verifier: &Verifier,
    judged: &Mutex<Judged>,
    is_over: &AtomicBool,
) {
    let mut count = 0;
    loop {
        let was_over = is_over.load(Ordering::Relaxed);
        let arrived = sink.after(count);
        if arrived.is_empty() && was_over {
            return;
        }
        count += arrived.len();
        for received in arrived {
            let verdict = patiently(verifier, &received.content);
            let mut judged = judged.lock().expect("nobody panics with it");
            match verdict {
                Verdict::Good(selectors) => judged.good.push((selectors, received.content)),
                other => judged.faults.push(format!("{other:?}")),
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The verdict of a receiver that defers what it cannot judge yet.
pub(crate) fn patiently(verifier: &Verifier, content: &[u8]) -> Verdict {
    let began = Instant::now();
    loop {
        match verifier.verify(content) {
            Verdict::Later(_) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(100));
            }
            settled => return settled,
        }
    }
}

/// How long a receiver tries again while DNS has no answer.
const PATIENCE: Duration = Duration::from_secs(30);

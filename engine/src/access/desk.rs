//! The password desk: argon2id off the data threads.
//!
//! A shard sends a job and awaits the verdict; it never computes a hash itself, which would stall
//! its event loop for tens of milliseconds. Jobs wait in a queue of [`WAITING_MAX`]; beyond that the
//! desk says [`Busy`], which the session answers with `454`, so that guessing cannot exhaust memory.
//! At most [`HASHING_MAX`] hashes are computed at once.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use zeroize::Zeroizing;

/// A password to be checked against a hash.
struct Job {
    phc: Arc<str>,
    password: Zeroizing<Vec<u8>>,
    verdict: oneshot::Sender<bool>,
}

/// Too many passwords wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// The shards' end of the desk.
#[derive(Clone)]
pub struct PasswordDesk {
    jobs: mpsc::Sender<Job>,
}

/// The control runtime's end of the desk.
pub struct PasswordClerk {
    jobs: mpsc::Receiver<Job>,
    check: fn(&str, &[u8]) -> bool,
}

/// Opens a desk whose clerk checks with `check(phc, password)`.
#[must_use]
pub fn desk(check: fn(&str, &[u8]) -> bool) -> (PasswordDesk, PasswordClerk) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (PasswordDesk { jobs: sender }, PasswordClerk { jobs: receiver, check })
}

impl PasswordDesk {
    /// Whether the password matches the PHC hash string.
    ///
    /// # Errors
    /// [`Busy`] when too many wait, or the relay is stopping.
    pub async fn check(&self, phc: Arc<str>, password: Zeroizing<Vec<u8>>) -> Result<bool, Busy> {
        let (verdict, answer) = oneshot::channel();
        self.jobs.try_send(Job { phc, password, verdict }).map_err(|_| Busy)?;
        answer.await.map_err(|_| Busy)
    }
}

impl PasswordClerk {
    /// Works until every desk is gone.
    pub async fn serve(mut self) {
        let hashing = Arc::new(Semaphore::new(HASHING_MAX));
        while let Some(job) = self.jobs.recv().await {
            let Ok(slot) = Arc::clone(&hashing).acquire_owned().await else { return };
            let check = self.check;
            tokio::task::spawn_blocking(move || {
                // A client that went away meanwhile needs no answer.
                _ = job.verdict.send(check(&job.phc, &job.password));
                drop(slot);
            });
        }
    }
}

const WAITING_MAX: usize = 1_024;

/// argon2id uses 19 MiB and some 20 ms of a core a time.
const HASHING_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn checks_and_pushes_back() {
        let (desk, clerk) = desk(|phc, password| phc.as_bytes() == password);
        let password = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                tokio::spawn({
                    let desk = desk.clone();
                    async move { desk.check("a".into(), Zeroizing::new(b"a".to_vec())).await }
                })
            })
            .collect();
        while desk.jobs.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(desk.check("a".into(), password("a")).await, Err(Busy));
        let clerk = tokio::spawn(clerk.serve());
        for check in waiting {
            assert_eq!(check.await.expect("no panic"), Ok(true));
        }
        assert_eq!(desk.check("a".into(), password("b")).await, Ok(false));
        drop(desk);
        clerk.await.expect("the clerk ends with the last desk");
    }
}

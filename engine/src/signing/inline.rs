//! A shard that signs for itself: a local task that does passes in slices.
//!
//! After every slice the task yields. tokio wakes a task that yielded only after it has asked the
//! kernel for events, so between two slices stands a full turn of the event loop, and a session
//! waits for the signer at most one slice.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_signer::batch::policy::{BatchPolicy, Class, Next, Picked};
use postern_signer::batch::{BatchSigner, KeyId, OwnedInput, Stats};
use postern_signer::key::RsaPrivateKey;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::keys::Keyed;
use super::{Desk, KeyRefusal, Request, micros, policy};

/// See the module.
pub(super) struct Inline {
    keyed: RefCell<Keyed>,
    policy: RefCell<BatchPolicy<Request>>,
    work: Notify,
    began: Instant,
}

impl Inline {
    /// A signer with nothing to do.
    pub(super) fn new(signer: Box<dyn BatchSigner>, wait_us: u64) -> Self {
        Self {
            policy: RefCell::new(policy(&*signer, wait_us, 1)),
            keyed: RefCell::new(Keyed::new(signer)),
            work: Notify::new(),
            began: Instant::now(),
        }
    }

    /// Takes a job that has a place.
    pub(super) fn hand_in(&self, number: usize, class: Class, key: KeyId, canonical: &[u8]) {
        let input = OwnedInput::of_canonical(canonical, self.keyed.borrow().signer.takes_digests());
        let at_us = self.now_us();
        let request = Request { number, class, at_us, key, input };
        let taken = self.policy.borrow_mut().arrive(at_us, class, request);
        assert!(taken.is_ok(), "a job that has a place has room");
        self.work.notify_one();
    }

    pub(super) fn load(&self, keys: &[(KeyId, Arc<RsaPrivateKey>)]) -> Result<(), KeyRefusal> {
        self.keyed.borrow_mut().load(keys)
    }

    pub(super) fn unload(&self, ids: &[KeyId]) {
        self.keyed.borrow_mut().unload(ids);
    }

    pub(super) fn report(&self) -> (&'static str, String, Stats) {
        let keyed = self.keyed.borrow();
        (keyed.signer.name(), "inline".to_owned(), keyed.signer.stats())
    }

    /// Does passes for ever.
    pub(super) async fn serve(self: Rc<Self>, desk: Rc<Desk>) {
        let mut picked = Vec::new();
        loop {
            let next = self.policy.borrow_mut().next(self.now_us(), &mut picked);
            match next {
                Next::Start => self.pass(&desk, &mut picked).await,
                Next::WaitUntil(until_us) => {
                    let limit = Duration::from_micros(until_us.saturating_sub(self.now_us()));
                    tokio::select! {
                        () = self.work.notified() => {}
                        () = sleep(limit) => {}
                    }
                }
                Next::Idle => self.work.notified().await,
            }
        }
    }

    async fn pass(&self, desk: &Desk, picked: &mut Vec<Picked<Request>>) {
        let jobs: Vec<_> = picked.iter().map(|picked| picked.job.job()).collect();
        self.keyed.borrow_mut().signer.begin(&jobs);
        drop(jobs);
        let mut done = Vec::with_capacity(picked.len());
        while !self.keyed.borrow_mut().signer.step(&mut done) {
            yield_now().await;
        }
        self.end_pass();
        assert_eq!(done.len(), picked.len(), "one result a job");
        for (request, signed) in picked.drain(..).zip(done) {
            desk.complete(request.job.number, signed.result);
        }
        // Whoever got a signature may have the next job, before the next pass is put together.
        yield_now().await;
    }

    fn end_pass(&self) {
        let mut policy = self.policy.borrow_mut();
        policy.finished(self.now_us());
        policy.set_lanes(self.keyed.borrow().signer.lanes());
    }

    fn now_us(&self) -> u64 {
        micros(self.began.elapsed())
    }
}

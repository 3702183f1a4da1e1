//! Passwords: argon2id hashes, and a memory of which credentials were verified.
//!
//! A hash costs tens of milliseconds and 19 MiB on purpose, so it is never computed on a data
//! thread; the caller hands in how ([`Verifier::verify`]). An application that opens a session per
//! message would still pay it each time, so each shard remembers what matched, under a key that is
//! an HMAC-SHA256 over application, hash and password with a random key of this process: nothing in
//! that memory is of use to anybody else, a changed hash makes another key, and a failure is never
//! remembered.
//!
//! # Bounds
//! A shard remembers at most [`REMEMBERED_MAX`] credentials; sessions that present the same
//! credential at the same time wait for one computation.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use super::identity::Authenticated;
use super::refusal::Refusal;
use crate::config::{App, Registry};

/// Whether `password` matches an argon2id hash in PHC string form. Blocks for as long as the hash
/// was made to cost; compares in constant time. A string that is no such hash matches nothing.
#[must_use]
pub fn check_password(phc: &str, password: &[u8]) -> bool {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
    PasswordVerifier::<str>::verify_password(&argon2, password, phc).is_ok()
}

/// The system gave no random bytes, or no memory for a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashUnavailable;

impl fmt::Display for HashUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gives no random bytes for a password hash")
    }
}

impl std::error::Error for HashUnavailable {}

/// Makes an argon2id hash of `password` in PHC string form, with the costs OWASP names first
/// (19 MiB, 2 passes, 1 lane) and a random salt. Blocks for tens of milliseconds.
///
/// # Errors
/// [`HashUnavailable`]
pub fn hash_password(password: &[u8]) -> Result<String, HashUnavailable> {
    hash_with(password, Params::default())
}

fn hash_with(password: &[u8], params: Params) -> Result<String, HashUnavailable> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| HashUnavailable)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password, &salt).map_err(|_| HashUnavailable)?;
    Ok(hash.to_string())
}

/// RFC 9106 3.1 recommends 16 bytes.
const SALT_BYTES: usize = 16;

/// What a client presents (SASL PLAIN or LOGIN).
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// Whom it wants to act as; empty for itself. Acting for others is not offered.
    pub authzid: &'a str,
    /// Who it says it is.
    pub authcid: &'a str,
    /// Its password.
    pub password: &'a [u8],
}

/// Who can compute a hash: too busy, or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// One shard's verifier, with its memory of what was verified.
pub struct Verifier {
    key: hmac::Key,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    remembered: Remembered,
    computing: HashMap<Mark, watch::Receiver<Option<bool>>>,
}

/// Stands for (application, hash, password) and tells nothing about them.
type Mark = [u8; 32];

impl Verifier {
    /// A verifier that remembers nothing yet.
    ///
    /// # Errors
    /// [`HashUnavailable`] when the system gives no random bytes.
    pub fn new() -> Result<Self, HashUnavailable> {
        let random = SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(|_| HashUnavailable)?;
        Ok(Self { key, state: RefCell::default() })
    }

    /// Verifies what a client presented. `compute(phc, password)` is called where a hash must be
    /// computed; it runs [`check_password`] off this thread. An unknown application, one without a
    /// credential and a wrong password cost the same and get the same answer.
    ///
    /// # Errors
    /// `535 5.7.8` where the credential does not hold, `454 4.7.0` where nobody can say now.
    pub async fn verify<C>(
        &self,
        registry: &Registry,
        presented: Presented<'_>,
        compute: C,
    ) -> Result<Authenticated, Refusal>
    where
        C: AsyncFn(Arc<str>, &[u8]) -> Result<bool, Busy>,
    {
        let app = credential_of(registry, presented);
        let phc = app
            .and_then(|app| app.password_hash.as_ref())
            .map_or_else(|| stand_in(registry), |hash| Arc::clone(hash.expose()));
        let mark = self.mark(presented.authcid, &phc, presented.password);
        let matched = self.matched(mark, phc, presented.password, compute).await;
        match (app, matched) {
            (Some(app), Ok(true)) => Ok(Authenticated::by_password(Arc::clone(app))),
            (_, Ok(_)) => Err(Refusal::permanent(535, (7, 8), "authentication failed")),
            (_, Err(Busy)) => {
                Err(Refusal::temporary(454, (7, 0), "authentication is busy, try again later"))
            }
        }
    }

    /// Whether the password matches: remembered, being computed already, or computed now.
    async fn matched<C>(
        &self,
        mark: Mark,
        phc: Arc<str>,
        password: &[u8],
        compute: C,
    ) -> Result<bool, Busy>
    where
        C: AsyncFn(Arc<str>, &[u8]) -> Result<bool, Busy>,
    {
        loop {
            if self.state.borrow_mut().remembered.contains(&mark) {
                return Ok(true);
            }
            let computing = self.state.borrow().computing.get(&mark).cloned();
            let Some(mut verdict) = computing else { break };
            // An error means that the session that computed went away: then it is our turn.
            if let Ok(verdict) = verdict.wait_for(Option::is_some).await {
                return Ok(*verdict == Some(true));
            }
        }
        let (sender, receiver) = watch::channel(None);
        self.state.borrow_mut().computing.insert(mark, receiver);
        let turn = Turn { verifier: self, mark };
        let matched = compute(phc, password).await;
        drop(turn);
        if let Ok(matched) = matched {
            if matched {
                self.state.borrow_mut().remembered.insert(mark);
            }
            sender.send_replace(Some(matched));
        }
        matched
    }

    fn mark(&self, authcid: &str, phc: &str, password: &[u8]) -> Mark {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [authcid.as_bytes(), phc.as_bytes(), password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut mark = Mark::default();
        mark.copy_from_slice(context.sign().as_ref());
        mark
    }
}

/// Ends a computation's entry, also when the session that waits for it is dropped.
struct Turn<'a> {
    verifier: &'a Verifier,
    mark: Mark,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.verifier.state.borrow_mut().computing.remove(&self.mark);
    }
}

/// The application a client claims to be, if it may be claimed with a password.
fn credential_of<'a>(registry: &'a Registry, presented: Presented<'_>) -> Option<&'a Arc<App>> {
    let acts_for_itself = presented.authzid.is_empty() || presented.authzid == presented.authcid;
    registry.app(presented.authcid).filter(|app| acts_for_itself && app.password_hash.is_some())
}

/// The hash to compute where there is none to check: another application's, so that the answer
/// takes as long as a true one.
fn stand_in(registry: &Registry) -> Arc<str> {
    let first = registry.apps().iter().find_map(|app| app.password_hash.as_ref());
    first.map_or_else(|| STAND_IN.into(), |hash| Arc::clone(hash.expose()))
}

/// For a relay without any credential: default costs, salt and hash of nothing in particular.
const STAND_IN: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The credentials that matched, in two generations: when the younger is full, the older goes.
#[derive(Default)]
struct Remembered {
    young: HashSet<Mark>,
    old: HashSet<Mark>,
}

impl Remembered {
    fn contains(&mut self, mark: &Mark) -> bool {
        if self.young.contains(mark) {
            return true;
        }
        let is_old = self.old.contains(mark);
        if is_old {
            self.insert(*mark);
        }
        is_old
    }

    fn insert(&mut self, mark: Mark) {
        if self.young.len() >= REMEMBERED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(mark);
    }
}

/// Credentials a shard remembers: 4,096 times 32 bytes.
const REMEMBERED_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::sync::Notify;

    use super::super::testing::{app, registry};
    use super::*;

    /// As cheap as a hash can be.
    fn cheap(password: &str) -> String {
        let params = Params::new(8, 1, 1, None).expect("parameters");
        hash_with(password.as_bytes(), params).expect("a hash")
    }

    fn presented<'a>(authcid: &'a str, password: &'a str) -> Presented<'a> {
        Presented { authzid: "", authcid, password: password.as_bytes() }
    }

    /// Computes on this thread and counts.
    async fn counted(count: &Cell<u32>, phc: Arc<str>, password: &[u8]) -> Result<bool, Busy> {
        count.set(count.get() + 1);
        tokio::task::yield_now().await;
        Ok(check_password(&phc, password))
    }

    #[test]
    fn hashes_are_checked() {
        let hash = hash_password("correct horse".as_bytes()).expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(check_password(&hash, b"correct horse"));
        assert!(!check_password(&hash, b"correct horse "));
        assert!(!check_password(&hash, b""));
        assert_ne!(hash, hash_password(b"correct horse").expect("a hash"), "salted");
        for none in ["", "correct horse", "$argon2id$", STAND_IN, "$argon2id$v=19$m=8,t=1,p=1$AAAA"]
        {
            assert!(!check_password(none, b"correct horse"), "{none}");
        }
        assert!(crate::config::PasswordHash::parse(STAND_IN).is_ok(), "it costs what others cost");
    }

    #[tokio::test]
    async fn what_matched_is_remembered_until_the_hash_changes() {
        let verifier = Verifier::new().expect("random bytes");
        let count = Cell::new(0);
        let compute = async |phc: Arc<str>, password: &[u8]| counted(&count, phc, password).await;
        let before = registry([app("billing", Some(&cheap("a")), &[])]);
        for _ in 0..3 {
            let proof = verifier.verify(&before, presented("billing", "a"), compute).await;
            assert_eq!(&*proof.expect("matches").app().id, "billing");
        }
        assert_eq!(count.get(), 1, "computed once");
        for _ in 0..2 {
            let refusal = verifier.verify(&before, presented("billing", "b"), compute).await;
            assert_eq!(refusal.expect_err("wrong").code, 535);
        }
        assert_eq!(count.get(), 3, "a failure is not remembered");
        let after = registry([app("billing", Some(&cheap("b")), &[])]);
        let refusal = verifier.verify(&after, presented("billing", "a"), compute).await;
        assert_eq!(refusal.expect_err("changed").code, 535);
        assert_eq!(count.get(), 4);
    }

    #[tokio::test]
    async fn the_unknown_cost_and_hear_the_same() {
        let verifier = Verifier::new().expect("random bytes");
        let count = Cell::new(0);
        let compute = async |phc: Arc<str>, password: &[u8]| counted(&count, phc, password).await;
        let hash = cheap("a");
        let registry =
            registry([app("billing", Some(&hash), &[]), app("legacy", None, &["192.0.2.0/24"])]);
        let mut answers = Vec::new();
        for (authzid, authcid, password) in [
            ("", "billing", "wrong"),
            ("", "nobody", "a"),
            ("", "legacy", "a"),
            ("other", "billing", "a"),
            ("", "", ""),
            ("", "BILLING", "a"),
        ] {
            let presented = Presented { authzid, authcid, password: password.as_bytes() };
            let refused = verifier.verify(&registry, presented, compute).await;
            answers.push(refused.expect_err("refused").to_string());
        }
        answers.dedup();
        assert_eq!(answers, ["535 5.7.8 authentication failed"]);
        assert_eq!(count.get(), 6, "each cost one hash");
        let own = Presented { authzid: "billing", authcid: "billing", password: b"a" };
        assert!(verifier.verify(&registry, own, compute).await.is_ok());
    }

    #[tokio::test]
    async fn sessions_that_come_together_wait_for_one_computation() {
        let verifier = Rc::new(Verifier::new().expect("random bytes"));
        let registry = Rc::new(registry([app("billing", Some(&cheap("a")), &[])]));
        let (count, go) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
        let session = || {
            let (verifier, registry) = (Rc::clone(&verifier), Rc::clone(&registry));
            let (count, go) = (Rc::clone(&count), Rc::clone(&go));
            async move {
                let compute = async |phc: Arc<str>, password: &[u8]| {
                    go.notified().await;
                    counted(&count, phc, password).await
                };
                verifier.verify(&registry, presented("billing", "a"), compute).await.is_ok()
            }
        };
        let tasks = tokio::task::LocalSet::new();
        tasks
            .run_until(async {
                // The first computes, and goes away before it is done.
                let first = tokio::task::spawn_local(session());
                tokio::task::yield_now().await;
                let others: Vec<_> = (0..9).map(|_| tokio::task::spawn_local(session())).collect();
                tokio::task::yield_now().await;
                first.abort();
                tokio::task::yield_now().await;
                go.notify_one();
                for other in others {
                    assert!(other.await.expect("no panic"));
                }
            })
            .await;
        assert_eq!(count.get(), 1);
    }

    #[tokio::test]
    async fn busy_is_said_and_not_remembered() {
        let verifier = Verifier::new().expect("random bytes");
        let registry = registry([app("billing", Some(&cheap("a")), &[])]);
        let busy = async |_: Arc<str>, _: &[u8]| Err(Busy);
        let refusal = verifier.verify(&registry, presented("billing", "a"), busy).await;
        let refusal = refusal.expect_err("busy");
        assert_eq!((refusal.code, refusal.is_temporary()), (454, true));
        assert!(verifier.state.borrow().computing.is_empty());
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let mut remembered = Remembered::default();
        let mark = |n: u32| {
            let mut mark = Mark::default();
            mark[..4].copy_from_slice(&n.to_be_bytes());
            mark
        };
        for n in 0..20_000 {
            remembered.insert(mark(n));
            assert!(remembered.contains(&mark(0)), "used all the time, at {n}");
            assert!(remembered.young.len() + remembered.old.len() <= REMEMBERED_MAX);
        }
        assert!(!remembered.contains(&mark(1)));
    }
}

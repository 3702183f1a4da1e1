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

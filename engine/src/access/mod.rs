//! Who may send, what, and how much: SASL verification, sender binding, budgets, suspension.
//!
//! # Invariants
//! - [`Authenticated`] exists only where this room has verified a credential or found the client's
//!   address in an application's network; nothing else can make one. Without one there is no MAIL,
//!   so there is no open relay.
//! - [`Author`] exists only where a message's single `From` mailbox was checked against the
//!   application's senders.
//! - A refusal says what the application's owner can do about it, and nothing about anybody else:
//!   an unknown application and a wrong password get the same answer after the same work.
//!
//! # Failures
//! Every refusal is a [`Refusal`]: reply code, enhanced code, one line of text.

mod author;
mod budget;
pub mod desk;
mod identity;
mod password;
mod refusal;
mod suspension;
#[cfg(test)]
mod testing;

pub use self::author::Author;
pub use self::budget::{Budgets, SessionPermit, Usage};
pub use self::identity::{Authenticated, Method, SenderAccepted};
pub use self::password::{
    Busy, HashUnavailable, Presented, Verifier, check_password, hash_password,
};
pub use self::refusal::Refusal;
pub use self::suspension::{Cut, Suspensions};
pub use crate::config::{App, Lane, Registry};

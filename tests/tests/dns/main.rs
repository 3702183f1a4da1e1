//! Key records in DNS: the relay's DNS client against BIND and unbound.
//!
//! Of all kinds, this one calls a room of the relay directly: what a look says of each server is
//! more than can be seen from outside.

mod command;
mod judge;
mod lifecycle;
mod look;
mod rotation;
mod several;
mod update;

use std::time::Duration;

use postern::control::dns::{
    Change, Done, LookOptions, Looker, TsigAlgorithm, TsigKey, UpdateError, UpdateOptions, Updater,
};
use postern_tests::dns::{KEY, Named, SECRET, Unbound, ZONE};

/// The name of the key that the tests publish.
fn name() -> String {
    format!("2026h2._domainkey.{ZONE}")
}

/// A record of an RSA key of about this size; `fill` tells one from another.
fn record(bits: usize, fill: char) -> String {
    // SubjectPublicKeyInfo: 38 octets around the modulus (RFC 8017 A.1.1, with e = 65537).
    let length = (bits / 8 + 38).div_ceil(3) * 4;
    format!("v=DKIM1; k=rsa; p={}", fill.to_string().repeat(length))
}

fn updater(named: &Named) -> Updater {
    updater_with(named, KEY, SECRET)
}

fn updater_with(named: &Named, key: &str, secret: &[u8]) -> Updater {
    let key = TsigKey::new(key, TsigAlgorithm::HmacSha256, secret.to_vec());
    Updater::new(UpdateOptions {
        server: named.addr,
        key: key.unwrap_or_else(|why| panic!("{why}")),
        timeout: Duration::from_secs(3),
        attempts: 2,
    })
}

fn looker(named: &Named, unbound: &Unbound) -> Looker {
    Looker::new(LookOptions {
        resolvers: vec![unbound.addr],
        authoritative: vec![named.addr],
        timeout: Duration::from_secs(3),
        attempts: 2,
    })
}

/// Makes one change at [`name`] with a time to live of 60 s.
fn change(updater: &Updater, change: Change<'_>) -> Result<Done, UpdateError> {
    wait(updater.update(&name(), 60, change))
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(60), future).await };
    runtime.block_on(limited).expect("DNS work is bounded")
}

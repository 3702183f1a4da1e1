//! Real clients, a real next hop and other people's verifiers. Each test is skipped, with the
//! reason, where its tool is not installed.

mod openssl;
mod signatures;
mod smtplib;
mod smtpsource;
mod swaks;
mod verified;

use postern_tests::postfix::Postfix;
use postern_tests::relay::{Relay, Setup};

/// A relay that signs and delivers to a real Postfix.
struct Chain {
    postfix: Postfix,
    relay: Relay,
    signer: signatures::Signer,
}

impl Chain {
    /// `None` where Postfix is missing.
    fn start() -> Option<Self> {
        Self::with(|setup| setup)
    }

    fn with(more: impl FnOnce(Setup) -> Setup) -> Option<Self> {
        let postfix = Postfix::start()?;
        let signer = signatures::Signer::new()?;
        let setup = Setup::new(postfix.addr).option("--dkim", &signer.argument());
        let relay = more(setup).start();
        Some(Self { postfix, relay, signer })
    }

    /// The next message at Postfix is what was sent, signed; both verifiers say so.
    #[track_caller]
    fn expect_one(&self, sent: &[u8]) {
        let stored = self.postfix.wait_for(1, 30).remove(0);
        let arrived = Postfix::as_received(&stored);
        let added = postern_tests::message::added_fields(sent, &arrived);
        let added = added.unwrap_or_else(|why| panic!("{why}"));
        assert!(added.contains(&"Received".to_owned()), "{added:?}");
        assert!(added.contains(&"DKIM-Signature".to_owned()), "{added:?}");
        self.signer.verify(&arrived);
    }
}

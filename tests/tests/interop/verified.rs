//! Delivery over TLS to Postfix: with a certificate that is verified, and with one that cannot be.

use postern_tests::message::Mail;
use postern_tests::postfix::Postfix;
use postern_tests::relay::{RECIPIENT, SENDER, Setup};

#[test]
fn an_unknown_certificate_gets_no_mail_where_tls_is_required() {
    let Some(postfix) = Postfix::start() else { return };
    let relay = Setup::new(postfix.addr).next_hop_tls("require").start();
    relay.accept(&Mail::numbered(1, SENDER, RECIPIENT, 2_000));
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(postfix.messages().is_empty(), "delivered to nobody knows whom");
    assert_eq!(relay.queue().len(), 1, "neither delivered nor kept");
}

#[test]
fn opportunistic_tls_encrypts_to_postfix() {
    let Some(postfix) = Postfix::with("smtpd_tls_loglevel = 1\nsmtpd_tls_received_header = yes\n")
    else {
        return;
    };
    let relay = Setup::new(postfix.addr).next_hop_tls("opportunistic").start();
    let mail = Mail::numbered(1, SENDER, RECIPIENT, 2_000);
    relay.accept(&mail);
    let stored = postfix.wait_for(1, 30).remove(0);
    assert!(String::from_utf8_lossy(&stored).contains("using TLSv1."), "in the clear");
    let arrived = Postfix::as_received(&stored);
    postern_tests::message::added_fields(&mail.content, &arrived).expect("byte-exact");
}

//! MAIL and RCPT against another parser, smtp-proto.
//!
//! The two agree wherever both accept. smtp-proto takes more than the grammar (addresses without
//! check, parameters of extensions that are not offered here), so the comparison goes one way: what
//! is accepted here is accepted there and means the same.

use proptest::prelude::*;
use smtp_proto::{
    MAIL_BODY_8BITMIME, MAIL_RET_FULL, MAIL_RET_HDRS, MAIL_SMTPUTF8, RCPT_NOTIFY_DELAY,
    RCPT_NOTIFY_FAILURE, RCPT_NOTIFY_NEVER, RCPT_NOTIFY_SUCCESS, Request,
};

use crate::address::{forward_path, reverse_path};
use crate::command::Command;
use crate::param::{Body, Notify, Ret, mail_parameters, rcpt_parameters, xtext_decode};

fn oracle(line: &str) -> Option<Request<std::borrow::Cow<'_, str>>> {
    Request::parse(&mut line.as_bytes().iter()).ok()
}

/// Compares one MAIL line; returns whether it was accepted here.
fn compare_mail(line: &str) -> Result<bool, TestCaseError> {
    let Ok(Command::Mail(argument)) = Command::parse(line.trim_end().as_bytes()) else {
        return Ok(false);
    };
    let Ok((path, rest)) = reverse_path(argument) else {
        return Ok(false);
    };
    let Ok(ours) = mail_parameters(rest) else {
        return Ok(false);
    };
    let Some(Request::Mail { from }) = oracle(line) else {
        return Err(TestCaseError::fail(format!("the oracle refuses {line:?}")));
    };
    prop_assert_eq!(path.as_str(), &*from.address);
    prop_assert_eq!(ours.size.unwrap_or(0), from.size as u64);
    prop_assert_eq!(ours.body == Body::EightBitMime, from.flags & MAIL_BODY_8BITMIME != 0);
    prop_assert_eq!(ours.smtputf8, from.flags & MAIL_SMTPUTF8 != 0);
    prop_assert_eq!(ours.ret == Some(Ret::Full), from.flags & MAIL_RET_FULL != 0);
    prop_assert_eq!(ours.ret == Some(Ret::Headers), from.flags & MAIL_RET_HDRS != 0);
    prop_assert_eq!(ours.envid.and_then(xtext_decode), from.env_id);
    Ok(true)
}

/// Compares one RCPT line; returns whether it was accepted here.
fn compare_rcpt(line: &str) -> Result<bool, TestCaseError> {
    let Ok(Command::Rcpt(argument)) = Command::parse(line.trim_end().as_bytes()) else {
        return Ok(false);
    };
    let Ok((path, rest)) = forward_path(argument) else {
        return Ok(false);
    };
    let Ok(ours) = rcpt_parameters(rest) else {
        return Ok(false);
    };
    let Some(Request::Rcpt { to }) = oracle(line) else {
        return Err(TestCaseError::fail(format!("the oracle refuses {line:?}")));
    };
    prop_assert!(path.as_str().eq_ignore_ascii_case(&to.address));
    let asks = |one| ours.notify.is_some_and(|notify: Notify| notify.contains(one));
    for (one, flag) in [
        (Notify::NEVER, RCPT_NOTIFY_NEVER),
        (Notify::SUCCESS, RCPT_NOTIFY_SUCCESS),
        (Notify::FAILURE, RCPT_NOTIFY_FAILURE),
        (Notify::DELAY, RCPT_NOTIFY_DELAY),
    ] {
        prop_assert_eq!(asks(one), to.flags & flag != 0);
    }
    Ok(true)
}

/// Addresses without literals, which smtp-proto refuses, and quotes, which it removes so that a
/// local part changes its meaning.
fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,10}(\\.[a-z0-9]{1,5}){0,2}@[a-z0-9]{1,8}(\\.[a-z]{2,5}){1,3}",
        Just(String::new()),
        "[a-z@.<> ]{0,12}",
    ]
}

fn mail_parameter() -> impl Strategy<Value = String> {
    prop_oneof![
        "SIZE=[0-9]{1,12}",
        "(BODY|body)=(7BIT|8BITMIME|8bitmime)",
        Just("SMTPUTF8".to_owned()),
        "RET=(FULL|HDRS|full)",
        "ENVID=[A-Za-z0-9.-]{1,20}(\\+2B|\\+3D)?",
        "[A-Z]{2,8}(=[a-z]{1,5})?",
    ]
}

fn rcpt_parameter() -> impl Strategy<Value = String> {
    prop_oneof![
        "NOTIFY=(NEVER|SUCCESS|FAILURE|DELAY|SUCCESS,FAILURE|FAILURE,DELAY|success,delay)",
        "ORCPT=rfc822;[a-z0-9.-]{1,10}@[a-z]{1,8}",
        "[A-Z]{2,8}=[a-z,]{1,6}",
    ]
}

fn command(verb: &str, address: &str, parameters: &[String]) -> String {
    let list: String = parameters.iter().map(|parameter| format!(" {parameter}")).collect();
    format!("{verb}:<{address}>{list}\r\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn mail_means_the_same(
        address in address(),
        parameters in proptest::collection::vec(mail_parameter(), 0..4),
    ) {
        compare_mail(&command("MAIL FROM", &address, &parameters))?;
    }

    #[test]
    fn rcpt_means_the_same(
        address in address(),
        parameters in proptest::collection::vec(rcpt_parameter(), 0..3),
    ) {
        compare_rcpt(&command("RCPT TO", &address, &parameters))?;
    }
}

#[test]
fn the_comparison_compares() {
    let mail = "MAIL FROM:<a.b@c.example> SIZE=10 BODY=8BITMIME RET=FULL ENVID=x+2By SMTPUTF8\r\n";
    assert!(compare_mail(mail).expect("agreement"));
    let rcpt = "RCPT TO:<a.b@c.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b.example\r\n";
    assert!(compare_rcpt(rcpt).expect("agreement"));
    assert!(compare_rcpt("RCPT TO:<a@b> NOTIFY=never\r\n").expect("agreement"));
}

//! Parts, nesting, header fields, and what goes wrong with them.

use std::sync::Arc;

use postern_filters::{Action, Config, Filters};

use crate::{check, lines, scan_with, verdict};

const CARD: &str = "4111 1111 1111 1111";

#[test]
fn parts_are_numbered_as_imap_does() {
    check(
        "Content-Type: multipart/mixed; boundary=outer\n\npreamble 4111111111111111\n\
         --outer\nContent-Type: multipart/alternative; boundary=\"inner\"\n\n\
         --inner\n\n5555555555554444\n\
         --inner\nContent-Type: text/html\n\n<p>5555555555554444 378282246310005</p>\n--inner--\n\
         epilogue 30569309025904\n\
         --outer\nContent-Type: text/csv; name=cards.csv\nContent-Transfer-Encoding: base64\n\n\
         NjAxMTExMTExMTExMTExNywzNTMwMTExMzMzMzAwMDAw\n--outer--\n4111-1111-1111-1111\n",
        &[
            "credit_card 0 1/2",
            "credit_card 1.1 1/2",
            "credit_card 1.2 1/1",
            "credit_card 1 1/1",
            "credit_card 2 2/2",
        ],
    );
}

#[test]
fn messages_inside_messages() {
    check(
        "Subject: forward\nContent-Type: multipart/mixed; boundary=b\n\n\
         --b\nContent-Type: message/rfc822\n\nSubject: 4111111111111111\n\n5555555555554444\n\
         --b\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=c\n\n\
         --c\n\n378282246310005\n--c--\n--b--\n",
        &["credit_card 1.header 1/1", "credit_card 1.1 1/1", "credit_card 2.1 1/1"],
    );
    check(
        "Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\nSubject: x\n\n4111111111111111\n",
        &["credit_card 1.1.1 1/1"],
    );
    check(
        "Content-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: 4111111111111111\n\nx\n--d--\n",
        &["credit_card 1.header 1/1"],
    );
}

#[test]
fn header_fields_people_write_are_text() {
    check(&format!("Subject: card {CARD}\n\nx"), &["credit_card header 1/1"]);
    check("Subject: card 4111 1111\n 1111 1111\nTo: x\n\nx", &["credit_card header 1/1"]);
    check(
        "Subject: =?utf-8?B?NDExMTExMTExMTEx?= =?utf-8?Q?11=31=31?=\n\n",
        &["credit_card header 1/1"],
    );
    check(
        "Subject: =?iso-2022-jp?B?GyRCIzQjMSMxIzEbKEI=?=-1111-1111-1111\n",
        &["credit_card header 1/1"],
    );
    check(&format!("X-Customer-Card: {CARD}"), &["credit_card header 1/1"]);
    check(&format!("no colon in this line at all {CARD}\n\n"), &["credit_card header 1/1"]);
    check(&format!(" {CARD}\n\nbody"), &["credit_card header 1/1"]);
    check("4111111111111111\n\nbody", &["credit_card header 1/1"]);
    check(
        "Content-Disposition: attachment; filename=\"4111 1111 1111 1111.png\"\nContent-Type: image/png\n\nx",
        &["credit_card header 1/1"],
    );
    for machine in ["Message-ID", "DKIM-Signature", "received", "References"] {
        check(&format!("{machine}: <4111111111111111@x>\n\nbody"), &[]);
    }
    // A field ends where the next begins.
    check("Subject: 4111 1111\nX: 1111 1111\n\n", &[]);
    check("Subject: 4111 1111\n\n1111 1111\n", &[]);
}

#[test]
fn long_header_fields_are_read_to_the_end() {
    let words = "words and words ".repeat(300);
    check(&format!("Subject: {words}4111 1111 1111 1111 {words}\n\n"), &["credit_card header 1/1"]);
    let unbroken = "x".repeat(5000);
    check(&format!("Subject: {unbroken},4111111111111111\n\n"), &["credit_card header 1/1"]);
    check(
        &format!("Content-Type: text/plain; x={unbroken}; y=,4111111111111111\n\nz"),
        &["credit_card header 1/1", "unscannable.header header 1/1"],
    );
}

#[test]
fn parts_without_text_are_passed_over() {
    for kind in ["image/png", "application/pdf", "application/octet-stream", "video/mp4"] {
        check(&format!("Content-Type: {kind}\n\n4111111111111111\n"), &[]);
        check(
            &format!(
                "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: {kind}\n\n\
                 4111111111111111\n--x\n--b\n\n5555555555554444\n--b--"
            ),
            &["credit_card 2 1/1"],
        );
    }
    for field in [
        "Content-Type: application/json",
        "Content-Type: x/y",
        "Content-Type: nonsense",
        "Content-Type: application/octet-stream; name=a.csv",
        "Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=a.log",
    ] {
        check(&format!("{field}\n\n4111111111111111\n"), &["credit_card 1 1/1"]);
    }
}

#[test]
fn broken_boundaries() {
    let card = &["credit_card 1 1/1"];
    let whole = "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n4111111111111111";
    for end in
        ["", "\n", "\n--", "\n--b", "\n--b-", "\n--b--", "\n--b--\n", "\n--bb\n", "\n--b  \t\n"]
    {
        check(&format!("{whole}{end}"), card);
    }
    // A line that only begins like a delimiter is text, and so may hold a number.
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--b 4111111111111111\n--4111111111111111\n",
        &["credit_card 1 1/2"],
    );
    // Padding of any length.
    let padding = " \t".repeat(500);
    check(
        &format!(
            "Content-Type: multipart/mixed; boundary=b\n\n--b{padding}\nContent-Type: image/png\n\n4111111111111111"
        ),
        &[],
    );
    check(
        &format!(
            "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--b{padding}4111111111111111\n"
        ),
        &["credit_card 1 1/1"],
    );
}

#[test]
fn a_delimiter_ends_a_header_section() {
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\n--b\n\n4111111111111111\n\
         --b--\n--b\nContent-Transfer-Encoding: base64\n\nNTU1NTU1NTU1NTU1NDQ0NA==\n",
        &["credit_card 2 1/1", "credit_card 3 1/1"],
    );
}

#[test]
fn a_multipart_without_boundary_is_text() {
    for value in ["multipart/mixed", "multipart/mixed; boundary=\"\"", "multipart/mixed; boundary"]
    {
        check(
            &format!("Content-Type: {value}\n\n--\n\n4111111111111111\n"),
            &["credit_card 0 1/1", "unscannable.boundary 0 1/1"],
        );
    }
    let long = "b".repeat(201);
    check(
        &format!(
            "Content-Type: multipart/mixed; boundary={long}\n\n--{long}\n\n4111111111111111\n"
        ),
        &["credit_card 0 1/1", "unscannable.boundary 0 1/1"],
    );
    let longest = "b".repeat(200);
    check(
        &format!(
            "Content-Type: multipart/mixed; boundary={longest}\n\n--{longest}\n\n4111111111111111\n--{longest}--"
        ),
        &["credit_card 1 1/1"],
    );
}

#[test]
fn contradicting_fields_are_told() {
    check(
        "Content-Type: text/plain\nContent-Type: image/png\n\n4111111111111111\n",
        &["credit_card 1 1/1", "unscannable.header header 1/1"],
    );
    check(
        "Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n\n4111111111111111\n",
        &["credit_card 1 1/1", "unscannable.header header 1/1"],
    );
    check(
        "Content-Type: text/plain\nContent-Type: text/plain\n\n4111111111111111\n",
        &["credit_card 1 1/1"],
    );
    check(
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n\
         U3ViamVjdDogeA0KDQo0MTExMTExMTExMTExMTExDQo=\n",
        &["credit_card 1 1/1", "unscannable.encoding 1 1/1"],
    );
}

/// A message with `depth` multiparts around a card number.
fn nested(depth: usize) -> String {
    let mut message = String::new();
    for level in 0..depth {
        message +=
            &format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
    }
    message + "\r\n4111111111111111\r\n"
}

#[test]
fn depth_is_bounded() {
    let filters = crate::filters();
    let deepest = scan_with(&filters, nested(10).as_bytes());
    assert_eq!(lines(&deepest), ["credit_card 1.1.1.1.1.1.1.1.1.1 1/1"]);
    let path = "1.1.1.1.1.1.1.1.1.1";
    let want = [format!("credit_card {path} 1/1"), format!("unscannable.depth {path} 1/1")];
    assert_eq!(lines(&scan_with(&filters, nested(11).as_bytes())), want);
    assert_eq!(lines(&scan_with(&filters, nested(5000).as_bytes())), want);
    let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(300) + "\r\n4111111111111111";
    let outcome = scan_with(&filters, messages.as_bytes());
    assert_eq!(lines(&outcome), want);
}

#[test]
fn parts_are_bounded() {
    let many = "--b\r\n\r\nx\r\n".repeat(300);
    let message = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{many}--b\r\n\r\n4111111111111111\r\n"
    );
    let outcome = scan_with(&crate::filters(), message.as_bytes());
    assert_eq!(lines(&outcome), ["credit_card 0 1/1", "unscannable.parts 0 1/1"]);
}

#[test]
fn header_sections_are_bounded() {
    let mut config = Config::default();
    config.limits.header_bytes_max = 2000;
    config.unscannable = Action::Reject;
    config.rules.clear();
    let filters = Arc::new(Filters::new(config).unwrap());
    let fields = "X-Field: some value or other\r\n".repeat(100);
    let outcome = scan_with(&filters, format!("{fields}\r\n4111111111111111").as_bytes());
    assert_eq!(lines(&outcome), ["credit_card 1 1/1", "unscannable.header header 1/1"]);
    assert_eq!(verdict(&outcome), "unscannable.header part=header count=1 rule=dlp.unscannable");
}

#[test]
fn lines_may_end_in_lf_alone() {
    let message =
        "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n4111111111111111\n--b--\n";
    assert_eq!(lines(&crate::scan(message.as_bytes())), ["credit_card 1 1/1"]);
}

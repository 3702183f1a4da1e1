//! Bytes chosen to hurt: no panic, bounded state, the same outcome however they are cut.

use std::path::Path;

use postern_filters::{DISTINCT_MAX, SCAN_BYTES_MAX, Scan, fuzz};
use proptest::prelude::*;

use crate::{filters, lines, scan};

#[test]
fn the_corpus_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        let message = std::fs::read(&file).unwrap();
        for choice in 0..=u8::MAX {
            let data = [&[choice, choice.wrapping_mul(37)], &message[..]].concat();
            fuzz::message(&data);
        }
        // Truncated everywhere.
        (0..message.len()).step_by(7).for_each(|end| fuzz::message(&message[..end]));
    }
}

/// Feeds `message` in pieces of a receive buffer and gives the most state it ever held.
fn state_bytes(message: &[u8]) -> usize {
    let mut scan = Scan::new(&filters());
    message
        .chunks(4096)
        .map(|piece| {
            scan.feed(piece);
            scan.state_bytes()
        })
        .max()
        .unwrap_or(0)
}

#[test]
fn state_is_small_and_bounded() {
    let idle = Scan::new(&filters()).state_bytes();
    assert!(idle <= 1536, "{idle} bytes untouched");
    let mut worst = String::new();
    for level in 0..9 {
        let boundary = format!("{level}{}", "b".repeat(198));
        worst +=
            &format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n--{boundary}\r\n");
    }
    for part in 0..150 {
        worst += &format!("Subject: {}\r\n\r\n", "x".repeat(2500));
        for number in 0..9_u64 {
            worst += &format!("{}\r\n", card(part * 9 + number));
        }
        worst += &format!("--8{}\r\n", "b".repeat(198));
    }
    worst += &format!("\r\n--8{}", "b".repeat(190));
    let worst = state_bytes(worst.as_bytes());
    assert!(worst > 6000 && worst <= SCAN_BYTES_MAX, "{worst} bytes");
}

/// A valid number for any serial below 10^11.
fn card(serial: u64) -> String {
    let number = format!("4539{serial:011}");
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let digits = number.bytes().rev().map(|byte| u32::from(byte - b'0')).enumerate();
    let sum: u32 =
        digits.map(|(place, digit)| if place % 2 == 0 { doubled(digit) } else { digit }).sum();
    format!("{number}{}", (10 - sum % 10) % 10)
}

#[test]
fn counts_stop_at_their_bound() {
    let list: String = (0..1000).map(|serial| card(serial * 7919 + 1) + "\r\n").collect();
    let outcome = scan(format!("\r\n{list}").as_bytes());
    assert_eq!(lines(&outcome), [format!("credit_card 1 {DISTINCT_MAX}/1000")]);
}

#[test]
fn floods_pass_in_linear_time() {
    let card = "\r\n4111111111111111\r\n";
    let head = "Content-Type: multipart/mixed; boundary=bbbb\r\n\r\n--bbbb\r\n\r\n";
    for (name, flood) in [
        ("boundaries", "--bbbb\r\n"),
        ("closing", "--bbbb--\r\n"),
        ("nearly", "--bbb\r\n"),
        ("dashes", "-"),
        ("dash lines", "\r\n-"),
        ("digits", "4"),
        ("groups", "4111 "),
        ("letters and digits", "a1"),
        ("open escapes", "=\r\n="),
        ("lead bytes", "\u{ff11}\u{e000}"),
        ("spaces", " "),
        ("hyphens", "a-"),
        ("words", "=?utf-8?q?"),
    ] {
        let message = format!("{head}{}{card}", flood.repeat(300_000 / flood.len()));
        let outcome = filters().scan(message.as_bytes());
        let found = lines(&outcome).iter().any(|line| line.starts_with("credit_card"));
        assert!(found, "{name}: {:?}", lines(&outcome));
        let subject = format!("Subject: {}{card}\r\n", flood.repeat(30_000 / flood.len()));
        drop(filters().scan(subject.as_bytes()));
    }
}

/// Pieces of messages, in any order.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
        "Content-Type: multipart/alternative; boundary=\"c d\"\r\n",
        "Content-Type: message/rfc822\r\n",
        "Content-Type: text/plain; charset=iso-2022-jp\r\n",
        "Content-Type: text/plain; charset=shift_jis\r\n",
        "Content-Type: image/png\r\n",
        "\r\n",
        "\n",
        "\r",
        "Content-Transfer-Encoding: base64\r\n",
        "Content-Transfer-Encoding: quoted-printable\r\n",
        "Content-Type: text/csv; charset=utf-16le\r\n",
        "--b\r\n",
        "--b",
        "--c d\r\n",
        "--c d--\r\n",
        "--b--\r\n",
        "--",
        "-",
        "\r\n--",
        " ",
        "\t",
        "Subject: ",
        "=?utf-8?B?",
        "?=",
        "4111111111111111",
        "4111 1111 ",
        "NDExMTExMTExMTExMTExMQ==",
        "MTEx",
        "=34=31=\r\n11",
        "=",
        "\u{1b}$B#4#1\u{1b}(B",
        "\u{1b}$B",
        "１",
        "word ",
    ]);
    prop_oneof![
        9 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzz::message(&data);
    }

    #[test]
    fn any_fragments_in_any_pieces(
        choice in any::<[u8; 2]>(),
        fragments in proptest::collection::vec(fragment(), 0..80),
    ) {
        fuzz::message(&[&choice[..], &fragments.concat()].concat());
    }
}

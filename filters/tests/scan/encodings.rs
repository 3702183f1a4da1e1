//! Every transfer encoding with every charset.

use base64_simd::STANDARD;
use encoding_rs::Encoding;

use crate::{lines, scan, verdict};

const ASCII: &str = "Dear customer, your card 5555 5555 5555 4444 was charged.\r\n";
const WIDE: &str = "カード番号：４１１１－１１１１－１１１１－１１１１（有効期限 12/27）\r\n";
const NO_BREAK: &str = "Votre carte\u{a0}: 4111\u{a0}1111\u{a0}1111\u{a0}1111 \u{e9}t\u{e9}\r\n";

fn encoded(transfer: &str, bytes: &[u8]) -> Vec<u8> {
    match transfer {
        "base64" => {
            let text = STANDARD.encode_to_string(bytes);
            text.as_bytes().chunks(76).flat_map(|line| [line, b"\r\n"].concat()).collect()
        }
        "quoted-printable" => quoted(bytes, |byte| !matches!(byte, b' '..=b'<' | b'>'..=b'~')),
        // Every byte escaped, as mailers do with Japanese.
        "Quoted-Printable" => quoted(bytes, |_| true),
        _ => bytes.to_vec(),
    }
}

fn quoted(bytes: &[u8], escaped: fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut column = 0;
    for byte in bytes {
        let text = if escaped(*byte) { format!("={byte:02X}").into_bytes() } else { vec![*byte] };
        if column + text.len() > 75 {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        column += text.len();
        out.extend(text);
    }
    out
}

#[track_caller]
fn check(charset: &str, text: &str, count: u32) {
    let encoding = Encoding::for_label(charset.as_bytes()).expect("known");
    let bytes = match charset {
        // encoding_rs does not encode UTF-16.
        "utf-16le" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "utf-16be" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        _ => encoding.encode(text).0.into_owned(),
    };
    for transfer in ["7bit", "8bit", "binary", "quoted-printable", "Quoted-Printable", "base64"] {
        if charset.starts_with("utf-16") && transfer.ends_with("bit") {
            continue;
        }
        let head = format!(
            "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=\"{charset}\"\r\n\
             Content-Transfer-Encoding: {transfer}\r\n\r\n"
        );
        let message = [head.into_bytes(), encoded(transfer, &bytes)].concat();
        let outcome = scan(&message);
        let want = format!("credit_card 1 {count}/{count}");
        assert_eq!(lines(&outcome), [want], "{charset} {transfer}");
        let want = format!("credit_card part=1 count={count} rule=dlp.credit_card");
        assert_eq!(verdict(&outcome), want);
    }
}

#[test]
fn japanese_charsets_in_every_transfer_encoding() {
    let filler =
        "本日はご注文ありがとうございます。Thank you for your order of today, and so on.\r\n";
    let text = [&filler.repeat(9), WIDE, filler, ASCII, &filler.repeat(40)].concat();
    for charset in
        ["utf-8", "iso-2022-jp", "Shift_JIS", "windows-31j", "euc-jp", "utf-16le", "utf-16be"]
    {
        check(charset, &text, 2);
        check(charset, &[ASCII, WIDE].concat(), 2);
    }
}

#[test]
fn western_charsets_in_every_transfer_encoding() {
    let text = [NO_BREAK, ASCII, NO_BREAK.trim_end()].concat();
    for charset in ["utf-8", "iso-8859-1", "ISO-8859-15", "windows-1252"] {
        let encoding = Encoding::for_label(charset.as_bytes()).unwrap();
        let bytes = encoding.encode(&text).0.into_owned();
        for transfer in ["8bit", "quoted-printable", "Quoted-Printable", "base64"] {
            let head = format!(
                "Content-Type: text/plain; charset={charset}\r\n\
                 Content-Transfer-Encoding: {transfer}\r\n\r\n"
            );
            let message = [head.into_bytes(), encoded(transfer, &bytes)].concat();
            assert_eq!(lines(&scan(&message)), ["credit_card 1 2/3"], "{charset} {transfer}");
        }
    }
    for charset in ["us-ascii", "utf-8", "iso-8859-1", "koi8-r", "gb18030", "big5"] {
        check(charset, ASCII, 1);
    }
}

#[test]
fn a_value_split_anywhere_is_found_once() {
    for column in 1..=80 {
        let text = STANDARD.encode_to_string(ASCII.repeat(3));
        let body: Vec<u8> =
            text.as_bytes().chunks(column).flat_map(|line| [line, b"\r\n"].concat()).collect();
        let message = [b"Content-Transfer-Encoding: BASE64\r\n\r\n".to_vec(), body].concat();
        assert_eq!(lines(&scan(&message)), ["credit_card 1 1/3"], "lines of {column}");
    }
    let number = "5555555555554444";
    for cut in 1..number.len() {
        let (start, end) = number.split_at(cut);
        let body = format!("no. {start}=\r\n{end} ok");
        let message = format!("Content-Transfer-Encoding: quoted-printable\r\n\r\n{body}");
        assert_eq!(lines(&scan(message.as_bytes())), ["credit_card 1 1/1"], "cut at {cut}");
    }
}

#[test]
fn what_cannot_be_decoded_is_told() {
    let cases = [
        ("Content-Type: text/plain; charset=utf-7\r\n", "unscannable.charset 1 1/1"),
        ("Content-Transfer-Encoding: x-uuencode\r\n", "unscannable.encoding 1 1/1"),
    ];
    for (field, want) in cases {
        let message = format!("{field}\r\n{ASCII}");
        assert_eq!(lines(&scan(message.as_bytes())), ["credit_card 1 1/1", want]);
    }
}

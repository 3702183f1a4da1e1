//! Prints what scanning costs on a few kinds of mail: `cargo run --release -p postern-filters
//! --example speed [NAME]`. Best of many runs, because other work shares the machine.
#![allow(clippy::print_stdout, reason = "a measuring program")]
#![allow(clippy::disallowed_methods, reason = "the clock is what it is about")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64_simd::STANDARD;
use postern_filters::{Config, Filters, Scan};

/// What a shard hands over at a time, bytes.
const CHUNK_BYTES: usize = 16 << 10;

const HEAD: &str = "Received: from app (app.example.com [192.0.2.1]) by relay.example.com with ESMTPS\r\n\
    \tid 01JDFX5W; Tue, 24 Nov 2026 10:00:00 +0000\r\n\
    From: \"The Shop\" <shop@example.com>\r\nTo: Customer <customer@example.net>\r\n\
    Subject: Your order 2026-1124-0071 is on its way\r\nMessage-ID: <5f0c9a.1795549680@example.com>\r\n\
    Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nX-Mailer: app 4.2\r\n";

const ENGLISH: &str = "Thank you for shopping with us. Your order of three items has left the house\r\n\
    today and will arrive on Friday between 9:00 and 12:00. You can follow it on our\r\n\
    site at any time; the total was 129.90 including tax, paid by card.\r\n";

const JAPANESE: &str =
    "この度はご注文いただき誠にありがとうございます。お届けは明日の午前中を予定しております。\r\n";

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let filters = Arc::new(Filters::new(Config::default()).expect("the default works"));
    for (name, message) in cases() {
        if name.contains(&only) {
            let best = best_of(&filters, &message);
            let seconds = best.as_secs_f64();
            let bytes = u32::try_from(message.len()).expect("small");
            println!(
                "{name:36} {bytes:8} bytes {:9.2} us {:7.2} GB/s",
                seconds * 1e6,
                f64::from(bytes) / seconds / 1e9
            );
        }
    }
}

fn best_of(filters: &Arc<Filters>, message: &[u8]) -> Duration {
    let once = || {
        let started = Instant::now();
        let mut scan = Scan::new(filters);
        message.chunks(CHUNK_BYTES).for_each(|chunk| scan.feed(chunk));
        black_box(scan.finish());
        started.elapsed()
    };
    let runs = (200 << 20) / message.len().max(1 << 14);
    (0..runs).map(|_| once()).min().expect("some runs")
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let text = |bytes: usize| ENGLISH.repeat(bytes / ENGLISH.len() + 1)[..bytes].to_string();
    let plain = "Content-Type: text/plain; charset=utf-8\r\n\r\n";
    let lines = |bytes: &[u8]| -> String {
        let encoded = STANDARD.encode_to_string(bytes);
        let lines: Vec<_> = encoded.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
        lines.join("\r\n")
    };
    let noise: Vec<u8> = (0..786_432_u64)
        .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).to_le_bytes()[3])
        .collect();
    let csv: String = (0..20_000_u64)
        .map(|n| {
            format!("{n},2026-11-24,{},ACME {},{}.90\r\n", 81_000_000 + n * 7, n % 97, n % 999)
        })
        .collect();
    let attachment = |kind: &str, body: &str| {
        let text = text(500);
        format!(
            "{HEAD}Content-Type: multipart/mixed; boundary=\"=_bound\"\r\n\r\n--=_bound\r\n{plain}{text}\r\n\
             --=_bound\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}\r\n--=_bound--\r\n"
        )
    };
    let quoted = |text: &str| -> String {
        let escapes: Vec<_> = text.bytes().map(|byte| format!("={byte:02X}")).collect();
        escapes.chunks(25).map(|line| line.concat() + "=\r\n").collect()
    };
    let japanese = JAPANESE.repeat(100);
    let iso_2022 = encoding_rs::ISO_2022_JP.encode(&japanese).0.into_owned();
    let with = |field: &str, body: &[u8]| [HEAD.as_bytes(), field.as_bytes(), body].concat();
    let html = "<tr><td style=\"padding:0\">Item</td><td>2</td></tr>\r\n".repeat(100);
    let both = format!(
        "{HEAD}Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n{plain}{}\r\n--b\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{html}--b--\r\n",
        text(1500)
    );
    vec![
        ("text 4 KiB", with(plain, text(4096).as_bytes())[..4096].to_vec()),
        ("alternative with html", both.into_bytes()),
        ("text 1 MiB", with(plain, text(1 << 20).as_bytes())),
        (
            "base64 text attachment, words",
            attachment("text/plain", &lines(text(786_432).as_bytes())).into(),
        ),
        ("base64 text attachment, csv", attachment("text/csv", &lines(csv.as_bytes())).into()),
        ("base64 text attachment, noise", attachment("text/plain", &lines(&noise)).into()),
        ("base64 pdf attachment", attachment("application/pdf", &lines(&noise)).into()),
        ("base64-like text", with(plain, lines(&noise).as_bytes())),
        ("csv as it is", with(plain, csv.as_bytes())),
        ("utf-8 japanese", with(plain, japanese.as_bytes())),
        (
            "quoted-printable japanese",
            with(
                "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
                quoted(&japanese).as_bytes(),
            ),
        ),
        ("iso-2022-jp", with("Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n", &iso_2022)),
        ("hostile: groups of four", with(plain, "4111 ".repeat(200_000).as_bytes())),
        ("hostile: card numbers", with(plain, "4111111111111111,".repeat(60_000).as_bytes())),
        ("hostile: letters and digits", with(plain, "a1-".repeat(300_000).as_bytes())),
        (
            "hostile: broken base64",
            with(
                "Content-Transfer-Encoding: base64\r\n\r\n",
                "NDE!\r\n".repeat(170_000).as_bytes(),
            ),
        ),
        (
            "hostile: nearly boundaries",
            with(
                "Content-Type: multipart/mixed; boundary=bb\r\n\r\n",
                "--b\r\n".repeat(200_000).as_bytes(),
            ),
        ),
        (
            "hostile: open escapes",
            with(
                "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
                "=4".repeat(500_000).as_bytes(),
            ),
        ),
    ]
}

//! Tables, and properties against a slow model that reads one byte at a time.

use proptest::prelude::*;

use super::*;

/// What framing made of a whole input.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    content: Vec<u8>,
    /// Bytes consumed, when the end was found.
    ended_at: Option<usize>,
    fault: Option<ContentFault>,
}

fn frame(transfer: Transfer, bare: BareNewlines, input: &[u8], cuts: &[usize]) -> Outcome {
    let mut framer = Framer::new(transfer, bare);
    let (mut content, mut consumed, mut cuts) = (Vec::new(), 0, cuts.iter().cycle());
    let mut ended_at = None;
    'all: while consumed < input.len() {
        let cut = cuts.next().copied().unwrap_or(usize::MAX);
        let end = consumed.saturating_add(cut.max(1)).min(input.len());
        while consumed < end {
            let framed = framer.receive(&input[consumed..end]);
            consumed += framed.consumed;
            match framed.piece {
                Piece::Content(wire) => {
                    assert!(!wire.is_empty(), "an empty slice was handed out");
                    content.extend_from_slice(wire);
                }
                Piece::Nothing => assert_eq!(consumed, end, "nothing, but input is left"),
                Piece::End => {
                    ended_at = Some(consumed);
                    break 'all;
                }
            }
        }
    }
    if transfer == Transfer::Chunks {
        content.extend_from_slice(framer.finish().unwrap_or_default());
        ended_at = Some(consumed);
    }
    Outcome { content, ended_at, fault: framer.fault() }
}

/// The model of DATA: where CRLF.CRLF stands, and what is wrong before it.
fn model_dots(input: &[u8]) -> (Option<usize>, Option<ContentFault>) {
    let all = [b"\r\n", input].concat();
    let end = all.windows(5).position(|five| five == b"\r\n.\r\n").map(|at| at + 3);
    let looked_at = &input[..end.unwrap_or(input.len())];
    (end, model_fault(looked_at))
}

fn model_fault(content: &[u8]) -> Option<ContentFault> {
    content.iter().enumerate().find_map(|(at, &byte)| match byte {
        0 => Some(ContentFault::Nul),
        b'\n' if at == 0 || content[at - 1] != b'\r' => Some(ContentFault::BareLf),
        b'\r' if content.get(at + 1).is_some_and(|&next| next != b'\n') => {
            Some(ContentFault::BareCr)
        }
        _ => None,
    })
}

fn dots(bare: BareNewlines, input: &str) -> Outcome {
    let whole = frame(Transfer::Dots, bare, input.as_bytes(), &[]);
    for cut in 1..input.len() {
        let cut_up = frame(Transfer::Dots, bare, input.as_bytes(), &[cut]);
        assert_eq!((cut_up.ended_at, cut_up.fault), (whole.ended_at, whole.fault), "{input:?}");
        if whole.fault.is_none() {
            assert_eq!(cut_up.content, whole.content, "{input:?} cut at {cut}");
        }
    }
    whole
}

fn good(input: &str, content: &str) {
    let outcome = dots(BareNewlines::Reject, input);
    assert_eq!(outcome.fault, None, "{input:?}");
    assert_eq!(outcome.ended_at, Some(content.len() + 3), "{input:?}");
    assert_eq!(String::from_utf8(outcome.content).expect("text"), content, "{input:?}");
}

#[test]
fn ends_only_at_the_five_bytes() {
    good(".\r\n", "");
    good("\r\n.\r\n", "\r\n");
    good("a\r\n.\r\nMAIL FROM:<>\r\n", "a\r\n");
    good("..\r\n.\r\n", "..\r\n");
    good(".a\r\n..b\r\na.\r\n.\r\n", ".a\r\n..b\r\na.\r\n");
    good("a\r\n.b\r\n.\r\n.\r\n", "a\r\n.b\r\n");
    good("a\r\n.\t\r\n.\r\n", "a\r\n.\t\r\n");
    good("a\r\n. \r\n.\r\n", "a\r\n. \r\n");
    good("a\u{b}.\u{b}\u{85}.\u{85}\r\n.\r\n", "a\u{b}.\u{b}\u{85}.\u{85}\r\n");
}

/// Sequences that some server takes for an end of data. Each is followed by commands and, after
/// them, by the true end.
pub(crate) const SMUGGLED_ENDS: [(&str, Option<ContentFault>); 18] = [
    ("\n.\n", Some(ContentFault::BareLf)),
    ("\n.\r\n", Some(ContentFault::BareLf)),
    ("\r.\r", Some(ContentFault::BareCr)),
    ("\r.\r\n", Some(ContentFault::BareCr)),
    ("\r\n.\r", Some(ContentFault::BareCr)),
    ("\r\n.\n", Some(ContentFault::BareLf)),
    ("\n.\r", Some(ContentFault::BareLf)),
    ("\r.\n", Some(ContentFault::BareCr)),
    ("\r\r\n.\r\r\n", Some(ContentFault::BareCr)),
    ("\r\n.\r\r\n", Some(ContentFault::BareCr)),
    ("\r\n\0.\r\n", Some(ContentFault::Nul)),
    ("\r\n.\0\r\n", Some(ContentFault::Nul)),
    ("\r\n. \r\n", None),
    ("\n\r.\n\r", Some(ContentFault::BareLf)),
    ("\u{b}.\u{b}", None),
    ("\u{85}.\u{85}", None),
    ("\u{2028}.\u{2028}", None),
    ("\r\n.\u{c}\r\n", None),
];

#[test]
fn smuggled_ends_do_not_end() {
    for (end, fault) in SMUGGLED_ENDS {
        let input = format!("Subject: x\r\n\r\na{end}MAIL FROM:<evil@a.example>\r\nb\r\n.\r\n");
        let strict = dots(BareNewlines::Reject, &input);
        assert_eq!(strict.ended_at, Some(input.len()), "{end:?}");
        assert_eq!(strict.fault, fault, "{end:?}");
        let lenient = dots(BareNewlines::Normalize, &input);
        assert_eq!(lenient.ended_at, Some(input.len()), "{end:?}");
        check_wire(&lenient);
        let chunk = format!("Subject: x\r\n\r\na{end}MAIL FROM:<evil@a.example>\r\nb\r\n");
        for cut in 1..chunk.len() {
            let strict = frame(Transfer::Chunks, BareNewlines::Reject, chunk.as_bytes(), &[cut]);
            assert_eq!(strict.fault, fault, "{end:?} in a chunk");
            check_wire(&strict);
            let mended = frame(Transfer::Chunks, BareNewlines::Normalize, chunk.as_bytes(), &[cut]);
            check_wire(&mended);
        }
    }
}

/// Content without fault is wire form, whole lines, and nothing a neighbour could take for an end.
fn check_wire(outcome: &Outcome) {
    if outcome.fault.is_some() {
        return;
    }
    let mut check = WireCheck::new();
    assert_eq!(check.check(&outcome.content), Ok(()), "{:?}", outcome.content.escape_ascii());
    assert_eq!(check.terminator(), Ok(b".\r\n".as_slice()));
}

#[test]
fn normalizes() {
    let mended = |input: &str, content: &str| {
        let outcome = dots(BareNewlines::Normalize, input);
        assert_eq!((outcome.fault, outcome.ended_at), (None, Some(input.len())), "{input:?}");
        assert_eq!(String::from_utf8(outcome.content).expect("text"), content, "{input:?}");
    };
    mended("a\nb\n\r\n.\r\n", "a\r\nb\r\n\r\n");
    mended("a\rb\r\r\n.\r\n", "a b \r\n");
    mended("a\n.\nb\r\n.\r\n", "a\r\n..\r\nb\r\n");
    mended("a\n.\r\nb\r\n.\r\n", "a\r\n..\r\nb\r\n");
    mended("a\r\n.\nb\r\n.\r\n", "a\r\n..\r\nb\r\n");
    mended("a\n..b\r\n.\r\n", "a\r\n..b\r\n");
    mended("a\n.b\r\n.\r\n", "a\r\n..b\r\n");
    let nul = dots(BareNewlines::Normalize, "a\0b\r\n.\r\n");
    assert_eq!(nul.fault, Some(ContentFault::Nul));
}

#[test]
fn chunks_are_stuffed_and_completed() {
    let check = |input: &str, content: &str| {
        for cut in 1..=input.len().max(1) {
            let got = frame(Transfer::Chunks, BareNewlines::Reject, input.as_bytes(), &[cut]);
            assert_eq!(got.fault, None, "{input:?}");
            assert_eq!(String::from_utf8(got.content).expect("text"), content, "{input:?} {cut}");
        }
    };
    check("", "");
    check("a", "a\r\n");
    check("a\r\n", "a\r\n");
    check(".", "..\r\n");
    check("..\r\n", "...\r\n");
    check("a\r\n.\r\nb", "a\r\n..\r\nb\r\n");
    check("\r\n.\r\n.\r\n", "\r\n..\r\n..\r\n");
    let half = frame(Transfer::Chunks, BareNewlines::Reject, b"a\r", &[]);
    assert_eq!(half.fault, Some(ContentFault::BareCr));
    let half = frame(Transfer::Chunks, BareNewlines::Normalize, b"a\r", &[]);
    assert_eq!((half.fault, half.content), (None, b"a\r\n".to_vec()));
}

#[test]
fn clean_text_is_one_slice() {
    let text = "A line of usual length that stands for mail.\r\n..stuffed\r\n".repeat(300);
    let mut framer = Framer::new(Transfer::Dots, BareNewlines::Reject);
    let framed = framer.receive(text.as_bytes());
    assert_eq!(framed.consumed, text.len());
    assert_eq!(framed.piece, Piece::Content(text.as_bytes()));
}

#[test]
fn wire_check_refuses() {
    let check = |wire: &[u8]| {
        let mut check = WireCheck::new();
        let checked = check.check(wire);
        checked.and_then(|()| check.terminator())
    };
    assert_eq!(check(b""), Ok(b".\r\n".as_slice()));
    assert_eq!(check(b"a\r\n"), Ok(b".\r\n".as_slice()));
    assert_eq!(check(b"a"), Ok(b"\r\n.\r\n".as_slice()));
    assert_eq!(check(b"a\r\n.\r\n"), Err(WireFault::EarlyEnd));
    assert_eq!(check(b".\r\n"), Err(WireFault::EarlyEnd));
    assert_eq!(check(b"a\r\n."), Err(WireFault::EarlyEnd));
    assert_eq!(check(b"a\nb"), Err(WireFault::Content(ContentFault::BareLf)));
    assert_eq!(check(b"a\rb"), Err(WireFault::Content(ContentFault::BareCr)));
    assert_eq!(check(b"a\r"), Err(WireFault::Content(ContentFault::BareCr)));
    assert_eq!(check(b"a\0"), Err(WireFault::Content(ContentFault::Nul)));
}

/// Mail-like bytes with everything that matters close together, and runs long enough to reach the
/// vectorised path.
fn hostile_content() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => Just(b"\r\n".to_vec()),
        2 => Just(b"\r\n.".to_vec()),
        2 => Just(b".".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\0".to_vec()),
        1 => Just(b"\r\n.\r\n".to_vec()),
        3 => (1_usize..400).prop_map(|bytes| vec![b'a'; bytes]),
        3 => (1_usize..8).prop_map(|lines| b"some words in a line\r\n".repeat(lines)),
    ];
    proptest::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1_usize..300, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn dots_follow_the_model(input in hostile_content(), cuts in cuts()) {
        let (end, fault) = model_dots(&input);
        for cuts in [cuts.as_slice(), &[], &[1]] {
            let got = frame(Transfer::Dots, BareNewlines::Reject, &input, cuts);
            prop_assert_eq!(got.ended_at, end);
            prop_assert_eq!(got.fault, fault);
            if let (Some(end), None) = (end, fault) {
                prop_assert_eq!(&got.content, &input[..end - 3]);
            }
        }
    }

    #[test]
    fn normalized_content_is_wire_form(input in hostile_content(), cuts in cuts()) {
        let whole = frame(Transfer::Dots, BareNewlines::Normalize, &input, &[]);
        let cut_up = frame(Transfer::Dots, BareNewlines::Normalize, &input, &cuts);
        prop_assert_eq!((whole.ended_at, whole.fault), (cut_up.ended_at, cut_up.fault));
        prop_assert_eq!(whole.ended_at, model_dots(&input).0);
        if whole.fault.is_none() {
            prop_assert_eq!(&whole.content, &cut_up.content);
        }
        if whole.ended_at.is_some() {
            check_wire(&whole);
        }
    }

    #[test]
    fn chunks_come_back_plain(input in hostile_content(), cuts in cuts()) {
        let got = frame(Transfer::Chunks, BareNewlines::Reject, &input, &cuts);
        check_wire(&got);
        let half = input.last() == Some(&b'\r');
        prop_assert_eq!(got.fault.is_some(), half || model_fault(&input).is_some());
        if got.fault.is_none() {
            let mut unstuffer = Unstuffer::new();
            let plain: Vec<u8> = got.content.chunks(cuts[0])
                .flat_map(|wire| unstuffer.chunk(wire).flatten().copied().collect::<Vec<_>>())
                .collect();
            let complete = input.is_empty() || input.ends_with(b"\r\n");
            let expected = if complete { input.clone() } else { [&input, &b"\r\n"[..]].concat() };
            prop_assert_eq!(plain, expected);
        }
        let mended = frame(Transfer::Chunks, BareNewlines::Normalize, &input, &cuts);
        check_wire(&mended);
        let whole = frame(Transfer::Chunks, BareNewlines::Normalize, &input, &[]);
        prop_assert_eq!(whole.fault, mended.fault);
        if whole.fault.is_none() {
            prop_assert_eq!(whole.content, mended.content);
        }
    }
}

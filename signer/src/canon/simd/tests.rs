//! Each tier against a reference written from the rule, and against the scalar twin.

#![allow(clippy::print_stdout, reason = "tests say what they skip")]

use proptest::prelude::*;

use super::*;

/// RFC 6376 3.4.4 (a) for one place, given all that follows it: `None` if the byte goes.
fn settled(rest: &[u8]) -> Option<u8> {
    let is_white_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    if !is_white_space(&rest[0]) {
        return Some(rest[0]);
    }
    let follows = &rest[1..];
    let goes = follows.first().is_some_and(is_white_space) || follows.starts_with(b"\r\n");
    (!goes).then_some(b' ')
}

fn tiers() -> Vec<(Tier, Squeezer)> {
    Tier::ALL.into_iter().filter_map(|tier| Some((tier, Squeezer::new(tier)?))).collect()
}

fn check(chunk: &[u8]) {
    let mut places = 0..chunk.len();
    let clean =
        places.position(|at| settled(&chunk[at..]) != Some(chunk[at])).unwrap_or(chunk.len());
    for (tier, squeezer) in tiers() {
        let found = squeezer.clean_bytes(chunk);
        assert_eq!(found % BLOCK, 0, "{tier:?}: whole blocks");
        assert!(found <= clean, "{tier:?}: {found} of {clean} bytes are clean: {chunk:?}");
        assert_eq!(found, Squeezer::Scalar.clean_bytes(chunk), "{tier:?}: {chunk:?}");
        let mut out = [0xaa; STAGING];
        let (taken, written) = squeezer.squeeze(chunk, &mut out);
        let expected: Vec<u8> = (0..taken).filter_map(|at| settled(&chunk[at..])).collect();
        assert_eq!(&out[..written], expected, "{tier:?}: {chunk:?}");
        assert!(taken > 0 || chunk.len() < WINDOW, "{tier:?} moves on");
    }
    let short = &chunk[..chunk.len().min(WINDOW - 1)];
    let mut out = [0; WINDOW];
    let written = squeeze_tail(short, &mut out);
    let settled_bytes = 0..short.len().saturating_sub(LOOKAHEAD);
    let expected: Vec<u8> = settled_bytes.filter_map(|at| settled(&short[at..])).collect();
    assert_eq!(&out[..written], expected, "{short:?}");
}

/// The self-test of this file: without the CPU's tiers, nothing would be compared.
#[test]
fn the_scalar_twin_is_always_there_and_the_best_is_available() {
    assert!(Tier::Scalar.is_available() && Tier::best().is_available());
    for tier in Tier::ALL {
        assert_eq!(Squeezer::new(tier).is_some(), tier.is_available(), "{tier:?}");
        if !tier.is_available() {
            println!("skipped: this CPU has no {}", tier.as_str());
        }
    }
}

#[test]
fn every_pattern_at_every_place_of_a_block() {
    let patterns: [&[u8]; 9] =
        [b"  ", b"\t", b" \r\n", b" \r", b" \t\r\n", b" \n", b"\r\n", b" \0", b" \x80"];
    for pattern in patterns {
        for at in 0..2 * BLOCK {
            for fill in *b"a \t\r\n\x80\xff" {
                let mut chunk = vec![fill; 3 * BLOCK];
                chunk[at..at + pattern.len()].copy_from_slice(pattern);
                check(&chunk);
            }
        }
    }
}

#[test]
fn every_combination_of_kept_bytes_in_a_group() {
    // Each of 2^8 sets of double spaces in eight bytes, beside letters that tell the order.
    for set in 0..=255_u8 {
        let mut chunk: Vec<u8> = (0..8 * WINDOW).map(|n| b'a' + n.to_le_bytes()[0] % 26).collect();
        for (bit, group) in (0..8).flat_map(|bit| (0..16).map(move |group| (bit, group))) {
            if set >> bit & 1 == 1 {
                chunk[group * 8 + bit] = b' ';
            }
        }
        check(&chunk);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn tiers_agree_on_hostile_alphabets(
        chunk in prop::collection::vec(prop::sample::select(&b" \t\r\na"[..]), 0..400),
        start in 0_usize..8,
    ) {
        check(&chunk[start.min(chunk.len())..]);
    }

    #[test]
    fn tiers_agree_on_any_bytes(chunk in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&chunk);
    }

    #[test]
    fn tiers_agree_where_the_staging_fills_up(
        unit in prop::collection::vec(prop::sample::select(&b" \t\r\nab"[..]), 1..9),
        bytes in STAGING - 100..2 * STAGING,
    ) {
        let chunk: Vec<u8> = unit.into_iter().cycle().take(bytes).collect();
        check(&chunk);
    }
}

//! The lanes with AVX-512 IFMA (`vpmadd52luq`, `vpmadd52huq`): eight 52 x 52 bit products and
//! additions an instruction. Intel since Ice Lake, AMD since Zen 4.
//!
//! One multiplication is 1,600 of them, a squaring 1,220, a multiplication by a table entry 1,200;
//! a processor with one such multiplier of 512 bits does one a cycle, which is what the rows below
//! keep it to:
//!
//! - Rows are written out by macros, so that the column sums stay in registers. A squaring has forty
//!   sums and a processor 32 registers, so it reduces each pair of columns as soon as that is
//!   complete: at most 22 are in use at a time (4 % faster than with all forty, which spill).
//! - The lowest sum needs no second multiplication: `lo(modulus[0] * times) + sum = 0 mod 2^52` by
//!   the choice of `times`, so what it carries is `ceil(sum / 2^52)`.
//! - Digits are stored with their carries on top, since the multiplier reads 52 bits: twenty ANDs
//!   less.
//! - Operands are loaded anew for every product (`load` is volatile): held in registers they would
//!   push the sums out.
//! - The table is read a digit at a time between the rows of a squaring, on ports the multiplier
//!   leaves idle.
//!
//! Two independent passes interleaved gain nothing: twenty sums hide the multiplier's four cycles.
//!
//! Security: no address and no branch depends on an operand; the table read loads all entries and
//! blends them by mask registers.
//!
//! Unsafe: the instructions themselves, which [`Ifma::new`] has made sure of, and vector loads and
//! stores, which stay inside the [`Wide`] they are given. Safe code was not enough because no safe
//! form of these instructions exists.

#![allow(clippy::too_many_arguments, reason = "a kernel is given all it may touch")]

use std::arch::asm;
use std::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_load_si512, _mm512_loadu_si512,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_srli_epi64, _mm512_store_si512, _mm512_test_epi64_mask,
};

use super::{
    DIGIT, ENTRIES, Factor, Kernel, LANES, LIMBS, Moduli, Table, WINDOW_BITS, Wide, Window,
};

/// Proof that this CPU and this system have the instructions.
#[derive(Clone, Copy)]
pub(super) struct Ifma(());

impl Ifma {
    /// Looks whether they are there; the look includes that the system saves the registers.
    pub(super) fn new() -> Option<Self> {
        let is_there =
            is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma");
        is_there.then_some(Self(()))
    }
}

impl Kernel for Ifma {
    fn name(&self) -> &'static str {
        "ifma"
    }

    fn multiply(&self, value: &mut Wide, b: &Wide, by: &Moduli) {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { multiply(value, b, by) }
    }

    fn square(&self, value: &mut Wide, by: &Moduli) {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { square(value, by) }
    }

    fn read(&self, read: &mut Factor, table: &Table, window: Window<'_>) {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { read_factor(read, table, window) }
    }

    fn square_four_times(
        &self,
        value: &mut Wide,
        by: &Moduli,
        table: &Table,
        window: Window<'_>,
        read: &mut Factor,
    ) {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { square_four_times(value, by, table, window, read) }
    }

    fn multiply_by(&self, value: &mut Wide, b: &Factor, by: &Moduli) {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { multiply_by(value, b, by) }
    }

    fn halve(&self, b: &mut Factor, by: &Moduli) {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { halve(b, by) }
    }

    fn add(&self, value: &mut Wide, b: &Wide) {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { add(value, b) }
    }

    fn wipe_traces(&self) {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { wipe_registers() };
        wipe_stack();
    }
}

/// Runs a block for each digit, with its number as a constant.
macro_rules! each_digit {
    ($digit:ident, $block:block) => {
        each_digit!(@ $digit, $block, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19)
    };
    (@ $digit:ident, $block:block, $($number:literal)*) => {
        $( { const $digit: usize = $number; $block } )*
    };
}

/// The same for the lower half of the digits.
macro_rules! each_low_digit {
    ($digit:ident, $block:block) => {
        each_digit!(@ $digit, $block, 0 1 2 3 4 5 6 7 8 9)
    };
}

/// One digit of all lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load(number: &Wide, digit: usize) -> __m512i {
    let row: &[u64; LANES] = &number.0[digit];
    // SAFETY: a row is 64 bytes, aligned to 64 since `Wide` is and all rows are 64 bytes.
    unsafe { std::ptr::from_ref(row).cast::<__m512i>().read_volatile() }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn store(row: &mut [u64; LANES], value: __m512i) {
    debug_assert!(std::ptr::from_mut(row).cast::<__m512i>().is_aligned());
    // SAFETY: a row is 64 bytes; all callers' rows lie in a `Wide`, which is aligned to 64.
    unsafe { _mm512_store_si512(std::ptr::from_mut(row).cast(), value) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load_lanes(lanes: &[u64; LANES]) -> __m512i {
    // SAFETY: 64 bytes are there, and this load needs no alignment.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

/// Carries twenty sums on and stores their digits with the carries on top.
macro_rules! store_sums {
    ($out:ident, $sums:ident, from $first:expr) => {
        let mut carry = _mm512_setzero_si512();
        each_digit!(I, {
            let sum = _mm512_add_epi64($sums[$first + I], carry);
            carry = _mm512_srli_epi64::<52>(sum);
            store(&mut $out.0[I], sum);
        });
        _ = carry; // zero: no sum outgrows its twenty digits
    };
}

/// Adds the multiple of the modulus that makes the sum at `$at` zero, and carries it on.
macro_rules! reduce_row {
    ($sums:ident, $at:expr, $by:ident, $inverse:ident, $digit_mask:ident) => {
        let zero = _mm512_setzero_si512();
        let times = _mm512_madd52lo_epu64(zero, $sums[$at], $inverse);
        let carry = _mm512_srli_epi64::<52>(_mm512_add_epi64($sums[$at], $digit_mask));
        $sums[$at + 1] = _mm512_add_epi64($sums[$at + 1], carry);
        each_digit!(J, {
            let modulus = load(&$by.modulus, J);
            if J > 0 {
                $sums[$at + J] = _mm512_madd52lo_epu64($sums[$at + J], modulus, times);
            }
            $sums[$at + J + 1] = _mm512_madd52hi_epu64($sums[$at + J + 1], modulus, times);
        });
    };
}

/// Adds one digit times a number.
macro_rules! add_row {
    ($sums:ident, $at:expr, $number:expr, $digit:ident) => {
        each_digit!(J, {
            let number = load($number, J);
            $sums[$at + J] = _mm512_madd52lo_epu64($sums[$at + J], number, $digit);
            $sums[$at + J + 1] = _mm512_madd52hi_epu64($sums[$at + J + 1], number, $digit);
        });
    };
}

/// The mask of a digit, in every lane.
macro_rules! digit_mask {
    () => {
        _mm512_set1_epi64(DIGIT.cast_signed())
    };
}

/// A number with every digit doubled and the bit that falls out carried on, except into the digit
/// that a row begins with: each product of two different digits is wanted twice.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn double(number: &Wide) -> Wide {
    let mut doubled = Wide::ZERO;
    let one = _mm512_set1_epi64(1);
    let mut below = _mm512_setzero_si512();
    for digit in 0..LIMBS {
        let value = load(number, digit);
        let carry = _mm512_and_si512(_mm512_srli_epi64::<51>(below), one);
        store(&mut doubled.0[digit], _mm512_add_epi64(_mm512_add_epi64(value, value), carry));
        below = value;
    }
    doubled
}

/// Adds row `$row` of a square: the digit's own square, and its products with the digits above it,
/// doubled.
macro_rules! add_square_row {
    ($sums:ident, $row:ident, $number:ident, $doubled:ident) => {
        let digit = load($number, $row);
        $sums[2 * $row] = _mm512_madd52lo_epu64($sums[2 * $row], digit, digit);
        $sums[2 * $row + 1] = _mm512_madd52hi_epu64($sums[2 * $row + 1], digit, digit);
        each_digit!(J, {
            if J > $row {
                let number = if J == $row + 1 {
                    let next = load($number, J);
                    _mm512_add_epi64(next, next)
                } else {
                    load(&$doubled, J)
                };
                $sums[$row + J] = _mm512_madd52lo_epu64($sums[$row + J], number, digit);
                $sums[$row + J + 1] = _mm512_madd52hi_epu64($sums[$row + J + 1], number, digit);
            }
        });
    };
}

/// Squares and reduces: after row `I` the sums `2 I` and `2 I + 1` are complete and reduced at once,
/// so that never more than 22 of the forty are in use.
macro_rules! square_rows {
    ($sums:ident, $value:ident, $by:ident, |$row:ident| $between:block) => {
        let digit_mask = digit_mask!();
        let inverse = load_lanes(&$by.inverse);
        let doubled = double($value);
        each_digit!($row, {
            add_square_row!($sums, $row, $value, doubled);
            if $row < LIMBS / 2 {
                reduce_row!($sums, 2 * $row, $by, inverse, digit_mask);
                reduce_row!($sums, 2 * $row + 1, $by, inverse, digit_mask);
            }
            $between
        });
    };
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiply(value: &mut Wide, b: &Wide, by: &Moduli) {
    let digit_mask = digit_mask!();
    let inverse = load_lanes(&by.inverse);
    let mut sums = [_mm512_setzero_si512(); 2 * LIMBS + 1];
    each_digit!(I, {
        let digit = load(b, I);
        add_row!(sums, I, value, digit);
        reduce_row!(sums, I, by, inverse, digit_mask);
    });
    store_sums!(value, sums, from LIMBS);
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn square(value: &mut Wide, by: &Moduli) {
    let mut sums = [_mm512_setzero_si512(); 2 * LIMBS + 1];
    square_rows!(sums, value, by, |ROW| {});
    store_sums!(value, sums, from LIMBS);
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn square_four_times(
    value: &mut Wide,
    by: &Moduli,
    table: &Table,
    window: Window<'_>,
    read: &mut Factor,
) {
    let masks = masks(window);
    square_and_read::<0>(value, by, table, &masks, read);
    square_and_read::<1>(value, by, table, &masks, read);
    square_and_read::<2>(value, by, table, &masks, read);
    square_and_read::<3>(value, by, table, &masks, read);
}

/// A squaring with the quarter `PART` of a table read between its rows.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn square_and_read<const PART: usize>(
    value: &mut Wide,
    by: &Moduli,
    table: &Table,
    masks: &[__mmask8; WINDOW_BITS],
    read: &mut Factor,
) {
    let mut sums = [_mm512_setzero_si512(); 2 * LIMBS + 1];
    square_rows!(sums, value, by, |ROW| {
        if ROW < LIMBS / 2 {
            // Ten digits a squaring: forty in four, twenty of each half of the factor.
            let digit = PART * (LIMBS / 2) + ROW;
            let chosen = read_entry(&table.0[digit], masks);
            if PART < 2 {
                store(&mut read.whole.0[digit % LIMBS], chosen);
            } else {
                store(&mut read.halved.0[digit % LIMBS], chosen);
            }
        }
    });
    store_sums!(value, sums, from LIMBS);
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiply_by(value: &mut Wide, b: &Factor, by: &Moduli) {
    let digit_mask = digit_mask!();
    let inverse = load_lanes(&by.inverse);
    let mut sums = [_mm512_setzero_si512(); LIMBS + LIMBS / 2 + 1];
    each_low_digit!(I, {
        let (low, high) = (load(value, I), load(value, I + LIMBS / 2));
        add_row!(sums, I, &b.halved, low);
        add_row!(sums, I, &b.whole, high);
        reduce_row!(sums, I, by, inverse, digit_mask);
    });
    store_sums!(value, sums, from LIMBS / 2);
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn halve(b: &mut Factor, by: &Moduli) {
    let digit_mask = digit_mask!();
    let inverse = load_lanes(&by.inverse);
    let mut sums = [_mm512_setzero_si512(); LIMBS + LIMBS / 2 + 1];
    each_digit!(I, {
        sums[I] = _mm512_and_si512(load(&b.whole, I), digit_mask);
    });
    each_low_digit!(I, {
        reduce_row!(sums, I, by, inverse, digit_mask);
    });
    let halved = &mut b.halved;
    store_sums!(halved, sums, from LIMBS / 2);
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn add(value: &mut Wide, b: &Wide) {
    let digit_mask = digit_mask!();
    let mut sums = [_mm512_setzero_si512(); LIMBS];
    each_digit!(I, {
        let (a, b) = (load(value, I), load(b, I));
        sums[I] =
            _mm512_add_epi64(_mm512_and_si512(a, digit_mask), _mm512_and_si512(b, digit_mask));
    });
    store_sums!(value, sums, from 0);
}

/// Bit `n` of each lane's entry number, as mask `n`.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn masks(window: Window<'_>) -> [__mmask8; WINDOW_BITS] {
    let words = load_lanes(window.words);
    [1, 2, 4, 8].map(|bit| _mm512_test_epi64_mask(words, _mm512_set1_epi64(bit << window.shift)))
}

/// One digit of the entry that each lane wants: all sixteen are loaded, and halved in number by
/// each bit.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn read_entry(entries: &[[u64; LANES]; ENTRIES], masks: &[__mmask8; WINDOW_BITS]) -> __m512i {
    // SAFETY: an entry is 64 bytes, aligned to 64 since `Table` is and all entries are 64 bytes.
    let load = |entry: usize| unsafe { _mm512_load_si512(entries[entry].as_ptr().cast()) };
    let pair = |of: usize| _mm512_mask_blend_epi64(masks[0], load(2 * of), load(2 * of + 1));
    let four = |of: usize| _mm512_mask_blend_epi64(masks[1], pair(2 * of), pair(2 * of + 1));
    let low = _mm512_mask_blend_epi64(masks[2], four(0), four(1));
    let high = _mm512_mask_blend_epi64(masks[2], four(2), four(3));
    _mm512_mask_blend_epi64(masks[3], low, high)
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn read_factor(read: &mut Factor, table: &Table, window: Window<'_>) {
    let masks = masks(window);
    let (whole, halved) = table.0.split_at(LIMBS);
    for (digit, (whole, halved)) in whole.iter().zip(halved).enumerate() {
        store(&mut read.whole.0[digit], read_entry(whole, &masks));
        store(&mut read.halved.0[digit], read_entry(halved, &masks));
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn wipe_registers() {
    // SAFETY: each register that is written is declared as overwritten; nothing else is touched.
    unsafe {
        asm!(
            "vpxorq zmm16, zmm16, zmm16", "vpxorq zmm17, zmm17, zmm17",
            "vpxorq zmm18, zmm18, zmm18", "vpxorq zmm19, zmm19, zmm19",
            "vpxorq zmm20, zmm20, zmm20", "vpxorq zmm21, zmm21, zmm21",
            "vpxorq zmm22, zmm22, zmm22", "vpxorq zmm23, zmm23, zmm23",
            "vpxorq zmm24, zmm24, zmm24", "vpxorq zmm25, zmm25, zmm25",
            "vpxorq zmm26, zmm26, zmm26", "vpxorq zmm27, zmm27, zmm27",
            "vpxorq zmm28, zmm28, zmm28", "vpxorq zmm29, zmm29, zmm29",
            "vpxorq zmm30, zmm30, zmm30", "vpxorq zmm31, zmm31, zmm31",
            "vzeroall",
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Overwrites the part of the stack that the kernel's functions used, for the sums that did not fit
/// the registers.
#[inline(never)]
fn wipe_stack() {
    let mut used = [0u64; STACK_BYTES / 8];
    std::hint::black_box(&mut used);
}

/// Twice what the largest of the functions above needs (a squaring: 41 sums of 64 bytes).
const STACK_BYTES: usize = 8 * 1024;

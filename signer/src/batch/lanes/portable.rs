//! The lanes in plain Rust: the same rows and carries as the AVX-512 kernel, digit by digit, for
//! tests and for tools that do not know those instructions.
//!
//! About sixty times slower than `ring`; nobody should sign with it in earnest.

use super::{DIGIT, ENTRIES, Factor, Kernel, LANES, LIMBS, Moduli, Table, Wide, Window};

/// The model.
pub(super) struct Portable;

/// Eight column sums.
type Sums = [u64; LANES];

impl Kernel for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn multiply(&self, value: &mut Wide, b: &Wide, by: &Moduli) {
        let mut sums = [[0; LANES]; 2 * LIMBS];
        for (row, b) in b.0.iter().enumerate() {
            add_product(&mut sums, row, &value.0, b);
            reduce_row(&mut sums, row, by);
        }
        store(value, &sums[LIMBS..]);
    }

    fn square(&self, value: &mut Wide, by: &Moduli) {
        let copy = *value;
        self.multiply(value, &copy, by);
    }

    fn read(&self, read: &mut Factor, table: &Table, window: Window<'_>) {
        let entry = window.words.map(|word| word >> window.shift & (ENTRIES as u64 - 1));
        for (digit, entries) in table.0.iter().enumerate() {
            let chosen: Sums = std::array::from_fn(|lane| {
                // All entries are read, whichever is wanted.
                (0u64..).zip(entries).fold(0, |chosen, (index, values)| {
                    chosen | values[lane] & mask_if_equal(index, entry[lane])
                })
            });
            match digit.checked_sub(LIMBS) {
                None => read.whole.0[digit] = chosen,
                Some(digit) => read.halved.0[digit] = chosen,
            }
        }
    }

    fn square_four_times(
        &self,
        value: &mut Wide,
        by: &Moduli,
        table: &Table,
        window: Window<'_>,
        read: &mut Factor,
    ) {
        (0..4).for_each(|_| self.square(value, by));
        self.read(read, table, window);
    }

    fn multiply_by(&self, value: &mut Wide, b: &Factor, by: &Moduli) {
        let mut sums = [[0; LANES]; 2 * LIMBS];
        let (low, high) = value.0.split_at(LIMBS / 2);
        for (row, (low, high)) in low.iter().zip(high).enumerate() {
            add_product(&mut sums, row, &b.halved.0, low);
            add_product(&mut sums, row, &b.whole.0, high);
            reduce_row(&mut sums, row, by);
        }
        store(value, &sums[LIMBS / 2..]);
    }

    fn halve(&self, b: &mut Factor, by: &Moduli) {
        let mut sums = [[0; LANES]; 2 * LIMBS];
        for (sums, digits) in sums.iter_mut().zip(&b.whole.0) {
            *sums = digits.map(|digit| digit & DIGIT);
        }
        (0..LIMBS / 2).for_each(|row| reduce_row(&mut sums, row, by));
        store(&mut b.halved, &sums[LIMBS / 2..]);
    }

    fn add(&self, value: &mut Wide, b: &Wide) {
        let mut sums = [[0; LANES]; LIMBS];
        for (sums, (a, b)) in sums.iter_mut().zip(value.0.iter().zip(&b.0)) {
            *sums = std::array::from_fn(|lane| (a[lane] & DIGIT) + (b[lane] & DIGIT));
        }
        store(value, &sums);
    }

    fn wipe_traces(&self) {}
}

/// `sums += a b 2^(52 row)`, for one digit `b`.
fn add_product(sums: &mut [Sums], row: usize, a: &[Sums; LIMBS], b: &Sums) {
    for (column, a) in (row..).zip(a) {
        for lane in 0..LANES {
            let product = u128::from(a[lane] & DIGIT) * u128::from(b[lane] & DIGIT);
            #[allow(clippy::cast_possible_truncation, reason = "cut to 52 bits first")]
            let halves =
                ((product & u128::from(DIGIT)) as u64, (product >> 52 & u128::from(DIGIT)) as u64);
            sums[column][lane] += halves.0;
            sums[column + 1][lane] += halves.1;
        }
    }
}

/// Adds the multiple of the modulus that makes the lowest digit zero, and carries that digit on.
fn reduce_row(sums: &mut [Sums], row: usize, by: &Moduli) {
    let times: Sums =
        std::array::from_fn(|lane| sums[row][lane].wrapping_mul(by.inverse[lane]) & DIGIT);
    add_product(sums, row, &by.modulus.0, &times);
    let carries = sums[row];
    for (sum, carry) in sums[row + 1].iter_mut().zip(carries) {
        debug_assert_eq!(carry & DIGIT, 0, "the lowest digit is zero");
        *sum += carry >> 52;
    }
}

/// Carries the sums on and stores their digits, loose.
fn store(out: &mut Wide, sums: &[Sums]) {
    let mut carry = [0; LANES];
    for (out, sums) in out.0.iter_mut().zip(sums) {
        for lane in 0..LANES {
            out[lane] = sums[lane] + carry[lane];
            carry[lane] = out[lane] >> 52;
        }
    }
}

/// All ones where both are equal, zeros otherwise, for numbers below 2^63.
fn mask_if_equal(a: u64, b: u64) -> u64 {
    let differs = (a ^ b).wrapping_neg() >> 63;
    differs.wrapping_sub(1)
}

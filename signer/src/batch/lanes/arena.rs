//! The working memory of a pass, in one place of its own.
//!
//! Where things lie decides 7 % of the time: a load that has the same low twelve address bits as a
//! store before it waits for it. So everything lies in one block that begins at a page, in an order
//! that was chosen by measuring, wherever the allocator would have put it.

use super::key::PreparedHalf;
use super::scalar::{Full, HALF_WORDS, Half, split};
use super::{ENTRIES, Factor, Kernel, LANES, Moduli, Table, WINDOW_BITS, WINDOWS, Wide, Window};
use crate::memory::Plain;

/// See the module.
#[repr(C, align(4096))]
pub(super) struct Arena {
    pub(super) table: Table,
    pub(super) moduli: Moduli,
    /// What is being raised.
    pub(super) power: Wide,
    /// What it is multiplied by next.
    pub(super) factor: Factor,
    /// The exponents, word by word, so that one window of all lanes lies in a row.
    exponents: [[u64; LANES]; HALF_WORDS],
    /// One in Montgomery form: `R`.
    one: Wide,
    /// `R^2` and `R^3`.
    to_montgomery: Wide,
    to_montgomery_high: Wide,
    /// The number of each slot: its low 1040 bits, and the rest.
    pub(super) low: Wide,
    pub(super) high: Wide,
    /// The message in Montgomery form.
    pub(super) base: Wide,
    /// Blinding factors.
    pub(super) before: Wide,
    pub(super) after: Wide,
}

// SAFETY: plain integers throughout.
#[allow(unsafe_code, reason = "a promise about its fields")]
unsafe impl Plain for Arena {}

impl Arena {
    /// Fills a lane with the constants of a prime.
    pub(super) fn set_constants(&mut self, lane: usize, half: &PreparedHalf) {
        self.moduli.modulus.set_lane(lane, &half.digits);
        self.moduli.inverse[lane] = half.inverse_digit();
        self.one.set_lane(lane, &half.one);
        self.to_montgomery.set_lane(lane, &half.to_montgomery);
        self.to_montgomery_high.set_lane(lane, &half.to_montgomery_high);
    }

    /// Fills a lane with an exponent.
    pub(super) fn set_exponent(&mut self, lane: usize, exponent: &Half) {
        self.exponents.iter_mut().zip(exponent).for_each(|(row, word)| row[lane] = *word);
    }

    /// Fills both lanes of a slot with a number of 2048 bits.
    pub(super) fn set_number(&mut self, slot: usize, number: &Full) {
        let (low, high) = split(number);
        for lane in [2 * slot, 2 * slot + 1] {
            self.low.set_lane(lane, &low);
            self.high.set_lane(lane, &high);
        }
    }

    /// `power` becomes the number of each lane in Montgomery form, below four times the modulus.
    pub(super) fn convert<K: Kernel>(&mut self, kernel: &K) {
        self.power = self.low;
        kernel.multiply(&mut self.power, &self.to_montgomery, &self.moduli);
        kernel.multiply(&mut self.high, &self.to_montgomery_high, &self.moduli);
        kernel.add(&mut self.power, &self.high);
    }

    /// Fills the table with the powers 0 to 15 of `power`.
    pub(super) fn make_table<K: Kernel>(&mut self, kernel: &K) {
        let Self { table, moduli, power, factor, one, .. } = self;
        factor.whole = *one;
        kernel.halve(factor, moduli);
        table.set(0, factor);
        factor.whole = *power;
        kernel.halve(factor, moduli);
        table.set(1, factor);
        let mut next = *factor;
        for entry in 2..ENTRIES {
            kernel.multiply_by(&mut next.whole, factor, moduli);
            kernel.halve(&mut next, moduli);
            table.set(entry, &next);
        }
    }

    /// Begins the power with the topmost window.
    pub(super) fn begin_power<K: Kernel>(&mut self, kernel: &K) {
        let Self { table, power, factor, exponents, .. } = self;
        kernel.read(factor, table, window(exponents, WINDOWS - 1));
        *power = factor.whole;
    }

    /// Goes on with the next window below.
    pub(super) fn raise<K: Kernel>(&mut self, kernel: &K, number: usize) {
        let Self { table, moduli, power, factor, exponents, .. } = self;
        kernel.square_four_times(power, moduli, table, window(exponents, number), factor);
        kernel.multiply_by(power, factor, moduli);
    }
}

/// A window of all lanes; windows count from the lowest bits.
fn window(exponents: &[[u64; LANES]; HALF_WORDS], number: usize) -> Window<'_> {
    let bit = number * WINDOW_BITS;
    Window { words: &exponents[bit / 64], shift: bit % 64 }
}

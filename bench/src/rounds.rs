//! Ours and the peer in turns, and the median of each.
//!
//! A machine's speed drifts; whoever runs first is not to have the better minute. So each round
//! runs every contestant once, in turns of order, and each contestant's figure is the median over
//! the rounds.

use std::io;

/// How much work a measurement may be.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds in which every contestant runs once.
    pub rounds: usize,
    /// Divides the messages of a run.
    pub divisor: u64,
}

impl Effort {
    /// For figures to be written down.
    pub const FULL: Self = Self { rounds: 5, divisor: 1 };
    /// To see that everything runs, and the order of magnitude.
    pub const SHORT: Self = Self { rounds: 1, divisor: 10 };

    /// How many messages, where a full run has this many.
    pub fn messages(&self, full: u64) -> u64 {
        (full / self.divisor).max(1)
    }

    /// Runs all contestants round by round; returns the median of each, in their order.
    ///
    /// # Errors
    /// The first error of a contestant.
    pub fn medians(
        &self,
        contestants: &mut [&mut dyn FnMut() -> io::Result<f64>],
    ) -> io::Result<Vec<f64>> {
        let mut figures = vec![Vec::with_capacity(self.rounds); contestants.len()];
        for round in 0..self.rounds {
            for turn in 0..contestants.len() {
                let index = (round + turn) % contestants.len();
                figures[index].push(contestants[index]()?);
            }
        }
        Ok(figures.into_iter().map(median).collect())
    }
}

/// The middle one, or the mean of the middle two; 0 of none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.as_slice() {
        [] => 0.0,
        all if all.len() % 2 == 1 => all[middle],
        all => f64::midpoint(all[middle - 1], all[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn contestants_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let mut a = || {
            order.borrow_mut().push('a');
            Ok(1.0)
        };
        let mut b = || {
            order.borrow_mut().push('b');
            Ok(2.0)
        };
        let effort = Effort { rounds: 3, divisor: 1 };
        let medians = effort.medians(&mut [&mut a, &mut b]).expect("nothing fails");
        assert_eq!(medians, [1.0, 2.0]);
        assert_eq!(*order.borrow(), "abbaab");
    }
}

//! Compares what sources were told with what a sink got.
//!
//! An acknowledged message must have arrived whole; a refused one must not have arrived; one whose
//! source was told nothing may have done either. More than one arrival is a duplicate, which an
//! at-least-once relay makes when it dies between the next hop's answer and its own note of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    ledger::Entry,
    message::{MessageId, Verdict},
};

/// How many ids of each kind are listed; all are counted.
const LISTED_MAX: usize = 20;

/// What two ledgers say together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Messages whose source was told 2xx.
    pub acknowledged: usize,
    /// Messages whose source was told 4xx or 5xx.
    pub refused: usize,
    /// Messages whose source was told nothing.
    pub unknown: usize,
    /// Of those, arrived.
    pub unknown_received: usize,
    /// Different messages that arrived.
    pub received: usize,
    /// Acknowledged, and never arrived.
    pub lost: Finding,
    /// Arrived with a body that is not what was sent.
    pub corrupted: Finding,
    /// Refused, and arrived nevertheless.
    pub ghosts: Finding,
    /// Arrived more than once; the count is that of the extra copies.
    pub duplicates: Finding,
    /// Arrived, but no source's ledger names them.
    pub strangers: Finding,
}

/// Messages of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// All of them.
    pub count: u64,
    /// The first few.
    pub ids: Vec<String>,
}

impl Finding {
    fn add(&mut self, id: MessageId, count: u64) {
        self.count += count;
        if self.ids.len() < LISTED_MAX {
            self.ids.push(id.to_string());
        }
    }
}

impl Comparison {
    /// Whether nothing was lost, corrupted, or delivered though refused, and copies are within bounds.
    pub fn is_good(&self, duplicates_max: u64) -> bool {
        self.lost.count == 0
            && self.corrupted.count == 0
            && self.ghosts.count == 0
            && self.duplicates.count <= duplicates_max
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Unknown,
    Refused,
    /// Wins over everything else that is said of the same message.
    Acknowledged,
}

#[derive(Default)]
struct Arrivals {
    count: u64,
    is_corrupt: bool,
}

/// Compares the entries of all sources with those of all sinks.
pub fn compare(
    sources: impl IntoIterator<Item = Entry>,
    sinks: impl IntoIterator<Item = Entry>,
) -> Comparison {
    let fates = fates(sources);
    let arrivals = arrivals(sinks);
    let mut comparison = Comparison { received: arrivals.len(), ..Comparison::default() };
    for (id, fate) in &fates {
        let has_arrived = arrivals.contains_key(id);
        match fate {
            Fate::Acknowledged => {
                comparison.acknowledged += 1;
                if !has_arrived {
                    comparison.lost.add(*id, 1);
                }
            }
            Fate::Refused => {
                comparison.refused += 1;
                if has_arrived {
                    comparison.ghosts.add(*id, 1);
                }
            }
            Fate::Unknown => {
                comparison.unknown += 1;
                comparison.unknown_received += usize::from(has_arrived);
            }
        }
    }
    let known: BTreeSet<MessageId> = fates.into_keys().collect();
    for (id, arrival) in arrivals {
        if arrival.is_corrupt {
            comparison.corrupted.add(id, 1);
        }
        if arrival.count > 1 {
            comparison.duplicates.add(id, arrival.count - 1);
        }
        if !known.contains(&id) {
            comparison.strangers.add(id, 1);
        }
    }
    comparison
}

fn fates(sources: impl IntoIterator<Item = Entry>) -> BTreeMap<MessageId, Fate> {
    let mut fates = BTreeMap::new();
    for entry in sources {
        let (id, fate) = match entry {
            Entry::Acknowledged(id, ..) => (id, Fate::Acknowledged),
            Entry::Refused(id, ..) => (id, Fate::Refused),
            Entry::Unknown(id) => (id, Fate::Unknown),
            Entry::Received(..) => continue,
        };
        let known = fates.entry(id).or_insert(fate);
        *known = fate.max(*known);
    }
    fates
}

fn arrivals(sinks: impl IntoIterator<Item = Entry>) -> BTreeMap<MessageId, Arrivals> {
    let mut arrivals: BTreeMap<MessageId, Arrivals> = BTreeMap::new();
    for entry in sinks {
        if let Entry::Received(id, verdict, _) = entry {
            let arrival = arrivals.entry(id).or_default();
            arrival.count += 1;
            arrival.is_corrupt |= verdict == Verdict::Corrupt;
        }
    }
    arrivals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> MessageId {
        MessageId { run: 1, number }
    }

    fn acknowledged(number: u64) -> Entry {
        Entry::Acknowledged(id(number), 250, String::new())
    }

    fn refused(number: u64) -> Entry {
        Entry::Refused(id(number), 451, String::new())
    }

    fn received(number: u64) -> Entry {
        Entry::Received(id(number), Verdict::Whole, 1)
    }

    #[test]
    fn each_kind_of_wrong_is_seen() {
        let corrupt = Entry::Received(id(3), Verdict::Corrupt, 1);
        let comparison = compare(
            [
                acknowledged(0),
                acknowledged(1),
                refused(2),
                acknowledged(3),
                Entry::Unknown(id(4)),
                Entry::Unknown(id(5)),
            ],
            [received(0), received(0), received(0), received(2), corrupt, received(4), received(9)],
        );
        assert_eq!((comparison.acknowledged, comparison.refused), (3, 1));
        assert_eq!((comparison.unknown, comparison.unknown_received), (2, 1));
        assert_eq!(comparison.received, 5);
        let one = |number| Finding { count: 1, ids: vec![id(number).to_string()] };
        assert_eq!(comparison.lost, one(1));
        assert_eq!(comparison.ghosts, one(2));
        assert_eq!(comparison.corrupted, one(3));
        assert_eq!(comparison.duplicates, Finding { count: 2, ids: vec![id(0).to_string()] });
        assert_eq!(comparison.strangers, one(9));
        assert!(!comparison.is_good(u64::MAX));
    }

    #[test]
    fn duplicates_have_a_bound_and_unknown_ones_none() {
        let sources = [acknowledged(0), Entry::Unknown(id(1))];
        let comparison = compare(sources.clone(), [received(0), received(0)]);
        assert!(!comparison.is_good(0));
        assert!(comparison.is_good(1));
        assert!(compare(sources, [received(0), received(1)]).is_good(0));
    }

    #[test]
    fn an_acknowledgement_wins_over_an_earlier_refusal() {
        let comparison = compare([refused(0), acknowledged(0)], [received(0)]);
        assert_eq!((comparison.acknowledged, comparison.ghosts.count), (1, 0));
    }
}

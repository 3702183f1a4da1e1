//! Lanes and how they share: stride scheduling.
//!
//! Each lane has a *pass*, which grows by the inverse of its weight whenever it is served; the lane
//! with the smallest pass is served next. A lane that was idle comes back at the pass of whoever
//! was served last: idle time is neither saved up nor held against it.

use super::Backoff;

/// The urgency class of an application's mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Login codes, password resets: somebody is waiting.
    Urgent,
    /// Everything that is neither.
    Normal,
    /// Newsletters, reports: hours do not matter.
    Bulk,
}

/// All lanes, the most urgent first.
pub const LANES: [Lane; 3] = [Lane::Urgent, Lane::Normal, Lane::Bulk];

impl Lane {
    /// Returns its place in [`LANES`].
    pub fn index(self) -> usize {
        match self {
            Self::Urgent => 0,
            Self::Normal => 1,
            Self::Bulk => 2,
        }
    }

    /// Returns the word used in configuration and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

/// How deliveries of a lane are treated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LanePolicy {
    /// Share of the leases while other lanes have work too; 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// When a delivery is tried again.
    pub backoff: Backoff,
    /// Age at which a delivery fails, counted from acceptance.
    pub expiry_ms: u64,
}

/// Decides which lane is served next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stride {
    passes: [u64; LANES.len()],
    served: u64,
}

impl Stride {
    /// Picks among the lanes that have work; `None` if none has.
    pub(super) fn pick(&self, has_work: [bool; LANES.len()]) -> Option<Lane> {
        // `min_by_key` keeps the first of equals: the more urgent.
        LANES.into_iter().filter(|lane| has_work[lane.index()]).min_by_key(|&lane| self.pass(lane))
    }

    /// Notes that `lane` was served.
    pub(super) fn charge(&mut self, lane: Lane, weight: u32) {
        self.served = self.pass(lane);
        self.passes[lane.index()] =
            self.served + u64::from(WEIGHT_MAX / weight.clamp(1, WEIGHT_MAX));
    }

    fn pass(&self, lane: Lane) -> u64 {
        self.passes[lane.index()].max(self.served)
    }
}

/// The unit of a pass. At a million leases a second a pass overflows after 18 years of nothing but
/// a lane of weight 1.
pub const WEIGHT_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_weights() {
        let served = serve(11_100, |_| [true; 3]);
        assert_eq!(served, [10_000, 1_000, 100]);
    }

    #[test]
    fn an_idle_lane_saves_nothing_up() {
        // Urgent idles for 5,000 turns, then competes: it gets its weight, not a debt.
        let served = serve(10_000, |turn| [turn >= 5_000, true, false]);
        let [urgent, normal, _] = served;
        assert!((4_540..4_560).contains(&urgent), "{served:?}");
        assert_eq!(urgent + normal, 10_000);
    }

    #[test]
    fn urgent_is_first_on_a_tie() {
        assert_eq!(Stride::default().pick([true; 3]), Some(Lane::Urgent));
        assert_eq!(Stride::default().pick([false, true, true]), Some(Lane::Normal));
        assert_eq!(Stride::default().pick([false; 3]), None);
    }

    fn serve(turns: usize, has_work: impl Fn(usize) -> [bool; 3]) -> [usize; 3] {
        let mut stride = Stride::default();
        let mut served = [0; 3];
        for turn in 0..turns {
            let lane = stride.pick(has_work(turn)).expect("some lane has work");
            stride.charge(lane, [100, 10, 1][lane.index()]);
            served[lane.index()] += 1;
        }
        served
    }
}

//! Settings for short runs: what a change of a tenth needs, not what a paper needs.

use std::time::Duration;

use criterion::Criterion;

/// About a second a case.
pub(crate) fn brief() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
}

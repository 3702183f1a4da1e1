//! The crate from outside: whole messages in, findings and verdicts out.

mod encodings;
mod hostile;
mod structure;

use std::sync::Arc;

use postern_filters::{Config, Filters, Outcome, Scan, Verdict};

pub(crate) fn filters() -> Arc<Filters> {
    Arc::new(Filters::new(Config::default()).expect("the default works"))
}

/// Scans `message` whole and in pieces of several sizes, and checks that all agree.
#[track_caller]
pub(crate) fn scan(message: &[u8]) -> Outcome {
    scan_with(&filters(), message)
}

#[track_caller]
pub(crate) fn scan_with(filters: &Arc<Filters>, message: &[u8]) -> Outcome {
    let whole = filters.scan(message);
    for bytes in [1, 2, 3, 7, 61, 64, 1000] {
        let mut scan = Scan::new(filters);
        message.chunks(bytes).for_each(|piece| scan.feed(piece));
        assert_eq!(scan.finish(), whole, "in pieces of {bytes}");
    }
    whole
}

/// Findings as `detector part count/occurrences`, one a line.
pub(crate) fn lines(outcome: &Outcome) -> Vec<String> {
    let line = |f: &postern_filters::Finding| {
        format!("{} {} {}/{}", f.detector, f.part, f.count, f.occurrences)
    };
    outcome.findings.iter().map(line).collect()
}

/// The reason of the rejection, or `allow`.
pub(crate) fn verdict(outcome: &Outcome) -> String {
    match &outcome.verdict {
        Verdict::Reject(rejection) => rejection.to_string(),
        _ => "allow".to_string(),
    }
}

/// Scans `message`, its lines joined with CRLF, and checks the findings.
#[track_caller]
pub(crate) fn check(message: &str, want: &[&str]) {
    let message = message.replace('\n', "\r\n");
    assert_eq!(lines(&scan(message.as_bytes())), want, "{message}");
}

//! What is measured: one file a subject.
//!
//! A subject is a name, a sentence, and a function that measures and reports. To add one, write its
//! file with a [`Subject`] in it and put that into [`SUBJECTS`].

mod accept;
pub mod canon;
mod io;
mod memory;
mod relay;
mod relay_signed;
mod relay_tls;
pub mod scan;
mod sign;
pub mod smtp;
pub mod spool;

use crate::case::Case;
use crate::rounds::Effort;

/// Everything that is measured, in the order of a run over all.
pub const SUBJECTS: &[Subject] = &[
    accept::SUBJECT,
    relay::SUBJECT,
    relay_tls::SUBJECT,
    relay_signed::SUBJECT,
    spool::SUBJECT,
    io::SUBJECT,
    smtp::SUBJECT,
    canon::SUBJECT,
    sign::SUBJECT,
    scan::SUBJECT,
    memory::SUBJECT,
];

/// One subject.
#[derive(Clone, Copy)]
pub struct Subject {
    /// What it is called on the command line and in every line.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Measures, and reports case by case.
    pub run: fn(&Effort, &mut dyn Report) -> std::io::Result<()>,
}

/// Takes what a subject finds.
pub trait Report {
    /// A case was measured.
    fn case(&mut self, case: Case);
    /// Something a reader must know: a peer that is missing, a run that was made smaller.
    fn note(&mut self, text: &str);
}

/// The subjects of these names, in the list's order; all if there are no names.
///
/// # Errors
/// A name that is no subject.
pub fn select(names: &[String]) -> std::io::Result<Vec<&'static Subject>> {
    if let Some(name) = names.iter().find(|name| SUBJECTS.iter().all(|it| it.name != **name)) {
        let known: Vec<&str> = SUBJECTS.iter().map(|subject| subject.name).collect();
        let text = format!("`{name}` is no subject; there are {}", known.join(", "));
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text));
    }
    let is_wanted =
        |subject: &&Subject| names.is_empty() || names.iter().any(|n| n == subject.name);
    Ok(SUBJECTS.iter().filter(is_wanted).collect())
}

/// Microseconds for each of `count`.
fn micros_each(nanos: f64, count: u64) -> f64 {
    each(nanos / 1e3, count)
}

/// The share of each of `count`.
fn each(total: f64, count: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a count of messages, far below 2^52")]
    let count = count.max(1) as f64;
    total / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_selected() {
        for (index, subject) in SUBJECTS.iter().enumerate() {
            assert!(SUBJECTS[..index].iter().all(|other| other.name != subject.name));
        }
        assert_eq!(select(&[]).expect("all").len(), SUBJECTS.len());
        let some = select(&["spool".into(), "accept".into()]).expect("known names");
        assert_eq!(some.iter().map(|it| it.name).collect::<Vec<_>>(), ["accept", "spool"]);
        assert!(select(&["nonsense".into()]).is_err());
    }
}

//! One line of the outcome: a subject, an input, our figure, the peer's.

use serde::Serialize;

/// What is measured; says also which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds of CPU time a message.
    MicrosPerMessage,
    /// Nanoseconds of CPU time a message.
    NanosPerMessage,
    /// Microseconds of CPU time a pass of a batched backend.
    MicrosPerPass,
    /// Nanoseconds of CPU time a KiB.
    NanosPerKib,
    /// KiB of memory a session.
    KibPerSession,
    /// MiB of memory.
    Mib,
    /// System calls a message.
    CallsPerMessage,
}

impl Unit {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MicrosPerMessage => "us CPU/message",
            Self::NanosPerMessage => "ns CPU/message",
            Self::MicrosPerPass => "us CPU/pass",
            Self::NanosPerKib => "ns CPU/KiB",
            Self::KibPerSession => "KiB/session",
            Self::Mib => "MiB",
            Self::CallsPerMessage => "system calls/message",
        }
    }
}

/// The peer's side of a case.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Who.
    pub name: &'static str,
    /// Its figure; `None` where it could not be measured here.
    pub figure: Option<f64>,
}

/// One case: the smaller the figure, the better, in every unit there is.
#[derive(Clone, Debug)]
pub struct Case {
    /// The subject's name.
    pub subject: &'static str,
    /// Which input, and how it was sent.
    pub input: String,
    /// Our figure.
    pub ours: f64,
    /// The peer's figure in the same run.
    pub peer: Option<Peer>,
    /// Of both figures.
    pub unit: Unit,
    /// The most ours should be.
    pub goal: Option<f64>,
}

/// The form of a case in JSON; the names are an interface.
#[derive(Serialize)]
struct Line<'a> {
    subject: &'a str,
    input: &'a str,
    ours: f64,
    peer: Option<f64>,
    peer_name: Option<&'a str>,
    ratio: Option<f64>,
    unit: &'a str,
}

impl Case {
    /// A case without peer and goal.
    pub fn new(subject: &'static str, input: impl Into<String>, ours: f64, unit: Unit) -> Self {
        Self { subject, input: input.into(), ours, peer: None, unit, goal: None }
    }

    /// Beside a peer.
    #[must_use]
    pub fn beside(mut self, name: &'static str, figure: Option<f64>) -> Self {
        self.peer = Some(Peer { name, figure });
        self
    }

    /// With a goal.
    #[must_use]
    pub fn goal(mut self, most: f64) -> Self {
        self.goal = Some(most);
        self
    }

    /// How many times better ours is than the peer's; below 1 it is worse.
    pub fn ratio(&self) -> Option<f64> {
        let peer = self.peer?.figure?;
        (self.ours > 0.0).then(|| peer / self.ours)
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let line = Line {
            subject: self.subject,
            input: &self.input,
            ours: rounded(self.ours),
            peer: self.peer.and_then(|peer| peer.figure).map(rounded),
            peer_name: self.peer.map(|peer| peer.name),
            ratio: self.ratio().map(rounded),
            unit: self.unit.as_str(),
        };
        // Numbers and texts only: there is nothing in it that could not be written.
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// One line of the table, under [`Case::HEADING`].
    pub fn row(&self) -> String {
        let peer = self.peer.and_then(|peer| peer.figure).map_or_else(|| "-".into(), short);
        let ratio = self.ratio().map_or_else(|| "-".into(), |ratio| format!("{}x", short(ratio)));
        let goal = match self.goal {
            None => String::new(),
            Some(goal) if self.ours <= goal => format!("goal {}: met", short(goal)),
            Some(goal) => format!("goal {}: missed", short(goal)),
        };
        let line = format!(
            "{:<13} {:<46} {:>9} {:>9} {:>8}  {:<21} {:<18} {goal}",
            self.subject,
            self.input,
            short(self.ours),
            peer,
            ratio,
            self.unit.as_str(),
            self.peer.map_or("", |peer| peer.name),
        );
        line.trim_end().to_owned()
    }

    /// The heading of the table.
    pub const HEADING: &'static str = "subject       input                                               ours      peer    ratio  unit                  peer";
}

/// Three significant places, as many as the measurement is worth.
fn short(figure: f64) -> String {
    match figure.abs() {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        1.0.. => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

fn rounded(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_means_better() {
        let case =
            Case::new("accept", "4 KiB", 20.0, Unit::MicrosPerMessage).beside("x", Some(50.0));
        assert_eq!(case.ratio(), Some(2.5));
        let without = Case::new("accept", "4 KiB", 20.0, Unit::MicrosPerMessage).beside("x", None);
        assert_eq!(without.ratio(), None);
    }

    #[test]
    fn the_line_has_the_agreed_fields() {
        let case =
            Case::new("accept", "4 KiB", 20.0, Unit::MicrosPerMessage).beside("x", Some(50.0));
        assert_eq!(
            case.json(),
            "{\"subject\":\"accept\",\"input\":\"4 KiB\",\"ours\":20.0,\"peer\":50.0,\
             \"peer_name\":\"x\",\"ratio\":2.5,\"unit\":\"us CPU/message\"}"
        );
    }

    #[test]
    fn a_row_says_whether_the_goal_was_met() {
        let case = Case::new("accept", "4 KiB", 20.0, Unit::MicrosPerMessage);
        assert!(case.clone().goal(30.0).row().ends_with("goal 30.0: met"));
        assert!(case.goal(10.0).row().ends_with("goal 10.0: missed"));
    }
}

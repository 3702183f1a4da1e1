//! Why a key is not a stage further.

use std::fmt;

/// Why a step is not done now. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// Not all servers have what should be there, or they were not asked of late; holds what is in
    /// the way, where that is known.
    Unseen {
        /// One or more sentences.
        obstacles: String,
    },
    /// Others may still keep what was there before.
    OthersMayKeep {
        /// For so long.
        left_s: u64,
    },
    /// Signing does not change before its time.
    NotDue {
        /// That is so far away.
        left_s: u64,
    },
    /// No other key is ready to sign.
    NoStandby,
    /// A delivery may still sign with it.
    InUse,
    /// Mail that it signed may still be under way.
    Draining {
        /// For so long.
        left_s: u64,
    },
    /// Every selector that may be used has a key that is not destroyed.
    SelectorsInUse,
    /// It is at another stage, which is named.
    WrongStage(&'static str),
    /// No key has this selector.
    UnknownSelector,
}

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unseen { obstacles } if obstacles.is_empty() => {
                f.write_str("its record has not been looked at of late")
            }
            Self::Unseen { obstacles } => f.write_str(obstacles),
            Self::OthersMayKeep { left_s } => {
                write!(f, "others may keep what DNS had before for {}", Span(*left_s))
            }
            Self::NotDue { left_s } => write!(f, "not due for {}", Span(*left_s)),
            Self::NoStandby => f.write_str("no standby key is ready to sign"),
            Self::InUse => f.write_str("a delivery may still sign with it"),
            Self::Draining { left_s } => {
                write!(f, "mail signed with it may be under way for {}", Span(*left_s))
            }
            Self::SelectorsInUse => f.write_str("every selector has a key that is in use"),
            Self::WrongStage(stage) => write!(f, "it is {stage}"),
            Self::UnknownSelector => f.write_str("there is no key with this selector"),
        }
    }
}

impl std::error::Error for NotYet {}

/// A time as people say it: its two greatest units.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours, minutes) = (self.0 / 86_400, self.0 / 3_600 % 24, self.0 / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{} s", self.0),
            (0, 0, _) => write!(f, "{minutes} min"),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

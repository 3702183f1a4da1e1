//! What was promised and what arrived, one line a message, in files that outlive the process.
//!
//! Each line is one write to the operating system, made before the event is counted or answered: a
//! killed process loses no line that anybody relied on. A line without its newline was cut by such a
//! death and says nothing.
//!
//! ```text
//! acknowledged ID CODE TEXT      the source was told 2xx
//! refused ID CODE TEXT           the source was told 4xx or 5xx
//! unknown ID                     the source was told nothing
//! received ID whole|corrupt BYTES
//! ```

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::message::{MessageId, Verdict};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The source was told 2xx.
    Acknowledged(MessageId, u16, String),
    /// The source was told 4xx or 5xx.
    Refused(MessageId, u16, String),
    /// The source sent the final dot and was told nothing.
    Unknown(MessageId),
    /// The sink took a message.
    Received(MessageId, Verdict, u64),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged(id, code, text) => write!(f, "acknowledged {id} {code} {text}"),
            Self::Refused(id, code, text) => write!(f, "refused {id} {code} {text}"),
            Self::Unknown(id) => write!(f, "unknown {id}"),
            Self::Received(id, Verdict::Whole, bytes) => write!(f, "received {id} whole {bytes}"),
            Self::Received(id, Verdict::Corrupt, bytes) => {
                write!(f, "received {id} corrupt {bytes}")
            }
        }
    }
}

impl Entry {
    /// Reads one line, without its newline.
    pub fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        let (id, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let id: MessageId = id.parse().ok()?;
        let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match (kind, word) {
            ("acknowledged", code) => {
                Some(Self::Acknowledged(id, code.parse().ok()?, text.to_owned()))
            }
            ("refused", code) => Some(Self::Refused(id, code.parse().ok()?, text.to_owned())),
            ("unknown", "") => Some(Self::Unknown(id)),
            ("received", "whole") => Some(Self::Received(id, Verdict::Whole, text.parse().ok()?)),
            ("received", "corrupt") => {
                Some(Self::Received(id, Verdict::Corrupt, text.parse().ok()?))
            }
            _ => None,
        }
    }
}

/// A ledger file, written by many sessions.
#[derive(Debug)]
pub struct Ledger {
    file: Mutex<File>,
}

impl Ledger {
    /// Opens `path`, to add to what is there.
    pub fn append(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Writes one line. Text of the other side is kept to one line.
    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        let line: String = entry.to_string().replace(['\r', '\n'], " ") + "\n";
        // A thread that died while it wrote left whole lines, or one cut line, which readers skip.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())
    }
}

/// Reads a ledger file.
///
/// # Errors
/// `InvalidData` with the line number if a line is not a ledger's; what was cut at the end is skipped.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entry = |(index, line): (usize, &str)| {
        Entry::parse(line).ok_or_else(|| {
            let detail = format!("{}: line {}: not a ledger's line", path.display(), index + 1);
            io::Error::new(io::ErrorKind::InvalidData, detail)
        })
    };
    whole.lines().enumerate().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> MessageId {
        MessageId { run: 1, number }
    }

    #[test]
    fn lines_are_read_as_they_were_written_and_a_cut_one_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let entries = [
            Entry::Acknowledged(id(0), 250, "2.0.0 queued as 01J".to_owned()),
            Entry::Acknowledged(id(1), 250, String::new()),
            Entry::Refused(id(2), 451, "4.3.0 later".to_owned()),
            Entry::Unknown(id(3)),
            Entry::Received(id(0), Verdict::Whole, 4096),
            Entry::Received(id(1), Verdict::Corrupt, 1),
        ];
        let ledger = Ledger::append(&path).unwrap();
        for entry in &entries {
            ledger.write(entry).unwrap();
        }
        ledger.write(&Entry::Refused(id(4), 550, "two\r\nlines".to_owned())).unwrap();
        ledger.file.lock().unwrap().write_all(b"acknowledged 00000").unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read[..6], entries);
        assert_eq!(read[6..], [Entry::Refused(id(4), 550, "two  lines".to_owned())]);
    }

    #[test]
    fn strange_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        std::fs::write(&path, "unknown 0000000000000001-1\nwhat is this\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.ends_with("line 2: not a ledger's line"), "{error}");
        for line in ["", "unknown", "unknown x", "received 0000000000000001-1 torn 1"] {
            assert_eq!(Entry::parse(line), None, "{line}");
        }
    }
}

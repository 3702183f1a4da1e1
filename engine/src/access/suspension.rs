//! Which applications are cut off: refused at once, everywhere, until restored.
//!
//! # Invariants
//! - A cut is in force in memory before it is on disk: it must not wait for a slow disk.
//!   [`Suspensions::save`] makes it durable; until it has returned, a crash may undo the change.
//! - The file always holds a whole state: it is written beside, flushed, renamed, and the directory
//!   is flushed.
//! - A file that cannot be read keeps the relay from starting: forgetting a cut is worse.
//!
//! Cost: [`Suspensions::is_cut`] is an atomic load and a hash look-up, without a lock, so that it
//! can be asked for each command.
#![allow(
    clippy::disallowed_types,
    reason = "a cut is written by the control thread, never by a shard"
)]

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why, since when and by whom an application is cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The operator's words.
    pub reason: String,
    /// When it was ordered (RFC 3339).
    pub since: String,
    /// Who ordered it.
    pub actor: String,
}

/// The applications that are cut off. One for the whole relay, shared by all threads.
pub struct Suspensions {
    cut: ArcSwap<HashMap<Box<str>, Cut>>,
    path: PathBuf,
    /// Held while the file is written: the last state written is the last one asked for.
    writing: Mutex<()>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    cut: BTreeMap<String, Cut>,
}

impl Suspensions {
    /// Reads the state from `directory`, which is made if it does not exist.
    ///
    /// # Errors
    /// The directory cannot be made, or its state file cannot be read or understood.
    pub fn load(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join(FILE_NAME);
        let saved = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let text = format!("{}: not understood: {error}", path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved { cut: BTreeMap::new() },
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
            }
        };
        let cut = saved.cut.into_iter().map(|(app, cut)| (app.into(), cut)).collect();
        Ok(Self { cut: ArcSwap::from_pointee(cut), path, writing: Mutex::new(()) })
    }

    /// Whether the application is cut off.
    #[must_use]
    pub fn is_cut(&self, app: &str) -> bool {
        let cut = self.cut.load();
        !cut.is_empty() && cut.contains_key(app)
    }

    /// Cuts an application off, from now on, on every thread. Of two orders the later one's reason
    /// stands. Durable after [`Suspensions::save`].
    pub fn cut(&self, app: &str, reason: &str, actor: &str) {
        let since = format!("{:.0}", Timestamp::now());
        let order = Cut { reason: reason.to_owned(), since, actor: actor.to_owned() };
        self.cut.rcu(|cut| {
            let mut cut = HashMap::clone(cut);
            cut.insert(app.into(), order.clone());
            cut
        });
    }

    /// Undoes a cut; `false` where there was none. Durable after [`Suspensions::save`].
    pub fn restore(&self, app: &str) -> bool {
        let before = self.cut.rcu(|cut| {
            let mut cut = HashMap::clone(cut);
            cut.remove(app);
            cut
        });
        before.contains_key(app)
    }

    /// Every cut application with its reason.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<String, String> {
        self.all().into_iter().map(|(app, cut)| (app, cut.reason)).collect()
    }

    /// Every cut application.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Cut> {
        let cut = self.cut.load();
        cut.iter().map(|(app, cut)| (app.to_string(), cut.clone())).collect()
    }

    /// Writes the state durably. Blocks for a disk flush or two.
    ///
    /// # Errors
    /// What the file system says; the state on disk is then the one before.
    pub fn save(&self) -> io::Result<()> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = serde_json::to_vec_pretty(&Saved { cut: self.all() })?;
        let written = replace_durably(&self.path, &text);
        drop(writing);
        written
    }
}

/// Puts `text` in place of the file, so that a crash leaves either the old or the new content.
fn replace_durably(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

const FILE_NAME: &str = "cut.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_survives_a_restart_and_can_be_undone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("state");
        let suspensions = Suspensions::load(&state).expect("an empty state");
        assert!(!suspensions.is_cut("billing"));
        suspensions.cut("billing", "stolen password", "alice");
        assert!(suspensions.is_cut("billing") && !suspensions.is_cut("billing2"));
        suspensions.save().expect("saved");

        let again = Suspensions::load(&state).expect("the saved state");
        let all = again.all();
        assert_eq!(all["billing"].reason, "stolen password");
        assert_eq!(all["billing"].actor, "alice");
        assert!(all["billing"].since.starts_with("20"), "{:?}", all["billing"]);
        assert!(again.restore("billing"));
        assert!(!again.restore("billing"), "only once");
        again.save().expect("saved");
        assert!(!Suspensions::load(&state).expect("a state").is_cut("billing"));
        assert_eq!(fs::read_dir(&state).expect("a folder").count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_state_that_is_not_understood_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for text in ["", "{}", "{\"cut\": {\"a\": {}}}", "{\"cut\": {}, \"more\": 1}"] {
            fs::write(folder.path().join(FILE_NAME), text).expect("written");
            let error = Suspensions::load(folder.path()).err().expect("refused");
            assert!(error.to_string().contains(FILE_NAME), "{error}");
        }
    }

    #[test]
    fn a_failed_save_is_told_and_keeps_the_cut_in_force() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let suspensions = Suspensions::load(folder.path()).expect("an empty state");
        drop(folder);
        suspensions.cut("billing", "", "");
        assert!(suspensions.save().is_err());
        assert!(suspensions.is_cut("billing"));
    }
}

//! The sealed files of all lines, and the lock that keeps them to one relay.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use postern_signer::key::store::{Content, StoreKey, StoreRefused};
use rustix::fs::{FlockOperation, flock};

use crate::config::ManagedKeys;
use crate::control::dns::TsigKeyError;
use crate::control::file::replace;

/// The directory of sealed lines, locked.
pub(super) struct KeyDirectory {
    path: PathBuf,
    key: StoreKey,
    /// Held for as long as the lines are.
    _lock: File,
}

/// Why managed keys cannot be looked after.
#[derive(Debug)]
pub enum KeysError {
    /// A file or the directory cannot be read or written.
    File(PathBuf, io::Error),
    /// Another relay has the directory.
    InUse(PathBuf),
    /// A sealed file cannot be opened or made.
    Refused(PathBuf, StoreRefused),
    /// The TSIG key cannot be used.
    Tsig(TsigKeyError),
    /// No resolvers are configured, here or in the system.
    Resolvers(io::Error),
}

impl KeyDirectory {
    /// Makes the directory where there is none, and locks it.
    ///
    /// # Errors
    /// [`KeysError`]
    pub(super) fn open(keys: &ManagedKeys) -> Result<Self, KeysError> {
        let path = keys.directory.clone();
        let failed = |error| KeysError::File(path.clone(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        let mut options = OpenOptions::new();
        let lock = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(KeysError::InUse(path)),
            Err(error) => return Err(failed(error.into())),
        }
        let key = StoreKey::new(keys.seal.expose())
            .map_err(|refused| KeysError::Refused(path.clone(), refused))?;
        Ok(Self { path, key, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a line; one that was never saved is empty.
    ///
    /// # Errors
    /// [`KeysError`]; a line that cannot be opened is never taken for an empty one.
    pub(super) fn load(&self, name: &str) -> Result<Content, KeysError> {
        let path = self.file_of(name);
        match fs::read(&path) {
            Ok(sealed) => {
                self.key.open(name, &sealed).map_err(|refused| KeysError::Refused(path, refused))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::default()),
            Err(error) => Err(KeysError::File(path, error)),
        }
    }

    /// Puts a line in place of what was there, durably. Blocks.
    ///
    /// # Errors
    /// [`KeysError`]; the old line is there then.
    pub(super) fn save(&self, name: &str, content: &Content) -> Result<(), KeysError> {
        let path = self.file_of(name);
        let sealed = self
            .key
            .seal(name, content)
            .map_err(|refused| KeysError::Refused(path.clone(), refused))?;
        replace(&path, 0o600, &sealed).map_err(|error| KeysError::File(path, error))
    }

    /// `PREFIX@DOMAIN.keys`: neither part has an `@`.
    fn file_of(&self, name: &str) -> PathBuf {
        let (domain, prefix) = name.split_once(' ').unwrap_or((name, ""));
        self.path.join(format!("{prefix}@{domain}.keys"))
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "signing keys: {}: {error}", path.display()),
            Self::InUse(path) => write!(
                f,
                "signing keys: another relay looks after those in {}; give each a directory of its \
                 own",
                path.display()
            ),
            Self::Refused(path, refused) => {
                write!(f, "signing keys: {}: {refused}", path.display())
            }
            Self::Tsig(error) => write!(f, "signing keys: {error}"),
            Self::Resolvers(error) => {
                write!(f, "signing keys: {error}; name `resolvers` in [keys]")
            }
        }
    }
}

impl std::error::Error for KeysError {}

impl From<TsigKeyError> for KeysError {
    fn from(error: TsigKeyError) -> Self {
        Self::Tsig(error)
    }
}

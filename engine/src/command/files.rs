//! Files a command makes: never in place of another, secrets for their owner only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::Failure;

/// Makes a file of mode 0600 with this content.
///
/// # Errors
/// It exists already, or the system says no; the text names the file.
pub(super) fn create_private(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::problem(format!("{} exists already and is not overwritten", path.display()))
        }
        _ => cannot_write(path, &error),
    })
}

/// Makes a directory of mode 0700 where there is none.
///
/// # Errors
/// The system says no.
pub(super) fn create_directory(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| cannot_write(path, &error))
}

/// Makes a file that everybody may read.
///
/// # Errors
/// As [`create_private`].
pub(super) fn create_public(path: &Path, content: &[u8]) -> Result<(), Failure> {
    create_private(path, content)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(path, mode).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::problem(format!("cannot write {}: {error}", path.display()))
}

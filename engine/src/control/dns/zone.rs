//! Writes key records as zone-file text, for a zone to include.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes lines, as [`postern_signer::dns::zone_line`] makes them, so that a reader finds the old
/// file or the new one and never a part: `$INCLUDE` it, and reload the zone when it changes.
///
/// Returns whether it changed.
///
/// # Errors
/// The file or its folder cannot be written.
pub fn write_zone_file(path: &Path, lines: &[String]) -> io::Result<bool> {
    let mut text = HEAD.to_owned();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(false);
    }
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(true)
}

const HEAD: &str = "; Written by Postern: signing keys. Changes made here will be lost.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_only_when_it_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.zone");
        let lines = ["s._domainkey.a.example. 60 IN TXT \"v=DKIM1; k=rsa; p=\"".to_owned()];
        assert!(write_zone_file(&path, &lines).expect("is written"));
        assert!(!write_zone_file(&path, &lines).expect("is written"));
        let text = std::fs::read_to_string(&path).expect("is there");
        assert_eq!(text, format!("{HEAD}{}\n", lines[0]));
        assert!(write_zone_file(&path, &[]).expect("is written"));
        assert_eq!(std::fs::read_dir(folder.path()).expect("is there").count(), 1);
    }
}

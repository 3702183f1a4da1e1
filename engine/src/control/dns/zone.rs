//! Writes key records as zone-file text, for a zone to include.

use std::io;
use std::path::Path;

use crate::control::file::replace;

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
    replace(path, 0o644, text.as_bytes())?;
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

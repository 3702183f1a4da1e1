//! The repository's own files, for tests that read the source instead of running it.
//!
//! Nothing here follows a link out of the repository or looks into build output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's top folder.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the package lies in the repository").to_path_buf()
}

/// One file that belongs to the repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceFile {
    /// Path from the top folder, with `/` between its parts.
    pub path: String,
}

impl SourceFile {
    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(root().join(&self.path)).unwrap_or_default()
    }

    /// The file's text, or `None` where it is not UTF-8.
    pub fn text(&self) -> Option<String> {
        String::from_utf8(self.bytes()).ok()
    }

    /// Whether this is Rust source.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Every file that is, or would be, committed: asked of git, else found by walking.
pub fn files() -> Vec<SourceFile> {
    let mut paths = from_git().unwrap_or_else(|| {
        let mut found = Vec::new();
        walk(&root(), "", &mut found);
        found
    });
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths.dedup();
    paths.into_iter().map(|path| SourceFile { path }).collect()
}

/// The Rust files below one folder.
pub fn rust_below(folder: &str) -> Vec<SourceFile> {
    files().into_iter().filter(|file| file.is_rust() && file.path.starts_with(folder)).collect()
}

fn from_git() -> Option<Vec<String>> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    let paths: Vec<String> = String::from_utf8(listed.stdout)
        .ok()?
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    (listed.status.success() && !paths.is_empty()).then_some(paths)
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if matches!(name.as_str(), ".git" | "target" | "postern-demo") {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                walk(&entry.path(), &format!("{prefix}{name}/"), found);
            }
            Ok(kind) if kind.is_file() => found.push(format!("{prefix}{name}")),
            _ => {}
        }
    }
}

/// Rust source with the inside of comments and of literals blanked: what is left is code, on the
/// same lines.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => line_end(bytes, at),
            [b'/', b'*', ..] => block_comment_end(bytes, at),
            [b'r', b'"' | b'#', ..] if !in_word(bytes, at) => raw_string_end(bytes, at),
            [b'b', b'r', b'"' | b'#', ..] if !in_word(bytes, at) => raw_string_end(bytes, at + 1),
            [b'"', ..] => string_end(bytes, at),
            [b'\'', b'\\', ..] => quote_end(bytes, at + 3),
            [b'\'', _, b'\'', ..] => at + 3,
            _ => at + 1,
        };
        if end > at + 1 {
            blank(&mut code[at..end]);
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn in_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |found| at + found)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut here = at;
    while here < bytes.len() {
        match &bytes[here..] {
            [b'/', b'*', ..] => {
                depth += 1;
                here += 2;
            }
            [b'*', b'/', ..] if depth == 1 => return here + 2,
            [b'*', b'/', ..] => {
                depth -= 1;
                here += 2;
            }
            _ => here += 1,
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut here = at + 1;
    while here < bytes.len() {
        match bytes[here] {
            b'\\' => here += 2,
            b'"' => return here + 1,
            _ => here += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return at + 1; // a raw identifier
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let from = at + 2 + hashes;
    bytes[from.min(bytes.len())..]
        .windows(close.len())
        .position(|window| window == close)
        .map_or(bytes.len(), |found| from + found + close.len())
}

fn quote_end(bytes: &[u8], from: usize) -> usize {
    let from = from.min(bytes.len());
    bytes[from..]
        .iter()
        .position(|&byte| byte == b'\'')
        .map_or(bytes.len(), |found| from + found + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, word: &str, is_code: bool) {
        let code = code_only(source);
        assert_eq!(code.contains(word), is_code, "{source} became {code}");
        assert_eq!(code.len(), source.len());
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn code_is_told_from_comments_and_literals() {
        check("unsafe { }", "unsafe", true);
        check("// unsafe", "unsafe", false);
        check("/* a /* unsafe */ unsafe */ b", "unsafe", false);
        check("/* a */ unsafe", "unsafe", true);
        check("let x = \"\\\" unsafe\";", "unsafe", false);
        check("let x = \"\\\\\"; unsafe", "unsafe", true);
        check("let x = r#\"\" unsafe \"#;", "unsafe", false);
        check("let x = br\" unsafe \"; ", "unsafe", false);
        check("let r#type = 1; unsafe", "unsafe", true);
        check("'\"'; unsafe", "unsafe", true);
        check("'\\''; unsafe", "unsafe", true);
        check("fn a<'a>(x: &'a str) { unsafe }", "unsafe", true);
    }
}

//! House rules as tests: what reviewers would otherwise have to see by eye.
//!
//! Each test reads the repository's own files and fails with `path:line: what is wrong`.

mod arrows;
mod canary;
mod keys;
mod layout;
mod words;

/// Fails with every finding at once, one a line.
fn report(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

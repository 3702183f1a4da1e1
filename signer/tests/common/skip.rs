//! What a test says and does where a program or module that it needs is not there.

use std::io::Write;

/// Says so past the capture of passing tests' output.
pub(crate) fn skip(name: &str) {
    let required = std::env::var("POSTERN_REQUIRE").unwrap_or_default();
    let is_required = required.split([',', ' ']).any(|word| word == "all" || word == name);
    assert!(!is_required, "{name} is required here and absent");
    let line = format!("skipped: {name} absent\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
}

//! Words that may stand only in certain places, or nowhere: `unsafe`, the ring, leftovers, hosts,
//! machine paths, flags that this compiler miscompiles with.

use postern_tests::source::{self, SourceFile, code_only};

use crate::report;

/// Where `unsafe` may stand: the drivers that hand memory to the kernel, SIMD, and memory for
/// secrets with the promises about what lies in it.
const UNSAFE_FILES: &[&str] = &[
    "engine/src/io/",
    "filters/src/scan/x86_64/",
    "signer/src/batch/lanes/arena.rs",
    "signer/src/batch/lanes/ifma.rs",
    "signer/src/batch/lanes/key.rs",
    "signer/src/canon/simd/x86_64.rs",
    "signer/src/memory.rs",
];

/// Who may name the ring: the one room that drives it, and the bench that compares it with peers.
const RING_FILES: &[&str] = &["engine/src/io/", "bench/"];

/// The pure packages: bytes and time are handed in.
const PURE: &[&str] = &["engine/smtp/src/", "filters/src/", "signer/src/"];

/// Joined at run time, so that this file does not hold what it looks for.
fn joined(parts: &[&str]) -> String {
    parts.concat()
}

fn is_below(file: &SourceFile, folders: &[&str]) -> bool {
    folders.iter().any(|folder| file.path.starts_with(folder))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    line.match_indices(word).any(|(at, _)| {
        is_edge(line[..at].chars().next_back()) && is_edge(line[at + word.len()..].chars().next())
    })
}

/// Each line of each file in which `bad` finds something.
fn lines_with(
    files: Vec<SourceFile>,
    view: impl Fn(String) -> String,
    bad: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let Some(text) = file.text() else { continue };
        for (index, line) in view(text).lines().enumerate() {
            if let Some(what) = bad(line) {
                findings.push(format!("{}:{}: {what}", file.path, index + 1));
            }
        }
    }
    findings
}

fn rust_outside(folders: &[&str]) -> Vec<SourceFile> {
    source::files().into_iter().filter(|file| file.is_rust() && !is_below(file, folders)).collect()
}

#[test]
fn unsafe_stands_only_in_listed_files() {
    let findings = lines_with(
        rust_outside(UNSAFE_FILES),
        |text| code_only(&text),
        |line| has_word(line, "unsafe").then(|| line.trim().to_owned()),
    );
    report("`unsafe` outside the listed files", findings);
}

#[test]
fn only_io_names_the_ring() {
    let findings = lines_with(
        rust_outside(RING_FILES),
        |text| code_only(&text),
        |line| {
            (has_word(line, "io_uring") || has_word(line, "tokio_uring"))
                .then(|| line.trim().to_owned())
        },
    );
    report("io_uring is named outside io/", findings);
}

#[test]
fn pure_packages_touch_neither_clock_nor_world() {
    let banned = [
        "Instant::now",
        "SystemTime::now",
        "std::fs",
        "net::Tcp",
        "net::Udp",
        "std::process",
        "thread::spawn",
    ];
    let files = source::files()
        .into_iter()
        .filter(|file| file.is_rust() && is_below(file, PURE))
        .filter(|file| !file.path.ends_with("/tests.rs") && !file.path.contains("/tests/"))
        .collect();
    let before_tests = |text: String| {
        let code = code_only(&text);
        code.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
    };
    let findings = lines_with(files, before_tests, |line| {
        banned.iter().find(|word| line.contains(*word)).map(|word| (*word).to_owned())
    });
    report("a pure package reads the clock or the world", findings);
}

#[test]
fn nothing_is_left_to_do() {
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|word| joined(&word));
    let macros = [["dbg", "!("], ["todo", "!("], ["unimplemented", "!("]].map(|word| joined(&word));
    let files = source::files()
        .into_iter()
        .filter(|file| {
            [".rs", ".toml", ".py", ".md", ".ci/run"].iter().any(|e| file.path.ends_with(e))
        })
        .collect();
    let findings = lines_with(
        files,
        |text| text,
        |line| {
            let word = words.iter().find(|word| has_word(line, word));
            word.or_else(|| macros.iter().find(|word| line.contains(*word))).cloned()
        },
    );
    report("a leftover", findings);
}

#[test]
fn no_registry_host_and_no_machine_path() {
    let words = [
        ["index.", "crates.io"],
        ["static.", "crates.io"],
        ["py", "pi.org"],
        ["files.python", "hosted"],
        ["deb.", "debian.org"],
        ["registry.", "npmjs"],
        ["/ro", "ot/"],
        ["/wo", "rk/"],
        ["/ho", "me/"],
    ]
    .map(|word| joined(&word));
    let files = source::files().into_iter().filter(|file| file.path != "Cargo.lock").collect();
    let findings = lines_with(
        files,
        |text| text,
        |line| words.iter().find(|word| line.contains(*word)).cloned(),
    );
    report("a registry host or a path of somebody's machine", findings);
}

#[test]
fn flags_that_miscompile_are_absent() {
    let words = [["target-cpu", "=native"], ["avx512", "dq"]].map(|word| joined(&word));
    let files = source::files()
        .into_iter()
        .filter(|file| !file.path.starts_with("docs/") && file.path != "README.md")
        .collect();
    let findings = lines_with(
        files,
        |text| text,
        |line| words.iter().find(|word| line.contains(*word)).cloned(),
    );
    report("rust-lang/rust#158622: this compiler miscompiles with", findings);
}

#[test]
fn words_end_at_word_edges() {
    assert!(has_word("an unsafe block", "unsafe"));
    assert!(has_word("unsafe{", "unsafe"));
    assert!(!has_word("unsafe_code", "unsafe"));
    assert!(!has_word("not_unsafe", "unsafe"));
}

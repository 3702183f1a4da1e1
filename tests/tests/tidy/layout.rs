//! What lies where: the top level, the first line of each module, manifests, the pure packages'
//! bans, and no large blobs.

use std::collections::BTreeSet;

use postern_tests::source;

use crate::report;

const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench",
    "docs",
    "engine",
    "filters",
    "loadgen",
    "signer",
    "tests",
];

/// A larger file is data, and data is generated or downloaded, not committed.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// What each pure package's `clippy.toml` must ban, beside what the `words` module reads.
const PURE_BANS: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::fs",
    "std::net::Tcp",
    "std::thread::spawn",
];

#[test]
fn the_top_level_is_the_agreed_one() {
    let found: BTreeSet<String> = source::files()
        .iter()
        .filter_map(|file| file.path.split('/').next().map(str::to_owned))
        .filter(|name| !name.starts_with('.'))
        .collect();
    let agreed: BTreeSet<String> = TOP_LEVEL.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, agreed);
}

#[test]
fn each_module_says_first_what_it_is() {
    let mut findings = Vec::new();
    for file in source::files().into_iter().filter(|file| file.is_rust()) {
        let text = file.text().unwrap_or_default();
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let words = first.trim_start_matches("//!").trim();
        if !first.starts_with("//!") || words.len() < 8 {
            findings.push(format!("{}: starts with {first:?}", file.path));
        }
    }
    report("a module starts with a `//!` sentence", findings);
}

#[test]
fn no_file_is_large() {
    let findings = source::files()
        .iter()
        .map(|file| (&file.path, file.bytes().len()))
        .filter(|(_, bytes)| *bytes > FILE_BYTES_MAX)
        .map(|(path, bytes)| format!("{path}: {bytes} bytes"))
        .collect();
    report("larger than 256 KiB", findings);
}

#[test]
fn cargo_configuration_is_absent() {
    let findings = source::files()
        .iter()
        .filter(|file| file.path.contains(".cargo/") || file.path.ends_with("rust-toolchain.toml"))
        .map(|file| file.path.clone())
        .collect();
    report("flags and toolchains are the builder's choice", findings);
}

#[test]
fn every_dependency_comes_from_the_public_registry() {
    let lock = std::fs::read_to_string(source::root().join("Cargo.lock")).expect("a lock file");
    let findings = lock
        .lines()
        .filter(|line| line.starts_with("source = "))
        .filter(|line| !line.contains("/rust-lang/crates.io-index"))
        .map(str::to_owned)
        .collect();
    report("a dependency from elsewhere", findings);
}

#[test]
fn versions_are_named_once() {
    let mut findings = Vec::new();
    for file in source::files() {
        if !file.path.ends_with("/Cargo.toml") || file.path.starts_with("tests/fuzz/") {
            continue;
        }
        let manifest: toml::Table = file.text().unwrap_or_default().parse().expect("a manifest");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, wanted) in
                manifest.get(section).and_then(|s| s.as_table()).into_iter().flatten()
            {
                if wanted.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    findings.push(format!("{}: {name}", file.path));
                }
            }
        }
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if lints.and_then(toml::Value::as_bool) != Some(true) {
            findings.push(format!("{}: does not take the workspace's lints", file.path));
        }
    }
    report("versions and lints stand in the workspace manifest", findings);
}

#[test]
fn pure_packages_let_clippy_hold_the_wall() {
    let mut findings = Vec::new();
    for folder in ["engine/smtp", "filters", "signer"] {
        let path = source::root().join(folder).join("clippy.toml");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for ban in PURE_BANS.iter().filter(|ban| !text.contains(*ban)) {
            findings.push(format!("{folder}/clippy.toml: does not ban {ban}"));
        }
        if text.matches("path =").count() != text.matches("reason =").count() {
            findings.push(format!("{folder}/clippy.toml: a ban without a reason"));
        }
    }
    report("a wall without its ban", findings);
}

//! Every configuration key stands in `docs/configuration.md`.
//!
//! The keys are those of the table `KEYS` in `engine/src/config/keys.rs`, which is all that the
//! reader accepts.

use postern_tests::source;

use crate::report;

/// The texts in quotation marks of the table `KEYS`, section names and keys alike.
fn keys_of(text: &str) -> Vec<&str> {
    let table = text.split_once("KEYS").map_or("", |(_, rest)| rest);
    let table = table.split_once("\n];").map_or("", |(table, _)| table);
    table.split('"').skip(1).step_by(2).filter(|key| !key.is_empty()).collect()
}

#[test]
fn each_key_is_documented() {
    let page = std::fs::read_to_string(source::root().join("docs/configuration.md"))
        .expect("docs/configuration.md");
    let table = std::fs::read_to_string(source::root().join("engine/src/config/keys.rs"))
        .expect("the table of keys");
    let keys = keys_of(&table);
    assert!(keys.len() > 60, "the keys were not found in the source: {keys:?}");
    let findings = keys
        .iter()
        .filter(|key| {
            ![format!("`{key}`"), format!("`[{key}]`"), format!("`[[{key}]]`")]
                .iter()
                .any(|form| page.contains(form))
        })
        .map(|key| format!("`{key}`"))
        .collect();
    report("a key without documentation in docs/configuration.md", findings);
}

#[test]
fn keys_are_read_from_the_table() {
    let text =
        "pub const KEYS: X = &[\n    (\"\", &[\"one\"]),\n    (\"one\", &[\"two\"]),\n];\n\"no\"";
    assert_eq!(keys_of(text), ["one", "one", "two"]);
}

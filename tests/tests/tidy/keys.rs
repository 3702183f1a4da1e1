//! Every configuration key stands in `docs/configuration.md`.
//!
//! Keys are read from the source: the field names of the structs in `engine/src/config` that serde
//! fills, and their `rename`s.

use std::collections::BTreeSet;

use postern_tests::source;

use crate::report;

/// The names under which serde reads the fields of the structs in one file.
fn keys_of(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut is_read = false;
    let mut in_struct = false;
    let mut renamed = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[derive(") {
            is_read = line.contains("Deserialize");
        } else if is_read && line.contains("struct ") && line.ends_with('{') {
            in_struct = true;
        } else if line == "}" {
            in_struct = false;
            is_read = false;
        } else if in_struct && line.starts_with("#[serde(") {
            renamed = line.split("rename = \"").nth(1).and_then(|rest| rest.split('"').next());
        } else if in_struct && !line.starts_with("//") && !line.starts_with('#') {
            let field = line.trim_start_matches("pub(super) ").trim_start_matches("pub(crate) ");
            if let Some((name, _)) = field.trim_start_matches("pub ").split_once(": ") {
                keys.insert(renamed.take().unwrap_or(name).trim_start_matches("r#").to_owned());
            }
        }
    }
    keys
}

#[test]
fn each_key_is_documented() {
    let page = std::fs::read_to_string(source::root().join("docs/configuration.md"))
        .expect("docs/configuration.md");
    let mut findings = Vec::new();
    let mut keys = BTreeSet::new();
    for file in source::rust_below("engine/src/config/") {
        let found = keys_of(&file.text().unwrap_or_default());
        for key in found.iter().filter(|key| !page.contains(&format!("`{key}`"))) {
            findings.push(format!("{}: `{key}`", file.path));
        }
        keys.extend(found);
    }
    assert!(keys.len() > 20, "the keys were not found in the source: {keys:?}");
    report("a key without documentation in docs/configuration.md", findings);
}

#[test]
fn fields_and_renames_are_read() {
    let text = "#[derive(Debug, Deserialize)]\nstruct A {\n    /// One.\n    pub one: u8,\n    \
                #[serde(rename = \"second\")]\n    two: u8,\n}\nstruct B {\n    three: u8,\n}\n";
    assert_eq!(keys_of(text).into_iter().collect::<Vec<_>>(), ["one", "second"]);
}

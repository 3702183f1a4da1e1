//! Which room may name which: the arrows of `docs/architecture.md`, checked against `crate::` paths.

use std::collections::{BTreeMap, BTreeSet};

use postern_tests::source::{self, code_only};

use crate::report;

/// A room of `engine/src`, and the rooms it may name. A room may always name itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("access", &["config"]),
    ("command", ANY),
    ("config", &[]),
    ("control", &["access", "config", "event", "order", "shard"]),
    (
        "deliver",
        &["config", "event", "intake", "io", "order", "queue", "route", "signing", "spool"],
    ),
    ("event", &[]),
    ("intake", &["access", "config", "event", "spool"]),
    ("io", &[]),
    ("order", &[]),
    ("queue", &[]),
    ("route", &["config", "io"]),
    (
        "shard",
        &[
            "access", "config", "deliver", "event", "intake", "io", "order", "queue", "route",
            "signing", "spool",
        ],
    ),
    ("signing", &["event"]),
    ("spool", &["io"]),
];

/// `command` starts everything, so it may name everything.
const ANY: &[&str] = &[
    "access", "config", "control", "deliver", "event", "intake", "io", "order", "queue", "route",
    "shard", "signing", "spool",
];

/// The packages that must stay pure, and what of ours they may name.
const PURE: &[(&str, &[&str])] = &[("engine/smtp/", &[]), ("filters/", &[]), ("signer/", &[])];

const OURS: &[&str] =
    &["postern", "postern_filters", "postern_loadgen", "postern_signer", "postern_smtp"];

fn allowed(room: &str) -> Option<BTreeSet<&'static str>> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, may)| may.iter().copied().collect())
}

/// The first path segments that follow `prefix` in code, each with its line: `a::b`, and every
/// head of `{a::b, c}`.
fn heads_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut heads = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find(prefix) {
        let at = from + found;
        let line = code[..at].matches('\n').count() + 1;
        let after = &code[at + prefix.len()..];
        let joined = code[..at].chars().next_back().is_some_and(is_word);
        if !joined {
            heads.extend(group_heads(after).into_iter().map(|head| (line, head)));
        }
        from = at + prefix.len();
    }
    heads
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn group_heads(after: &str) -> Vec<String> {
    let Some(group) = after.strip_prefix('{') else {
        return vec![after.chars().take_while(|&c| is_word(c)).collect()];
    };
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    let mut head = Some(String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.extend(head.take());
                head = Some(String::new());
            }
            c if depth == 0 && is_word(c) => {
                if let Some(head) = &mut head {
                    head.push(c);
                }
            }
            ':' if depth == 0 => {
                heads.extend(head.take());
            }
            _ => {}
        }
    }
    heads.extend(head);
    heads.retain(|head| !head.is_empty());
    heads
}

/// The room a file of the engine belongs to, or `None` for the crate roots.
fn room_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("engine/src/")?;
    let name = below.split('/').next()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (!matches!(name, "main" | "lib")).then_some(name)
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let mut findings = Vec::new();
    for file in source::rust_below("engine/src/") {
        let Some(room) = room_of(&file.path) else { continue };
        let Some(may) = allowed(room) else {
            findings.push(format!("{}: `{room}` is no room of the table", file.path));
            continue;
        };
        let code = code_only(&file.text().unwrap_or_default());
        for (line, head) in heads_after(&code, "crate::") {
            let is_room = ROOMS.iter().any(|(name, _)| *name == head);
            if is_room && head != room && !may.contains(head.as_str()) {
                findings.push(format!("{}:{line}: {room} must not name {head}", file.path));
            }
        }
    }
    report("an arrow between rooms points the wrong way", findings);
}

#[test]
fn the_binary_only_starts_the_command_line() {
    let main = source::rust_below("engine/src/main.rs").pop().expect("the binary has a root");
    let code = code_only(&main.text().unwrap_or_default());
    let named: BTreeSet<String> =
        heads_after(&code, "postern::").into_iter().map(|(_, head)| head).collect();
    assert!(named.iter().all(|name| name == "command"), "main.rs names {named:?}");
}

#[test]
fn the_table_of_arrows_has_no_circle() {
    let mut left: BTreeMap<&str, BTreeSet<&str>> =
        ROOMS.iter().map(|(room, may)| (*room, may.iter().copied().collect())).collect();
    loop {
        let leaves: Vec<&str> =
            left.iter().filter(|(_, may)| may.is_empty()).map(|(room, _)| *room).collect();
        if leaves.is_empty() {
            break;
        }
        for leaf in leaves {
            left.remove(leaf);
            left.values_mut().for_each(|may| {
                may.remove(leaf);
            });
        }
    }
    assert!(left.is_empty(), "these rooms depend on each other: {left:?}");
}

#[test]
fn pure_packages_name_nothing_of_ours() {
    let mut findings = Vec::new();
    for (folder, may) in PURE {
        for file in source::rust_below(&format!("{folder}src/")) {
            let code = code_only(&file.text().unwrap_or_default());
            for name in OURS.iter().filter(|name| !may.contains(*name)) {
                if !heads_after(&code, &format!("{name}::")).is_empty() {
                    findings.push(format!("{}: names {name}", file.path));
                }
            }
        }
        let manifest = std::fs::read_to_string(source::root().join(folder).join("Cargo.toml"))
            .unwrap_or_default();
        let normal = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for name in OURS.iter().map(|name| name.replace('_', "-")) {
            let depends = normal.lines().any(|line| {
                line.strip_prefix(&name).is_some_and(|rest| rest.starts_with([' ', '.']))
            });
            if depends {
                findings.push(format!("{folder}Cargo.toml: depends on {name}"));
            }
        }
    }
    report("a pure package must stand alone", findings);
}

#[test]
fn groups_and_paths_are_both_seen() {
    let code = "use crate::io::Stream; use crate::{spool::{a, b}, queue}; let x = crate::event::E;";
    let heads: Vec<String> = heads_after(code, "crate::").into_iter().map(|(_, h)| h).collect();
    assert_eq!(heads, ["io", "spool", "queue", "event"]);
    assert!(heads_after("my_crate::io::x", "crate::").is_empty());
}

//! `postern demo`: every claim holds, the folder serves again, and nothing else is touched.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use postern_tests::binary;
use serde_json::Value;

fn demo(folder: &Path, flags: &[&str]) -> Output {
    Command::new(binary::path())
        .current_dir(folder)
        .arg("demo")
        .args(flags)
        .output()
        .expect("the binary starts")
}

#[track_caller]
fn expect_success(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}\n{error}");
    assert!(error.is_empty(), "{error}");
    out
}

#[test]
fn every_claim_holds_and_the_folder_serves_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let told = expect_success(&demo(folder.path(), &["--once", "--json"]));
    let claims: Vec<Value> = serde_json::from_str(&told).expect("one JSON array");
    assert_eq!(claims.len(), 14, "{told}");
    for claim in &claims {
        assert_eq!(claim["ok"], true, "{claim}");
        assert!(claim["value"].is_number() && claim["unit"].is_string(), "{claim}");
    }
    let made = folder.path().join("postern-demo");
    let config = made.join("postern.toml");
    let check = Command::new(binary::path()).arg("check").arg("--config").arg(&config).output();
    assert!(check.expect("the binary starts").status.success());
    let key = fs::read(made.join("dkim.pem")).expect("a DKIM key");

    let told = expect_success(&demo(folder.path(), &["--once"]));
    assert!(told.contains("the folder is reused") && told.contains("dkim=pass"), "{told}");
    assert!(told.lines().count() <= 40, "one screenful: {told}");
    let longest = told.lines().map(|line| line.chars().count()).max();
    // The line that says what refused io_uring is as long as it has to be.
    assert!(longest <= Some(100) || told.contains("io_uring refused"), "{told}");
    assert!(!told.contains('\u{1b}'), "colours are for terminals: {told}");
    assert_eq!(fs::read(made.join("dkim.pem")).expect("a DKIM key"), key);
    let names: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).expect("a writable folder");
    fs::write(theirs.join("thesis.txt"), "years of work").expect("a writable folder");
    for flags in [vec!["--dir", "theirs", "--once"], vec!["--dir", "theirs", "--once", "--fresh"]] {
        let output = demo(folder.path(), &flags);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("no demonstration made it"), "{error}");
        assert!(theirs.join("thesis.txt").is_file());
    }
}

//! What is said about broken configurations, letter by letter.

use super::*;

/// Renders what is said about `golden/NAME.toml` and compares it.
fn check(name: &str) {
    let folder = Folder::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/golden");
    let source = fs::read_to_string(golden.join(name).with_extension("toml")).expect("the input");
    let report = match folder.parse(&source) {
        Ok(loaded) => loaded.report,
        Err(report) => report,
    };
    let said = format!(
        "{}\n\n{} errors, {} warnings\n",
        folder.anonymous(&report.render(false)),
        report.errors(),
        report.warnings()
    );
    let expected_at = golden.join(name).with_extension("txt");
    if std::env::var_os("POSTERN_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(&expected_at, &said).expect("a writable source folder");
    }
    let expected = fs::read_to_string(&expected_at).unwrap_or_default();
    assert!(said == expected, "{name}: this is said now:\n{said}\n--- expected:\n{expected}");
}

#[test]
fn unknown_keys_and_values_get_suggestions() {
    check("unknown");
}

#[test]
fn wrong_types_units_and_limits() {
    check("values");
}

#[test]
fn applications() {
    check("applications");
}

#[test]
fn listeners() {
    check("listeners");
}

#[test]
fn routes_and_signing() {
    check("routes");
}

#[test]
fn several_signatures() {
    check("signing");
}

#[test]
fn managed_keys() {
    check("managed");
}

#[test]
fn broken_toml_is_told_beside_other_mistakes() {
    check("syntax");
}

#[test]
fn what_is_missing() {
    check("missing");
}

#[test]
fn an_empty_file() {
    check("empty");
}

#[test]
fn warnings_alone_are_no_errors() {
    check("warnings");
}

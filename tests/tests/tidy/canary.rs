//! A canary for rust-lang/rust#158622: with two AVX-512 features on (DQ and VL), this compiler turns the
//! sign of one element of a vectorised loop around. The program below is built with optimisation
//! and with whatever flags this build was given, and must come out right.

use std::process::Command;

/// Prints the sum of signs; sixteen elements so that the loop is vectorised, a length the compiler
/// cannot see so that it is not unrolled.
const PROGRAM: &str = r#"
fn main() {
    let mut input = [0.0f64; 16];
    input[2] = -1.0;
    let mut output = [0i128; 16];
    for index in 0..std::hint::black_box(input.len()) {
        let bits = input[index].to_bits();
        let magnitude = i128::from(input[index].abs().to_bits());
        output[index] = if bits == 0 {
            0
        } else if (bits as i64) < 0 {
            -magnitude
        } else {
            magnitude
        };
    }
    std::process::exit(i32::from(output[2] >= 0));
}
"#;

/// The flags cargo was told to hand to the compiler.
fn flags() -> Vec<String> {
    if let Ok(encoded) = std::env::var("CARGO_ENCODED_RUSTFLAGS") {
        return encoded
            .split('\u{1f}')
            .filter(|flag| !flag.is_empty())
            .map(str::to_owned)
            .collect();
    }
    let plain = std::env::var("RUSTFLAGS").unwrap_or_default();
    plain.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_compiler_is_right_with_the_flags_in_force() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("canary.rs");
    let binary = folder.path().join("canary");
    std::fs::write(&source, PROGRAM).expect("a writable folder");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "-O", "-o"])
        .arg(&binary)
        .args(flags())
        .arg(&source)
        .output()
        .expect("rustc starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(&binary).status().expect("the canary starts");
    assert!(ran.success(), "this compiler miscompiles with the flags {:?}", flags());
}

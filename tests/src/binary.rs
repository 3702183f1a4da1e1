//! The `postern` binary of this build, built once a test process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of the relay's binary: what `POSTERN_BIN` names, else built now with the tests' profile.
///
/// # Panics
///
/// When the build fails.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("POSTERN_BIN") {
        Some(path) => path.into(),
        None => build("postern"),
    })
}

/// The folder of the running test's profile, and the profile's name as cargo's `--profile` takes it.
fn profile() -> (PathBuf, String) {
    let own = std::env::current_exe().expect("a process knows its program");
    let folder = own.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let name = folder.file_name().expect("a profile has a name").to_string_lossy();
    let name = if name == "debug" { "dev".to_owned() } else { name.into_owned() };
    (folder.to_path_buf(), name)
}

fn build(package: &str) -> PathBuf {
    let (folder, profile) = profile();
    // The whole workspace is selected, as `cargo test --workspace` does: with another selection
    // cargo would unify features in another way and build the dependencies once more.
    let built = Command::new(env!("CARGO"))
        .current_dir(crate::source::root())
        .args(["build", "--quiet", "--workspace", "--bin", package, "--profile", &profile])
        .env("CARGO_TARGET_DIR", folder.parent().expect("target/PROFILE"))
        .output()
        .expect("cargo starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let binary = folder.join(package);
    assert!(binary.is_file(), "{} was not built", binary.display());
    binary
}

//! Outside programs: whether they are there, and running them with a time limit.
//!
//! A test that needs a program which is not installed prints `skipped: why` and passes. Where
//! `POSTERN_REQUIRE` names the program, or says `all`, its absence fails the test instead: that is
//! how CI makes sure that nothing it installed is skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Where programs lie that are not on a plain user's path.
const SYSTEM_FOLDERS: &[&str] = &["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Whether a skip because of `name` is an error here.
fn is_required(name: &str) -> bool {
    let required = std::env::var("POSTERN_REQUIRE").unwrap_or_default();
    required.split([',', ' ']).any(|word| word == "all" || word == name)
}

/// Says on the test's real output, past the capture of passing tests, that something was skipped.
///
/// # Panics
///
/// Where `POSTERN_REQUIRE` names `what`.
pub fn skip(what: &str, why: &str) {
    assert!(!is_required(what), "{what} is required here: {why}");
    let line = format!("skipped: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
}

/// Prints one line of a measurement past the capture of passing tests.
pub fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("stderr is open");
}

/// The program's path, or `None` where it is not installed.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// Whether every program is installed; where one is not, says so.
pub fn have(names: &[&str]) -> bool {
    for name in names {
        if find(name).is_none() {
            skip(name, &format!("{name} is not installed"));
            return false;
        }
    }
    true
}

/// Whether Python can import the modules; where it cannot, says so.
pub fn have_python(modules: &[&str]) -> bool {
    if !have(&["python3"]) {
        return false;
    }
    for module in modules {
        let tried = Command::new("python3").args(["-c", &format!("import {module}")]).output();
        if !tried.is_ok_and(|tried| tried.status.success()) {
            skip(module, &format!("Python has no module {module}"));
            return false;
        }
    }
    true
}

/// Whether this process may mount and bind as root may; where not, says so.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("root", "not root");
    }
    root
}

/// A helper script of this package.
pub fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// What a finished program printed.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Whether it exited with 0.
    pub success: bool,
    /// Exit code, or `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Returns itself if the program exited with 0.
    ///
    /// # Panics
    ///
    /// Otherwise, with what the program printed.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert!(self.success, "exit {:?}\n{}\n{}", self.code, self.out, self.err);
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a program with `input` on its standard input, at most `seconds`.
///
/// # Panics
///
/// When it does not start, or does not end in time.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8], seconds: u64) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let mut stdin = child.stdin.take().expect("stdin was piped");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // A program may end without having read everything; its exit code says whether that is bad.
        stdin.write_all(&input).is_ok()
    });
    let id = child.id();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let late = stopped
            .recv_timeout(Duration::from_secs(seconds))
            .is_err_and(|why| why == std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            signal(id, rustix::process::Signal::KILL);
        }
        late
    });
    let output = child.wait_with_output().expect("the child can be waited for");
    drop(stop);
    let late = watch.join().expect("the watch does not panic");
    feeder.join().expect("the feeder does not panic");
    let ran = Ran::from(output);
    assert!(!late, "{command:?} did not end within {seconds} s\n{}\n{}", ran.out, ran.err);
    ran
}

/// Sends a signal to a child of ours that has not been waited for yet.
pub fn signal(id: u32, signal: rustix::process::Signal) {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    let id = id.expect("a process id is positive");
    // The child may have ended meanwhile; whoever waits for it sees that.
    rustix::process::kill_process(id, signal).ok();
}

/// Waits for a child at most `seconds`; false when it still runs.
pub fn wait(child: &mut Child, seconds: u64) -> bool {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => return false,
        }
    }
}

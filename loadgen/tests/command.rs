//! The `postern-loadgen` command from outside: what it prints, and how it exits.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_postern-loadgen");

struct Sink {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Sink {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["sink", "127.0.0.1:0", "--json"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let address = told["listening"].as_str().unwrap().to_owned();
        Self { child, stdout, address }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(mut self) -> (Value, Option<i32>) {
        let mut rest = String::new();
        drop(self.child.stdin.take());
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (serde_json::from_str(&rest).unwrap(), status.code())
    }
}

fn loadgen(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn run_sink_and_verify_agree() {
    let dir = tempfile::tempdir().unwrap();
    let (sent, got) = (dir.path().join("sent"), dir.path().join("got"));
    let sink = Sink::start(&["--ledger", path(&got), "--fault", "end:451:first=2"]);
    let run = loadgen(&[
        "run",
        &sink.address,
        "--sessions=4",
        "--messages=50",
        "--json",
        "--ledger",
        path(&sent),
    ]);
    let summary = json(&run);
    assert_eq!(run.status.code(), Some(1), "two were refused: {summary}");
    assert_eq!((&summary["accepted"], &summary["deferred"]), (&48.into(), &2.into()));
    assert_eq!(summary["loop"], "closed");
    sink.signal(Signal::TERM);
    let (summary, code) = sink.end();
    assert_eq!((summary["distinct"].as_u64(), code), (Some(48), Some(0)), "{summary}");

    let both = ["verify", "--json", "--source", path(&sent), "--sink", path(&got)];
    let good = loadgen(&both);
    assert_eq!(good.status.code(), Some(0), "{}", json(&good));

    // Lose one line of the sink's, and repeat another.
    let text = std::fs::read_to_string(&got).unwrap();
    let mut lines: Vec<&str> = text.lines().skip(1).collect();
    lines.push(lines[0]);
    std::fs::write(&got, lines.join("\n") + "\n").unwrap();
    let bad = loadgen(&both);
    assert_eq!(bad.status.code(), Some(1));
    let found = json(&bad);
    assert_eq!((&found["lost"]["count"], &found["duplicates"]["count"]), (&1.into(), &1.into()));
}

#[test]
fn a_sink_ends_on_interrupt_and_at_the_end_of_input() {
    let sink = Sink::start(&["--tls=starttls"]);
    let run = loadgen(&["run", &sink.address, "--tls=starttls", "--messages=3", "--json"]);
    assert_eq!(run.status.code(), Some(0), "{}", json(&run));
    sink.signal(Signal::INT);
    let (summary, code) = sink.end();
    assert_eq!((&summary["encrypted"], code), (&1.into(), Some(0)));

    let sink = Sink::start(&["--until-eof"]);
    let (summary, code) = sink.end();
    assert_eq!((&summary["received"], code), (&0.into(), Some(0)));
}

#[test]
fn what_cannot_be_done_is_said_with_exit_code_two() {
    for arguments in [
        &["sink", "127.0.0.1:0", "--fault", "quit:450"][..],
        &["verify", "--source", "/nonexistent", "--sink", "/nonexistent"],
        &["run", "127.0.0.1:1", "--tls=starttls", "--ca", "/nonexistent"],
        &["run", "127.0.0.1:1", "--auth", "nopassword"],
    ] {
        let output = loadgen(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(loadgen(&["run", "127.0.0.1:1"]).status.code(), Some(1), "nobody listens");
}

#[test]
fn help_names_every_command() {
    let help = String::from_utf8(loadgen(&["--help"]).stdout).unwrap();
    for command in ["run", "sink", "verify"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    let help = String::from_utf8(loadgen(&["sink", "--help"]).stdout).unwrap();
    assert!(help.contains("PHASE:ACTION[:WHEN]"), "{help}");
}

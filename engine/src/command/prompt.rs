//! Questions on a terminal, and passwords that are not shown while they are typed.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::{Zeroize, Zeroizing};

/// Whether there is somebody to ask.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question until `accept` takes the answer; an empty answer is the default, where there is
/// one. Questions go to standard error, so that output can be redirected.
pub(super) fn ask<T>(
    question: &str,
    default: Option<&str>,
    accept: impl Fn(&str) -> Result<T, String>,
) -> io::Result<T> {
    loop {
        match default {
            Some(default) => eprint!("{question} [{default}]: "),
            None => eprint!("{question}: "),
        }
        io::stderr().flush()?;
        let line = first_line(&mut io::stdin().lock())?;
        let answer = match (line.trim(), default) {
            ("", Some(default)) => default,
            (answer, _) => answer,
        };
        match accept(answer) {
            Ok(accepted) => return Ok(accepted),
            Err(problem) => eprintln!("  {problem}"),
        }
    }
}

/// Asks for a secret, twice where `is_new`, without showing it.
pub(super) fn ask_secret(question: &str, is_new: bool) -> io::Result<Zeroizing<String>> {
    loop {
        let secret = unseen(question)?;
        if !is_new || secret.is_empty() || *unseen("the same again")? == *secret {
            return Ok(secret);
        }
        eprintln!("  the two differ");
    }
}

fn unseen(question: &str) -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    eprint!("{question}: ");
    io::stderr().flush()?;
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let line = first_line(&mut stdin.lock());
    tcsetattr(&stdin, OptionalActions::Now, &shown)?;
    eprintln!();
    line
}

/// The first line, without its end. At most [`LINE_BYTES_MAX`].
pub(super) fn first_line(input: &mut impl BufRead) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(256));
    io::Read::take(input, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    while line.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
        line.pop();
    }
    String::from_utf8(std::mem::take(&mut line)).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        io::ErrorKind::InvalidData.into()
    })
}

/// Longer than any password or answer.
const LINE_BYTES_MAX: u64 = 4_096;

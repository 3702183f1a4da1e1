//! The operator's end of the control socket: one request, one answer, blocking.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::order::{Answer, Request};

/// Why a running relay could not be asked.
#[derive(Debug)]
pub enum AskError {
    /// No relay listens there: not running, or another socket path is configured.
    NotRunning(PathBuf, io::Error),
    /// The socket belongs to somebody else.
    Forbidden(PathBuf),
    /// The relay went away, or did not answer within [`ANSWER_TIMEOUT`].
    NoAnswer(io::Error),
    /// Another version answered.
    NotUnderstood(serde_json::Error),
    /// The relay said why it cannot do it.
    Refused(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(path, error) => write!(
                f,
                "no relay answers at {}: {error}; is `postern run` running with this configuration?",
                path.display()
            ),
            Self::Forbidden(path) => write!(
                f,
                "{} may be used only by the user the relay runs as, or by root",
                path.display()
            ),
            Self::NoAnswer(error) => write!(f, "the relay did not answer: {error}"),
            Self::NotUnderstood(error) => {
                write!(f, "the relay's answer is not understood ({error}); is it another version?")
            }
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks the relay that listens at `socket`.
///
/// # Errors
/// [`AskError`]; [`AskError::Refused`] carries the relay's own words.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, AskError> {
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Forbidden(socket.to_owned()),
        _ => AskError::NotRunning(socket.to_owned(), error),
    })?;
    let line = exchange(&stream, request).map_err(AskError::NoAnswer)?;
    match serde_json::from_str(&line).map_err(AskError::NotUnderstood)? {
        Answer::Refused { error } => Err(AskError::Refused(error)),
        answer => Ok(answer),
    }
}

fn exchange(stream: &UnixStream, request: &Request) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut writer = stream;
    writer.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// How long an operator waits for a busy relay.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

//! The relay's end of the control socket: a Unix socket, mode 0600, JSON lines.
//!
//! Security: only the owner of the socket and root can connect; a line is at most
//! [`LINE_BYTES_MAX`] long; at most [`CONNECTIONS_MAX`] connections are served at once, further
//! ones wait in the kernel's queue. A socket file left by a dead relay is replaced; one that a
//! living relay answers on is an error.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::order::{Answer, Request};

/// Answers requests; implemented by the control runtime.
pub trait Operator {
    /// Carries out one request.
    fn answer(&self, request: Request) -> impl Future<Output = Answer>;
}

/// A bound control socket; its file is removed on drop.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket, replacing the file of a dead relay.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when a living relay answers there; else what the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves operators until dropped. Runs inside a `LocalSet`.
    pub async fn serve(&self, operator: Rc<impl Operator + 'static>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of descriptors: the operator waits rather than the relay spinning.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let operator = Rc::clone(&operator);
            tokio::task::spawn_local(async move {
                // A broken operator connection concerns nobody else.
                drop(converse(stream, &*operator).await);
                drop(slot);
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Removing twice, or after the directory went away, is no harm.
        drop(fs::remove_file(&self.path));
    }
}

async fn converse(mut stream: UnixStream, operator: &impl Operator) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(LINE_BYTES_MAX);
        let read = timeout(IDLE_TIMEOUT, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_slice(&line) {
            Ok(request) => operator.answer(request).await,
            Err(error) => Answer::Refused { error: format!("not a request: {error}") },
        };
        let mut out = serde_json::to_vec(&answer)?;
        out.push(b'\n');
        writer.write_all(&out).await?;
    }
}

const LINE_BYTES_MAX: u64 = 65_536;
const CONNECTIONS_MAX: usize = 16;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::super::client::{AskError, ask};
    use super::*;

    struct Echo;

    impl Operator for Echo {
        async fn answer(&self, request: Request) -> Answer {
            match request {
                Request::Restore { app, .. } => Answer::Restored { app, released: 3 },
                _ => Answer::Refused { error: "only restore".into() },
            }
        }
    }

    /// Runs a blocking client against a served socket.
    fn with_socket(test: impl FnOnce(&Path) + Send + 'static) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("control.sock");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async {
            let socket = ControlSocket::bind(&path).expect("binds");
            let client = tokio::task::spawn_blocking({
                let path = path.clone();
                move || test(&path)
            });
            tokio::select! {
                () = socket.serve(Rc::new(Echo)) => {}
                done = client => done.expect("the client's assertions hold"),
            }
        });
        assert!(!path.exists(), "the socket file is removed");
    }

    #[test]
    fn answers_and_refuses() {
        with_socket(|path| {
            let restore = Request::Restore { app: "a".into(), actor: "me".into() };
            let answer = ask(path, &restore).expect("an answer");
            assert_eq!(answer, Answer::Restored { app: "a".into(), released: 3 });
            let refused = ask(path, &Request::Status {}).expect_err("refused");
            assert_eq!(refused.to_string(), "only restore");
        });
    }

    #[test]
    fn a_second_relay_is_refused_and_a_dead_one_replaced() {
        with_socket(|path| {
            let mode = fs::metadata(path).expect("exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let _inside = runtime.enter();
            let error = ControlSocket::bind(path).err().expect("refused");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            let dead = path.with_file_name("dead.sock");
            drop(std::os::unix::net::UnixListener::bind(&dead).expect("binds"));
            ControlSocket::bind(&dead).expect("replaces the dead one");
        });
    }

    #[test]
    fn no_relay_is_a_plain_error() {
        let error = ask(Path::new("/nonexistent/control.sock"), &Request::Status {});
        assert!(matches!(error, Err(AskError::NotRunning(..))));
    }
}

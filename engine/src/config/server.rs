//! `[server]`: the process as a whole.

use std::path::PathBuf;
use std::time::Duration;

/// The process as a whole.
#[derive(Debug, Clone)]
pub struct Server {
    /// Our name in greetings, `Received` fields and Message-IDs.
    pub hostname: String,
    /// CPUs to run a shard on each; `auto` is resolved to all this process may use. Not empty,
    /// ascending, distinct.
    pub cores: Vec<usize>,
    /// Which I/O driver.
    pub io: IoChoice,
    /// Bound of the memory for message blocks, per shard, in bytes.
    pub memory_bytes: usize,
    /// Bound of the memory for received chunks, per shard, in bytes.
    pub receive_memory_bytes: usize,
    /// The Unix socket on which `postern cut`, `status` and others reach the relay.
    pub control_socket: PathBuf,
    /// Where and how the log is written.
    pub log: Log,
    /// How long a drain may take before sessions are closed where they stand.
    pub drain_timeout: Duration,
}

/// Which I/O driver a shard uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring, or no start.
    Uring,
    /// epoll.
    Epoll,
}

/// Where and how the log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Where lines go.
    pub target: LogTarget,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `key=value` text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// A file, opened again on SIGHUP.
    File(PathBuf),
}

/// Severity, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Something broke and needs the operator.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Normal life.
    #[default]
    Info,
}

//! `[server]`: the process as a whole.

use std::path::PathBuf;
use std::time::Duration;

use super::address::canonical_domain;
use super::diagnostic::Diagnostic;
use super::read::{Section, Span, seconds};
use super::suggest::one_of;

/// The process as a whole.
#[derive(Debug, Clone)]
pub struct Server {
    /// Our name in greetings, `Received` fields and Message-IDs.
    pub hostname: String,
    /// CPUs to run a shard on each; `auto` is resolved to all this process may use. Not empty,
    /// ascending, distinct.
    pub cores: Vec<usize>,
    /// They were not listed, so signing cores may be taken from them.
    pub(super) has_all_cores: bool,
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
    /// Whether a crash may write the process's memory, keys among it, to disk.
    pub core_dumps: bool,
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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

impl Default for Server {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            cores: Vec::new(),
            has_all_cores: false,
            io: IoChoice::Auto,
            memory_bytes: MEMORY_MIB_DEFAULT << 20,
            receive_memory_bytes: RECEIVE_MEMORY_MIB_DEFAULT << 20,
            control_socket: CONTROL_SOCKET_DEFAULT.into(),
            log: Log::default(),
            drain_timeout: DRAIN_TIMEOUT_DEFAULT,
            core_dumps: false,
        }
    }
}

impl Server {
    /// Reads `[server]`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let mib = |key: &str, range, default: usize| {
            section.number(key, range).and_then(|mib| usize::try_from(mib).ok()).unwrap_or(default)
                << 20
        };
        let listed = listed_cores(section);
        Self {
            hostname: hostname(section),
            has_all_cores: listed.is_none(),
            cores: listed.unwrap_or_else(|| (section.context.surroundings.cores)()),
            io: section.choice("io", &IO_CHOICES, IoChoice::Auto),
            memory_bytes: mib("memory_mib", MEMORY_MIB, MEMORY_MIB_DEFAULT),
            receive_memory_bytes: mib(
                "receive_memory_mib",
                RECEIVE_MEMORY_MIB,
                RECEIVE_MEMORY_MIB_DEFAULT,
            ),
            control_socket: control_socket(section),
            log: section.table("log", "server.log").map(|log| Log::read(&log)).unwrap_or_default(),
            drain_timeout: section
                .duration("drain_timeout", seconds(1, 3_600))
                .unwrap_or(DRAIN_TIMEOUT_DEFAULT),
            core_dumps: section.flag("core_dumps", false),
        }
    }
}

impl Log {
    fn read(section: &Section<'_>) -> Self {
        Self {
            format: section.choice("format", &LOG_FORMATS, LogFormat::Text),
            target: section
                .path("file")
                .map_or(LogTarget::Stderr, |(path, _)| LogTarget::File(path)),
            level: section.choice("level", &LOG_LEVELS, LogLevel::Info),
        }
    }
}

impl Server {
    /// Leaves these cores to the signers, unless none were left or the file lists others.
    pub(super) fn leave_to_signers(&mut self, taken: &[usize]) {
        let is_left = self.cores.iter().any(|core| !taken.contains(core));
        if self.has_all_cores && is_left {
            self.cores.retain(|core| !taken.contains(core));
        }
    }
}

fn hostname(section: &Section<'_>) -> String {
    let help = "the name of this host as others know it, such as \"relay.example.com\"";
    let Some(name) = section.required_text("hostname", help) else { return String::new() };
    let Some(canonical) = canonical_domain(name.text) else {
        let message = format!("`{}` is not a host name", name.text);
        section.context.push(Diagnostic::error(name.span, message).help(help));
        return String::new();
    };
    if !canonical.contains('.') && canonical != "localhost" {
        let message = format!("`{canonical}` is not a fully qualified host name");
        section.context.push(Diagnostic::warning(name.span, message).help(help));
    }
    canonical.into_owned()
}

/// The CPUs that `cores` lists, ascending; none where it is `"auto"` or absent.
pub(super) fn listed_cores(section: &Section<'_>) -> Option<Vec<usize>> {
    let machine = (section.context.surroundings.cores)();
    let listed = section.auto_or_numbers("cores")?;
    let mut cores = Vec::new();
    for (number, span) in listed {
        let known = usize::try_from(number).ok().filter(|core| machine.contains(core));
        match known {
            None => report_no_such_core(section, number, span, &machine),
            Some(core) if cores.contains(&core) => {
                let message = format!("core {core} is listed twice");
                section.context.push(Diagnostic::error(span, message));
            }
            Some(core) => cores.push(core),
        }
    }
    cores.sort_unstable();
    Some(cores)
}

fn report_no_such_core(section: &Section<'_>, number: u64, span: Span, machine: &[usize]) {
    let names: Vec<String> = machine.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let message = format!("this machine has no core {number} that the relay may use");
    let help = match (machine.first(), machine.last()) {
        (Some(first), Some(last)) if last - first + 1 == machine.len() && machine.len() > 2 => {
            format!("it has the cores {first} to {last}")
        }
        _ => format!("it has {}", one_of(&names).replace(" or ", " and ")),
    };
    section.context.push(Diagnostic::error(span, message).help(help));
}

fn control_socket(section: &Section<'_>) -> PathBuf {
    let Some((path, span)) = section.path("control_socket") else {
        return PathBuf::from(CONTROL_SOCKET_DEFAULT);
    };
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let message = format!("a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes");
        section.context.push(Diagnostic::error(span, message));
    }
    path
}

const IO_CHOICES: [(&str, IoChoice); 3] =
    [("auto", IoChoice::Auto), ("uring", IoChoice::Uring), ("epoll", IoChoice::Epoll)];
const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const LOG_LEVELS: [(&str, LogLevel); 3] =
    [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info)];

/// Less does not hold one message and its way out; more is a typing error.
const MEMORY_MIB: std::ops::RangeInclusive<u64> = 8..=65_536;
const MEMORY_MIB_DEFAULT: usize = 64;
const RECEIVE_MEMORY_MIB: std::ops::RangeInclusive<u64> = 1..=1_024;
/// Two to eight stay in a core's cache.
const RECEIVE_MEMORY_MIB_DEFAULT: usize = 8;
const CONTROL_SOCKET_DEFAULT: &str = "/run/postern/control.sock";
/// `sun_path` less the final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

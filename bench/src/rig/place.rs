//! Where things run and lie: cores, ports, folders, limits.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::statfs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

/// The core that servers under test are pinned to.
pub const SERVER_CORE: usize = 0;
/// The core that loads and sinks run on, where the machine has a second one.
pub const LOAD_CORE: usize = 1;

/// `statfs(2)`: file systems in memory.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

/// Pins the calling thread to one core, if this process may use it; the threads and processes it
/// starts inherit that.
pub fn pin(core: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    if core < CpuSet::MAX_CPU && allowed.is_set(core) {
        let mut only = CpuSet::new();
        only.set(core);
        // Unpinned is noisier, not wrong.
        let _ = sched_setaffinity(None, &only);
    }
}

/// A loopback address that nobody listens on now.
///
/// # Errors
/// When the system gives no port.
pub fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// Waits until somebody listens.
///
/// # Errors
/// `TimedOut` when nobody does within `patience`.
pub fn wait_until_open(addr: SocketAddr, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    while TcpStream::connect(addr).is_err() {
        if Instant::now() > deadline {
            let text = format!("nobody listens on {addr}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A folder for one measurement, in `TMPDIR`; gone with the value.
///
/// # Errors
/// What the system says.
pub fn folder(name: &str) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(&format!("postern-bench-{name}-")).tempdir()
}

/// Says so if measurements write to memory instead of a disk.
pub fn volatile_note() -> Option<String> {
    let folder: PathBuf = std::env::temp_dir();
    let kind = statfs(&folder).ok()?.f_type;
    [TMPFS, RAMFS].contains(&kind).then(|| {
        format!("{} lies in memory: writes cost less here than on a disk", folder.display())
    })
}

/// Raises the limit on open files as far as it goes; returns it.
pub fn open_files_max() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What cannot be raised stays as it is, and is what we return.
    let _ = setrlimit(Resource::Nofile, most);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

//! What lies below the log: the [`Storage`] trait, its real form (one directory), file names, lock.
//!
//! Everything here blocks. It runs at start (recovery, adoption) and on the helper thread
//! (preallocation, renames, directory syncs), never in a turn of the event loop.
//!
//! Invariants: a segment's file has its full length and was written with zeros and synced before the
//! directory is synced with its name, so appending to it changes no metadata; a name is created or
//! removed only together with a sync of the directory.
//! Must never: follow a name from outside; file names are made of numbers.
//! Failures: plain [`io::Error`]s; [`fault_of`] says which of them mean "full".

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

use super::log::{Clock, Fault, Now};
use super::record::PAGE_BYTES;
use super::seal::SALT_BYTES;
use super::segment::Epoch;

/// Name of the folder for damaged segments inside a log's directory.
pub(super) const QUARANTINE: &str = "quarantine";
const LOCK: &str = "lock";
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;
/// Zeros are written in pieces of this many bytes.
const ZERO_BYTES: usize = 1 << 20;

/// The file operations that the log and its recovery need, blocking. Names are plain file names in
/// the log's directory.
pub(super) trait Storage {
    fn list(&mut self) -> io::Result<Vec<String>>;
    fn length(&mut self, name: &str) -> io::Result<u64>;
    /// Fills `buffer` from `offset`; less only at the end of the file.
    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn flush(&mut self, name: &str) -> io::Result<()>;
    /// Makes a file of `bytes` zeros and syncs it, but not the directory. One that exists is made
    /// anew.
    fn create(&mut self, name: &str, bytes: u64) -> io::Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; one that is not there is no error.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    fn sync_directory(&mut self) -> io::Result<()>;
    /// Keeps the file in quarantine, whatever happens to its name.
    fn preserve(&mut self, name: &str) -> io::Result<()>;
}

/// Sorts an error into what the log treats differently.
pub(super) fn fault_of(error: &io::Error) -> Fault {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Fault::Full,
        _ => Fault::Io,
    }
}

/// A file name of the log, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Segment { epoch: Epoch, salt: [u8; SALT_BYTES] },
    Spare(u64),
}

impl Name {
    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some(number) = name.strip_prefix("spare-") {
            return hex(number, 16).and_then(|number| u64::try_from(number).ok()).map(Self::Spare);
        }
        let (epoch, salt) = name.strip_prefix("segment-")?.split_once('-')?;
        let epoch = u64::try_from(hex(epoch, 16)?).ok()?;
        Some(Self::Segment { epoch, salt: hex(salt, 32)?.to_be_bytes() })
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_plain = text.len() == digits && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_plain.then(|| u128::from_str_radix(text, 16).ok())?
}

pub(super) fn segment_name(epoch: Epoch, salt: &[u8; SALT_BYTES]) -> String {
    format!("segment-{epoch:016x}-{:032x}", u128::from_be_bytes(*salt))
}

pub(super) fn spare_name(number: u64) -> String {
    format!("spare-{number:016x}")
}

/// Brings a segment file into being; see `Operation::Prepare`.
pub(super) fn prepare(
    storage: &mut dyn Storage,
    name: &str,
    spare: Option<u64>,
    bytes: u64,
) -> io::Result<()> {
    match spare {
        Some(spare) => storage.rename(&spare_name(spare), name)?,
        None => {
            if let Err(error) = storage.create(name, bytes) {
                // Best effort: give the space back; the next start clears away what is left.
                drop(storage.remove(name));
                return Err(error);
            }
        }
    }
    storage.sync_directory()
}

/// Takes a segment file out of the log; see `Operation::Free`.
pub(super) fn free(storage: &mut dyn Storage, name: &str, spare: Option<u64>) -> io::Result<()> {
    match spare.map(spare_name) {
        None => storage.remove(name)?,
        Some(spare) => match storage.rename(name, &spare) {
            // An earlier try got that far.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                storage.length(&spare)?;
            }
            result => result?,
        },
    }
    storage.sync_directory()
}

/// A log's directory on a real file system.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Creates the directory (readable by the owner only) if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { path: path.to_owned() })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Bytes that an unprivileged process may still allocate.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether the file system forgets everything at power-off.
    pub(super) fn is_volatile(&self) -> io::Result<bool> {
        let kind = rustix::fs::statfs(&self.path)?.f_type;
        let kind = u64::try_from(kind).unwrap_or(0);
        Ok(matches!(kind, TMPFS_MAGIC | RAMFS_MAGIC))
    }

    /// Takes the lock that keeps two processes off one log.
    pub(super) fn lock(&self) -> io::Result<Result<Lock, Option<u32>>> {
        let path = self.path(LOCK);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Err(holder(&file))),
            Err(error) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.write_all_at(std::process::id().to_string().as_bytes(), 0)?;
        Ok(Ok(Lock { _file: file }))
    }

    /// Removes the directory with all it holds, durably. For adopted logs only.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        let quarantine = self.path(QUARANTINE);
        if quarantine.is_dir() && fs::read_dir(&quarantine)?.next().is_some() {
            // Evidence is not thrown away: only what the log itself owns goes.
            return self.remove_log_files();
        }
        fs::remove_dir_all(&self.path)?;
        self.sync_parent()
    }

    fn remove_log_files(&self) -> io::Result<()> {
        let mut storage = self.clone();
        for name in storage.list()? {
            if Name::parse(&name).is_some() {
                storage.remove(&name)?;
            }
        }
        storage.sync_directory()
    }

    fn sync_parent(&self) -> io::Result<()> {
        match self.path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn holder(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let bytes = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..bytes]).ok()?.trim().parse().ok()
}

/// Held for as long as the log is open; the kernel lets go of it with the process.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Storage for Directory {
    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn length(&mut self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = File::open(self.path(name))?;
        let mut done = 0;
        while done < buffer.len() {
            match file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path(name))?.write_all_at(bytes, offset)
    }

    fn flush(&mut self, name: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path(name))?.sync_data()
    }

    fn create(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path(name))?;
        reserve(&file, bytes)?;
        let zeros = vec![0; ZERO_BYTES];
        let mut offset = 0;
        while offset < bytes {
            let piece = usize::try_from(bytes - offset).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
            file.write_all_at(&zeros[..piece], offset)?;
            offset += piece as u64;
        }
        file.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn preserve(&mut self, name: &str) -> io::Result<()> {
        let aside = self.path(QUARANTINE);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&aside)?;
        let target = aside.join(name);
        match fs::hard_link(self.path(name), &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // No hard links here: copy.
            Err(_) => {
                fs::copy(self.path(name), &target)?;
            }
        }
        File::open(&aside)?.sync_all()
    }
}

/// Preallocates, so that a full disk is noticed now and not in the middle of a group.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file.as_fd(), FallocateFlags::empty(), 0, bytes) {
        // The zeros that follow allocate as well.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The system's clocks.
pub(super) struct SystemClock {
    started: std::time::Instant,
}

impl SystemClock {
    pub(super) fn new() -> Self {
        Self { started: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Now { monotonic_ms: millis(self.started.elapsed()), unix_ms: millis(since_epoch) }
    }
}

/// Milliseconds; saturates after half a billion years.
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const _: () = assert!(ZERO_BYTES.is_multiple_of(PAGE_BYTES));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_others_are_not_ours() {
        let salt = [0xA5; SALT_BYTES];
        let name = segment_name(7, &salt);
        assert_eq!(Name::parse(&name), Some(Name::Segment { epoch: 7, salt }));
        assert_eq!(Name::parse(&spare_name(3)), Some(Name::Spare(3)));
        for other in ["lock", "quarantine", "segment-7", "spare-", "spare-+000000000000003", ""] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_lock_names_its_holder() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::open(&folder.path().join("core-0")).expect("created");
        let held = directory.lock().expect("lockable").expect("free");
        let refused = directory.lock().expect("lockable").expect_err("held");
        assert_eq!(refused, Some(std::process::id()));
        drop(held);
        drop(directory.lock().expect("lockable").expect("free again"));
    }

    #[test]
    fn a_free_may_be_asked_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut directory = Directory::open(folder.path()).expect("there");
        directory.create("segment-x", 8192).expect("created");
        free(&mut directory, "segment-x", Some(1)).expect("renamed");
        free(&mut directory, "segment-x", Some(1)).expect("was done");
        assert_eq!(directory.length(&spare_name(1)).expect("there"), 8192);
        assert!(free(&mut directory, "segment-x", Some(2)).is_err());
        free(&mut directory, "segment-x", None).expect("nothing to remove");
    }
}

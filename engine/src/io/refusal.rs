//! Why io_uring is not used, in one line an operator can act on.

use std::{error, fmt, fs, io};

const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// What refused io_uring (or, rarely, the memory that either driver needs).
#[derive(Debug)]
pub struct IoRefused {
    cause: RefusalCause,
    error: io::Error,
}

/// What stands in the way, as far as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalCause {
    /// The kernel has no io_uring (`ENOSYS`), or one older than 6.1.
    KernelTooOld,
    /// The sysctl `kernel.io_uring_disabled` has this value, 1 or 2.
    Disabled(u8),
    /// `EPERM` without the sysctl: a seccomp filter or another security module.
    Filtered,
    /// Memory, locked memory or descriptors did not suffice.
    Resources,
    /// Something else; the error has what is known.
    Other,
}

impl IoRefused {
    /// Reads the cause out of what `io_uring_setup` or a registration returned.
    pub(super) fn from_ring(error: io::Error) -> Self {
        let sysctl = fs::read_to_string(SYSCTL).ok().and_then(|text| text.trim().parse().ok());
        Self { cause: cause_of(&error, sysctl), error }
    }

    /// The memory both drivers need was refused.
    pub(super) fn memory(error: io::Error) -> Self {
        Self { cause: RefusalCause::Resources, error }
    }

    /// What stands in the way.
    pub fn cause(&self) -> RefusalCause {
        self.cause
    }
}

fn cause_of(error: &io::Error, sysctl: Option<u8>) -> RefusalCause {
    match (error.raw_os_error(), sysctl) {
        (Some(libc::EPERM), Some(value @ 1..)) => RefusalCause::Disabled(value),
        (Some(libc::EPERM | libc::EACCES), _) => RefusalCause::Filtered,
        (Some(libc::ENOSYS | libc::EINVAL), _) => RefusalCause::KernelTooOld,
        (Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::EAGAIN), _) => {
            RefusalCause::Resources
        }
        _ => RefusalCause::Other,
    }
}

impl fmt::Display for IoRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = &self.error;
        match self.cause {
            RefusalCause::KernelTooOld => write!(
                f,
                "io_uring refused by the kernel ({error}): it needs Linux 6.1 or later; \
                 upgrade, or set io = \"epoll\""
            ),
            RefusalCause::Disabled(value) => write!(
                f,
                "io_uring refused by sysctl kernel.io_uring_disabled = {value} ({error}): run \
                 `sysctl -w kernel.io_uring_disabled=0`{}, or set io = \"epoll\"",
                if value == 1 { " or join the kernel.io_uring_group" } else { "" }
            ),
            RefusalCause::Filtered => write!(
                f,
                "io_uring refused by a security filter ({error}): allow io_uring_setup, \
                 io_uring_enter and io_uring_register in the container's seccomp profile, or set \
                 io = \"epoll\""
            ),
            RefusalCause::Resources => write!(
                f,
                "memory or descriptors for I/O refused ({error}): raise the limits on memory, locked \
                 memory and open files (LimitMEMLOCK, LimitNOFILE), or lower the configured sizes"
            ),
            RefusalCause::Other => {
                write!(f, "io_uring refused ({error}); set io = \"epoll\" to do without")
            }
        }
    }
}

impl error::Error for IoRefused {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(errno: i32, sysctl: Option<u8>) -> String {
        let error = io::Error::from_raw_os_error(errno);
        IoRefused { cause: cause_of(&error, sysctl), error }.to_string()
    }

    #[test]
    fn each_refusal_is_one_line_that_names_the_remedy() {
        let cases = [
            (libc::ENOSYS, Some(0), "Linux 6.1"),
            (libc::ENOSYS, None, "Linux 6.1"),
            (libc::EINVAL, Some(0), "Linux 6.1"),
            (libc::EPERM, Some(2), "kernel.io_uring_disabled = 2"),
            (libc::EPERM, Some(1), "kernel.io_uring_group"),
            (libc::EPERM, Some(0), "seccomp"),
            (libc::EPERM, None, "seccomp"),
            (libc::ENOMEM, Some(0), "LimitMEMLOCK"),
            (libc::EIO, Some(0), "io = \"epoll\""),
        ];
        for (errno, sysctl, expected) in cases {
            let line = line(errno, sysctl);
            assert!(line.contains(expected), "{line}");
            assert!(!line.contains('\n') && line.contains("refused"), "{line}");
        }
    }
}

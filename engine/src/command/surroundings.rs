//! The machine a configuration is checked against.

use std::path::Path;

use jiff::Timestamp;

use crate::config::{BadIdentity, Surroundings};
use crate::io::tls::{Identity, read_certificates};

/// This machine.
pub(super) fn surroundings() -> Surroundings {
    Surroundings { cores, is_volatile, identity, certificates }
}

/// The CPUs this process may run on.
fn cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// Whether the nearest existing folder lies in memory.
fn is_volatile(path: &Path) -> bool {
    let Some(existing) = path.ancestors().find(|folder| folder.exists()) else { return false };
    rustix::fs::statfs(existing)
        .is_ok_and(|found| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&i128::from(found.f_type)))
}

fn identity(certificate: &Path, key: &Path) -> Result<Vec<String>, BadIdentity> {
    match Identity::load(certificate, key) {
        Ok(identity) => {
            let warnings = identity.warnings(Timestamp::now());
            Ok(warnings.iter().map(ToString::to_string).collect())
        }
        Err(error) => Err(BadIdentity {
            in_key: error.file == key && error.file != certificate,
            problem: error.problem.to_string(),
        }),
    }
}

fn certificates(file: &Path) -> Result<(), String> {
    read_certificates(file).map(drop).map_err(|error| error.problem.to_string())
}

/// linux/magic.h
const TMPFS_MAGIC: i128 = 0x0102_1994;
const RAMFS_MAGIC: i128 = 0x8584_58f6;

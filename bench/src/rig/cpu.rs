//! CPU time and memory of processes, as `/proc` tells.
//!
//! A process counts with all its threads, io_uring's workers among them, and with its children,
//! also those that have ended. Threads are read in nanoseconds (`schedstat`); what has ended is
//! known to 10 ms only.

use std::collections::HashMap;
use std::fs;
use std::io;

/// `utime` and its like in `/proc/PID/stat` are in ticks of 10 ms on every Linux of today.
const TICK_NS: u64 = 10_000_000;

/// A process and its descendants.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// The root's process id.
    pub pid: u32,
}

/// The fields of `/proc/PID/stat` that matter here.
struct Stat {
    parent: u32,
    own_ns: u64,
    ended_children_ns: u64,
}

impl Tree {
    /// CPU time so far, in nanoseconds.
    ///
    /// # Errors
    /// When the root is gone.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        let stats = all_stats();
        if !stats.contains_key(&self.pid) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the server has ended"));
        }
        let members = descendants(&stats, self.pid);
        Ok(members.into_iter().map(|pid| cpu_of(pid, &stats[&pid])).sum())
    }

    /// The processes of it, the root first.
    pub fn members(&self) -> Vec<u32> {
        descendants(&all_stats(), self.pid)
    }

    /// Runs `work`; returns the CPU time that the processes used meanwhile, in nanoseconds, and what
    /// `work` returned.
    ///
    /// # Errors
    /// As [`Self::cpu_ns`], and those of `work`.
    pub fn cost_of<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(f64, T)> {
        let before = self.cpu_ns()?;
        let outcome = work()?;
        let used = self.cpu_ns()?.saturating_sub(before);
        #[allow(clippy::cast_precision_loss, reason = "a figure for people, far below 2^52")]
        Ok((used as f64, outcome))
    }
}

/// The calling thread's CPU time while it does `work`, in nanoseconds.
pub fn thread_cost_ns(work: impl FnOnce()) -> f64 {
    let now = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let before = now();
    work();
    let after = now();
    #[allow(clippy::cast_precision_loss, reason = "a figure for people, far below 2^52")]
    let nanos =
        ((after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec) as f64;
    nanos
}

/// CPU time of the calling process so far, all threads, in nanoseconds.
pub fn own_cpu_ns() -> u64 {
    threads_ns(std::process::id())
}

/// Memory of a process in RAM, in KiB: `VmRSS`.
///
/// # Errors
/// When the process is gone.
pub fn resident_kib(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no VmRSS"))
}

fn cpu_of(pid: u32, stat: &Stat) -> u64 {
    // Threads that have ended are in the ticks only.
    threads_ns(pid).max(stat.own_ns) + stat.ended_children_ns
}

fn threads_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let on_cpu = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(on_cpu).sum()
}

fn all_stats() -> HashMap<u32, Stat> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, Stat::parse(&text)?))
        })
        .collect()
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may hold anything, parentheses too.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own_ns: (ticks(11)? + ticks(12)?) * TICK_NS,
            ended_children_ns: (ticks(13)? + ticks(14)?) * TICK_NS,
        })
    }
}

fn descendants(stats: &HashMap<u32, Stat>, root: u32) -> Vec<u32> {
    let mut members = vec![root];
    let mut at = 0;
    while let Some(&parent) = members.get(at) {
        members.extend(stats.iter().filter(|(_, stat)| stat.parent == parent).map(|(&pid, _)| pid));
        at += 1;
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read_past() {
        let text = "12 (a) b) S 7 0 0 0 0 0 0 0 0 0 3 4 5 6 20 0 1 0";
        let stat = Stat::parse(text).expect("a line of stat");
        assert_eq!(stat.parent, 7);
        assert_eq!(stat.own_ns, 7 * TICK_NS);
        assert_eq!(stat.ended_children_ns, 11 * TICK_NS);
    }

    #[test]
    fn own_work_is_seen() {
        let tree = Tree { pid: std::process::id() };
        let spin = || {
            let mut sum = 0_u64;
            for number in 0..20_000_000_u64 {
                sum = std::hint::black_box(sum.wrapping_add(number));
            }
            Ok(())
        };
        let (cost, ()) = tree.cost_of(spin).expect("this process lives");
        assert!(cost > 1e5, "{cost} ns");
        assert!(resident_kib(std::process::id()).expect("this process lives") > 100);
    }
}

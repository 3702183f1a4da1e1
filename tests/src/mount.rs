//! Small file systems for a relay to run out of, to be cut off from, and to get errors from.
//!
//! Each is unmounted when dropped. All but FUSE need root; where the kernel or the tools are
//! missing, the test is skipped with the reason.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::tool;

/// A mounted file system of our own.
pub struct Mount {
    home: TempDir,
    /// How to mount it again: the arguments of `mount` before the mount point.
    arguments: Vec<String>,
    server: Option<Child>,
}

impl Mount {
    /// XFS in a sparse file on a loop device. 300 MiB is the least that `mkfs.xfs` makes.
    pub fn xfs(mib: u64) -> Option<Self> {
        Self::on_loop("xfs", &["mkfs.xfs", "xfs_io"], &["-q"], mib.max(300))
    }

    /// ext4 in a sparse file on a loop device, with nothing reserved for root.
    pub fn ext4(mib: u64) -> Option<Self> {
        Self::on_loop("ext4", &["mkfs.ext4"], &["-q", "-m", "0", "-F"], mib)
    }

    /// tmpfs.
    pub fn tmpfs(mib: u64) -> Option<Self> {
        if !tool::is_root() {
            return None;
        }
        let options = ["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"];
        let mount = Self::new(options.map(str::to_owned).to_vec());
        mount.mount().then_some(mount)
    }

    /// A pass-through of a folder beside it, with errors that can be switched on.
    pub fn faulty() -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            tool::skip("fuse", "no /dev/fuse");
            return None;
        }
        if !tool::is_root() || !tool::have_python(&["fuse"]) {
            return None;
        }
        let mut mount = Self::new(Vec::new());
        fs::create_dir(mount.home.path().join("below")).expect("our folder");
        mount.set_fault("");
        let log = File::create(mount.home.path().join("faultfs.log")).expect("our folder");
        let mut command = Command::new("python3");
        command.arg(tool::script("crash/faultfs.py"));
        command.arg(mount.home.path().join("below")).arg(mount.path());
        command.arg(mount.fault_file());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        mount.server = Some(command.spawn().expect("python3 starts"));
        let is_mounted = crate::ledger::wait_until(20, || mount.is_mounted());
        assert!(is_mounted, "{}", mount.server_log());
        Some(mount)
    }

    fn on_loop(kind: &str, tools: &[&str], options: &[&str], mib: u64) -> Option<Self> {
        if !tool::is_root() || !tool::have(&["mount"]) || !tool::have(tools) {
            return None;
        }
        let mut mount = Self::new(Vec::new());
        let image = mount.home.path().join("image");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("our folder");
        let mut make = Command::new(tool::find(tools[0]).expect("looked up before"));
        tool::run(make.args(options).arg(&image), b"", 60).expect_success();
        let image = image.to_string_lossy().into_owned();
        mount.arguments = ["-t", kind, "-o", "loop", &image].map(str::to_owned).to_vec();
        mount.mount().then_some(mount)
    }

    fn new(arguments: Vec<String>) -> Self {
        let home = tempfile::Builder::new().prefix("postern-mount-").tempdir().expect("a folder");
        fs::create_dir(home.path().join("mnt")).expect("our folder");
        Self { home, arguments, server: None }
    }

    /// The mount point.
    pub fn path(&self) -> PathBuf {
        self.home.path().join("mnt")
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let own = format!(" {} ", self.path().display());
        mounts.lines().any(|line| line.contains(&own))
    }

    /// Mounts; where the kernel cannot, says so.
    fn mount(&self) -> bool {
        let mut command = Command::new(tool::find("mount").unwrap_or_else(|| "mount".into()));
        let ran = tool::run(command.args(&self.arguments).arg(self.path()), b"", 60);
        if !ran.success {
            tool::skip("mount", &format!("mount {:?}: {}", self.arguments, ran.err.trim()));
        }
        ran.success
    }

    fn unmount(&self) {
        let mut command = Command::new(tool::find("umount").unwrap_or_else(|| "umount".into()));
        command.arg(self.path());
        // The kernel ends a killed process's ring in its own time, and the ring holds files open.
        let is_off = crate::ledger::wait_until(10, || tool::run(&mut command, b"", 60).success);
        assert!(is_off, "{} stays busy", self.path().display());
    }

    /// Cuts XFS off from its device without writing its log: what was not flushed is gone.
    ///
    /// # Panics
    ///
    /// When the file system does not go down.
    #[track_caller]
    pub fn shut_down(&self) {
        let mut command = Command::new(tool::find("xfs_io").expect("looked up before"));
        tool::run(command.args(["-x", "-c", "shutdown"]).arg(self.path()), b"", 20)
            .expect_success();
    }

    /// Unmounts and mounts again, which replays what log there is.
    ///
    /// # Panics
    ///
    /// When either fails.
    #[track_caller]
    pub fn remount(&self) {
        self.unmount();
        assert!(self.mount(), "the file system does not come back");
    }

    fn fault_file(&self) -> PathBuf {
        self.home.path().join("fault")
    }

    /// Switches the faults of a faulty mount: words such as `fsync=EIO`, `write=ENOSPC`,
    /// `delay=0.5`; none for none.
    ///
    /// # Panics
    ///
    /// When the switch cannot be written.
    pub fn set_fault(&self, words: &str) {
        let new = self.home.path().join("fault.new");
        fs::write(&new, words).expect("our folder");
        fs::rename(new, self.fault_file()).expect("our folder");
    }

    /// What the pass-through's process printed.
    pub fn server_log(&self) -> String {
        fs::read_to_string(self.home.path().join("faultfs.log")).unwrap_or_default()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted() {
            let umount = tool::find("umount").unwrap_or_else(|| "umount".into());
            // A relay that was just killed may hold files for a moment: detach then.
            let plain = Command::new(&umount).arg(self.path()).output();
            if !plain.is_ok_and(|ran| ran.status.success()) {
                std::thread::sleep(Duration::from_millis(200));
                Command::new(&umount).arg("-l").arg(self.path()).output().ok();
            }
        }
        if let Some(mut server) = self.server.take() {
            if !tool::wait(&mut server, 5) {
                server.kill().ok();
            }
            server.wait().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[test]
    fn faults_strike_flushes_and_synchronous_writes() {
        let Some(mount) = Mount::faulty() else { return };
        let open = |flags: i32| {
            let mut options = File::options();
            options.create(true).truncate(true).write(true).custom_flags(flags);
            options.open(mount.path().join("file")).expect("a file")
        };
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).expect("a flag");
        let dsync = i32::try_from(rustix::fs::OFlags::DSYNC.bits()).expect("a flag");
        let mut plain = open(0);
        let mut synchronous = open(dsync);
        let page = vec![7; 4_096];
        plain.write_all(&page).and_then(|()| plain.sync_data()).expect("no fault yet");
        synchronous.write_all(&page).expect("no fault yet");
        mount.set_fault("fsync=EIO");
        plain.write_all(&page).expect("only fsync fails");
        assert_eq!(plain.sync_data().map_err(|why| why.raw_os_error()), Err(Some(5)));
        assert_eq!(synchronous.write_all(&page).map_err(|why| why.raw_os_error()), Err(Some(5)));
        mount.set_fault("write=ENOSPC");
        assert_eq!(plain.write_all(&page).map_err(|why| why.raw_os_error()), Err(Some(28)));
        mount.set_fault("");
        plain.write_all(&page).and_then(|()| plain.sync_data()).expect("no fault any more");
        // The kernel passes O_DIRECT through FUSE; the errors then come back unchanged too.
        drop(open(direct | dsync));
    }

    #[test]
    fn a_power_cut_loses_what_was_not_flushed() {
        let Some(mount) = Mount::xfs(300) else { return };
        let write = |name: &str, is_flushed: bool| {
            let mut file = File::create(mount.path().join(name)).expect("a file");
            file.write_all(b"content").expect("space");
            if is_flushed {
                file.sync_all().expect("no fault");
                File::open(mount.path()).and_then(|folder| folder.sync_all()).expect("no fault");
            }
        };
        write("kept", true);
        write("gone", false);
        mount.shut_down();
        mount.remount();
        assert_eq!(fs::read(mount.path().join("kept")).expect("flushed"), b"content");
        assert_ne!(fs::read(mount.path().join("gone")).unwrap_or_default(), b"content");
    }

    #[test]
    fn small_file_systems_are_small() {
        for mount in [Mount::ext4(8), Mount::tmpfs(8)].into_iter().flatten() {
            let mut file = File::create(mount.path().join("file")).expect("a file");
            let full = (0..16).find_map(|_| file.write_all(&vec![1; 1 << 20]).err());
            assert_eq!(full.and_then(|why| why.raw_os_error()), Some(28));
        }
    }
}

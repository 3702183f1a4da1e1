"""A FUSE pass-through whose system calls can be made to fail.

    faultfs.py BELOW MOUNTPOINT SWITCH

The file SWITCH holds words: `fsync=EIO`, `write=ENOSPC`, `create=ENOSPC`, `delay=SECONDS`. It is
read anew before every call. A fault of fsync also strikes the end of a write to a file that was
opened with O_SYNC or O_DSYNC: the kernel leaves those to the file system here.
"""

import errno
import os
import sys
import time

from fuse import FUSE, FuseOSError, Operations

DIRECT = getattr(os, "O_DIRECT", 0)
SYNC = os.O_SYNC | os.O_DSYNC


class FaultFs(Operations):
    def __init__(self, below, switch):
        self.below = below
        self.switch = switch
        self.synchronous = set()

    def at(self, path):
        return os.path.join(self.below, path.lstrip("/"))

    def strike(self, call):
        """Raises the error that the switch has for this call, if any."""
        with open(self.switch) as switch:
            faults = dict(word.split("=", 1) for word in switch.read().split())
        if "delay" in faults and call in ("write", "fsync"):
            time.sleep(float(faults["delay"]))
        if call in faults:
            raise FuseOSError(getattr(errno, faults[call]))

    # Names

    def getattr(self, path, fh=None):
        found = os.lstat(self.at(path))
        names = ("st_atime", "st_ctime", "st_mtime", "st_gid", "st_uid", "st_mode", "st_nlink",
                 "st_size", "st_blocks", "st_blksize")
        return {name: getattr(found, name) for name in names}

    def access(self, path, mode):
        if not os.access(self.at(path), mode):
            raise FuseOSError(errno.EACCES)

    def readdir(self, path, fh):
        return [".", ".."] + os.listdir(self.at(path))

    def readlink(self, path):
        return os.readlink(self.at(path))

    def mkdir(self, path, mode):
        self.strike("create")
        os.mkdir(self.at(path), mode)

    def mknod(self, path, mode, dev):
        os.mknod(self.at(path), mode, dev)

    def rmdir(self, path):
        os.rmdir(self.at(path))

    def unlink(self, path):
        os.unlink(self.at(path))

    def rename(self, old, new):
        os.rename(self.at(old), self.at(new))

    def link(self, target, name):
        os.link(self.at(name), self.at(target))

    def symlink(self, name, target):
        os.symlink(target, self.at(name))

    def chmod(self, path, mode):
        os.chmod(self.at(path), mode)

    def chown(self, path, uid, gid):
        os.chown(self.at(path), uid, gid, follow_symlinks=False)

    def utimens(self, path, times=None):
        os.utime(self.at(path), times)

    def statfs(self, path):
        found = os.statvfs(self.at(path))
        names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files",
                 "f_flag", "f_frsize", "f_namemax")
        return {name: getattr(found, name) for name in names}

    # Files. What is written here need not be aligned, so O_DIRECT is not passed on.

    def open(self, path, fi):
        return self.opened(fi, os.open(self.at(path), fi.flags & ~DIRECT))

    def create(self, path, mode, fi):
        self.strike("create")
        return self.opened(fi, os.open(self.at(path), (fi.flags & ~DIRECT) | os.O_CREAT, mode))

    def opened(self, fi, fh):
        # The flags of a write are not those of the open, so what matters of them is kept.
        if fi.flags & SYNC:
            self.synchronous.add(fh)
        fi.fh = fh
        return 0

    def read(self, path, size, offset, fi):
        return os.pread(fi.fh, size, offset)

    def write(self, path, data, offset, fi):
        self.strike("write")
        written = os.pwrite(fi.fh, data, offset)
        if fi.fh in self.synchronous:
            self.strike("fsync")
        return written

    def truncate(self, path, length, fi=None):
        os.truncate(self.at(path), length)

    def flush(self, path, fi):
        return 0

    def release(self, path, fi):
        self.synchronous.discard(fi.fh)
        os.close(fi.fh)
        return 0

    def fsync(self, path, datasync, fi):
        self.strike("fsync")
        os.fsync(fi.fh)
        return 0

    def fsyncdir(self, path, datasync, fh):
        self.strike("fsync")
        return 0


def main():
    below, mountpoint, switch = sys.argv[1:4]
    FUSE(FaultFs(below, switch), mountpoint, raw_fi=True, foreground=True, nothreads=True,
         allow_other=True, default_permissions=True, big_writes=True)


main()

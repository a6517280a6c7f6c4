"""A small ext4 on a loop device, whose power can be cut: what isn't on the device then is lost.

`EXT4_IOC_SHUTDOWN` takes the file system away at once; mounting it again replays its journal, as after a real cut. What
a device's own cache loses can't be shown here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Iterator

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), of fs/ext4/ext4.h
_FLUSH_LOG, _DROP_LOG = 1, 2
_NEEDS = ("mkfs.ext4", "mount", "umount")


class Disk:
    """An image of a file system and where it is mounted; `folder` is there between `mount` and `unmount`."""

    def __init__(self, work: Path, nbytes: int) -> None:
        self.image, self.folder = work / "image", work / "disk"
        self._nbytes = nbytes
        self.folder.mkdir()

    def format(self) -> None:
        """Makes it empty; it isn't mounted then."""
        with self.image.open("wb") as file:
            file.truncate(self._nbytes)
        _run("mkfs.ext4", "-q", "-F", str(self.image))

    def mount(self) -> None:
        """Raises RuntimeError if that isn't possible here."""
        _run("mount", "-o", "loop", str(self.image), str(self.folder))

    def cut_power(self, flushes_log: bool) -> None:
        """Takes it away from all that use it; with the journal's newest entries written first, or not."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _FLUSH_LOG if flushes_log else _DROP_LOG))
        finally:
            os.close(handle)

    def unmount(self) -> None:
        """Waits until nobody uses it, for some seconds at most."""
        for _ in range(100):
            done = subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)
            if done.returncode == 0 or not os.path.ismount(self.folder):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.folder} can't be unmounted: {done.stderr.decode().strip()}")


def missing() -> str:
    """Why there can be no such disk here, "" if there can."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [program for program in _NEEDS if shutil.which(program) is None]
    return f"needs {', '.join(lacking)}" if lacking else ""


@contextlib.contextmanager
def new_disk(mebibytes: int = 96) -> Iterator[Disk]:
    """A disk that is gone behind the block."""
    work = Path(tempfile.mkdtemp(prefix="edge-runtime-disk-"))
    disk = Disk(work, mebibytes << 20)
    try:
        yield disk
    finally:
        with contextlib.suppress(RuntimeError):
            disk.unmount()
        shutil.rmtree(work, ignore_errors=True)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stderr.strip() or done.stdout.strip()}")

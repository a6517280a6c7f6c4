"""What is left of processes, by /proc."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path


def wait_until_gone(pid: int, timeout_s: float = 10.0) -> None:
    """Returns when a process is no more, or is a zombie that its parent may reap."""
    end = time.monotonic() + timeout_s
    while _state(pid) not in ("", "Z"):
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.005)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children_of(pid: int) -> list[int]:
    """The processes that one has started and that haven't ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.name))
    return found


def descriptor_count() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))

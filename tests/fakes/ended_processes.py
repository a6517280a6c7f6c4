"""What is left of processes, by /proc."""

from __future__ import annotations

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


def descriptor_count() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))

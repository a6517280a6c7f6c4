"""Which process wrote something, and whether it still runs: a number alone comes back, after a restart or sooner."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from edge_runtime.device.files import text_of, whole_number

_START_FIELD = 22  # of /proc/PID/stat, counted from 1; the second one may hold blanks


@dataclass(frozen=True)
class ProcessIdentity:
    """A process by its number, the clock ticks after boot at which it began, the boot, and who counts its number."""

    pid: int
    start_ticks: int | None
    boot_id: str
    pid_namespace: str


def own_process(root: Path = Path("/")) -> ProcessIdentity:
    """This process."""
    pid = os.getpid()
    return ProcessIdentity(pid, _start_ticks(root, pid), _boot_id(root), _pid_namespace(root))


def is_alive(
    process: ProcessIdentity, root: Path = Path("/"), signal: Callable[[int, int], None] = os.kill
) -> bool | None:
    """Whether a process still runs; None for one of another container, which can't be seen from here.

    Where /proc hides what other users run, that there is one of its number has to do.
    """
    if process.boot_id != _boot_id(root):
        return False
    if process.pid_namespace != _pid_namespace(root):
        return None
    ticks = _start_ticks(root, process.pid)
    if ticks is not None:
        return process.start_ticks in (None, ticks)
    try:
        signal(process.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _boot_id(root: Path) -> str:
    return text_of(root / "proc/sys/kernel/random/boot_id").strip()


def _pid_namespace(root: Path) -> str:
    try:
        return os.readlink(root / "proc/self/ns/pid")
    except OSError:
        return ""


def _start_ticks(root: Path, pid: int) -> int | None:
    fields = text_of(root / f"proc/{pid}/stat").rpartition(")")[2].split()
    position = _START_FIELD - 3  # what follows the name begins with the third
    return whole_number(fields[position]) if len(fields) > position else None

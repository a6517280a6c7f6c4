"""What a process has in memory is kept off the disk when it crashes."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """No core dump of this process is written any more, whatever the kernel gives it to; idempotent.

    Its children make none either, unless the kernel pipes them into a program that takes them regardless of limits.
    Debuggers of this user can't look into the process from then on.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)

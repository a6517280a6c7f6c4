"""How an engine's process ended, in words and as metrics count it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Sequence

from edge_runtime.engine.process.served_engine import EXIT_DEVICE_LOST

REASONS = ("crashed", "killed", "device_lost", "exited", "load_failed")
"""Ended by a signal of its own doing, or by SIGKILL; it lost the GPU; it ended by itself; its plan can't be loaded."""


@dataclass(frozen=True)
class Death:
    """The end of a process: one of `REASONS`, and what to say of it."""

    reason: str
    text: str


def death_from(status: int | None, last_lines: Sequence[str]) -> Death:
    """What an exit status means (negative: a signal; None: it doesn't end), with the last lines that it printed."""
    said = " | ".join(line for line in last_lines if line)[-500:]
    tail = f" ({said})" if said else ""
    if status is None:
        return Death("exited", f"doesn't end, even by SIGKILL, and was left behind{tail}")
    if status == EXIT_DEVICE_LOST:
        return Death("device_lost", f"lost the GPU{tail}")
    if status >= 0:
        return Death("exited", f"ended with status {status}{tail}")
    name = _signal_name(-status)
    if -status == signal.SIGKILL:
        return Death("killed", f"was ended by {name}, by somebody or for want of memory{tail}")
    return Death("crashed", f"was ended by {name}{tail}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

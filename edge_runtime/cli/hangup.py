"""SIGHUP of a server that isn't ready: a wish to read files anew, or a terminal that is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Callable


class HeldHangup:
    """A handler that takes note of the signal alone."""

    def __init__(self) -> None:
        self.has_come = False

    def __call__(self, *_: object) -> None:
        """Called by the interpreter."""
        self.has_come = True


def hold_hangups() -> None:
    """Lets SIGHUP end nothing from here on, for it is a service manager's word to reload, which may come early.

    One that this process was started to ignore stays ignored.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, HeldHangup())
        signal.siginterrupt(signal.SIGHUP, False)


def early_hangup() -> Callable[[], bool]:
    """What says whether SIGHUP has come while it was held, even once another handler has taken over."""
    held = signal.getsignal(signal.SIGHUP)
    return lambda: isinstance(held, HeldHangup) and held.has_come


def release_hangups() -> None:
    """Lets SIGHUP end this process again, or at once if it has come, where that is the end of its terminal."""
    held = signal.getsignal(signal.SIGHUP)
    if isinstance(held, HeldHangup) and _has_terminal():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if held.has_come:
            signal.raise_signal(signal.SIGHUP)


def _has_terminal() -> bool:
    """Whether this process is one of a terminal, whose end the kernel tells by SIGHUP."""
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    return False

"""SIGINT, SIGTERM and SIGHUP as an exception, so that child processes end and work folders go on the way out."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Iterator, Optional

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Interruption:
    """Which signal came, if one did; what the verb raised after that is a consequence of it."""

    def __init__(self) -> None:
        self.error: Optional[Interrupted] = None

    def interrupt(self, number: int, _: Optional[FrameType] = None) -> None:
        """Raises Interrupted. After the first, only Ctrl-C does: cleaning up takes a moment."""
        if self.error is None:
            self.error = Interrupted(number)
        elif number != signal.SIGINT:
            return
        raise self.error


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Handles the signals for the length of the block; one that this process was started to ignore stays ignored."""
    interruption = Interruption()
    is_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in _SIGNALS if is_main and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interruption.interrupt) for number in taken}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

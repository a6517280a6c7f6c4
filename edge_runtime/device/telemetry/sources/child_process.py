"""A child that prints lines to a terminal of its own, so that it prints each at once; it dies with this process."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import List, Sequence

from edge_runtime.device.files import printable

# Runs in a fresh interpreter between fork and exec, where nothing of this process's threads can be in the way. The
# kernel then ends the child with the thread that started it, and so with this process however that ends.
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(125)
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]} can't be run ({error.strerror})")
"""
_CHUNK = 64 << 10
_MOST_AT_ONCE = 4 * _CHUNK
_LONGEST_LINE = 64 << 10
_ERROR_TAIL = 4 << 10
_SHOWN = 300
_PATIENCE_S = 0.5
_POLL_S = 0.05


class LineChild:
    """A started child; one thread reads it. What it prints to standard error is kept for `last_words`."""

    def __init__(self, path: Path, arguments: Sequence[str]) -> None:
        """Starts it.

        Raises:
            OSError: no process or terminal can be had.
        """
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(path), *arguments]
        self._master, slave = pty.openpty()
        try:
            os.set_blocking(self._master, False)
            self._process = subprocess.Popen(
                launcher, stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.PIPE, start_new_session=True
            )
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)
        assert self._process.stderr is not None
        self._stderr = self._process.stderr.fileno()
        os.set_blocking(self._stderr, False)
        self._line = b""
        self._is_skipping = False
        self._errors = b""
        self._is_at_end = False
        self._is_closed = False

    def lines(self, timeout_s: float) -> List[str] | None:
        """The whole lines that came, waiting `timeout_s` at most for the first; None when no more will come.

        A line longer than 64 KiB is left out; of a child that floods, at most 256 KiB are taken at once.
        """
        if self._is_at_end:
            return None
        step_s = min(max(0.0, timeout_s), _POLL_S)
        ready, _, _ = select.select([self._master, self._stderr], [], [], step_s)
        if self._stderr in ready:
            self._take_errors()
        if self._master in ready:
            return self._taken()
        if self.has_ended():  # whoever still holds its terminal, it prints no more
            self._is_at_end = True
            return None
        return []

    def has_ended(self) -> bool:
        """Whether the process is gone; what it printed may still wait."""
        return self._process.poll() is not None

    def last_words(self) -> str:
        """How it ended, and the last line of its standard error; ends it if only its output has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)
        self._take_errors()
        text = printable(self._errors.decode(errors="replace").strip().rpartition("\n")[2])[:_SHOWN]
        status = self._process.returncode
        if status is None:
            how = "closed its output"
        elif status < 0:
            how = f"was ended by {_signal_name(-status)}"
        else:
            how = f"ended with exit status {status}"
        return f"{how}: {text}" if text else how

    def close(self) -> None:
        """Ends it and all it started: first asked, then killed; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:  # all of its group are gone
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)
        os.close(self._master)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _taken(self) -> List[str]:
        lines: List[str] = []
        for _ in range(_MOST_AT_ONCE // _CHUNK):
            try:
                part = os.read(self._master, _CHUNK)
            except BlockingIOError:
                return lines
            except OSError:  # EIO: the last writer closed the terminal
                part = b""
            if not part:
                self._is_at_end = True
                return lines
            lines += self._split(part)
        return lines

    def _split(self, part: bytes) -> List[str]:
        *whole, self._line = (self._line + part).split(b"\n")
        if self._is_skipping and whole:
            whole, self._is_skipping = whole[1:], False
        if len(self._line) > _LONGEST_LINE or self._is_skipping:
            self._line, self._is_skipping = b"", True
        return [line.decode(errors="replace").rstrip("\r") for line in whole if len(line) <= _LONGEST_LINE]

    def _take_errors(self) -> None:
        for _ in range(_MOST_AT_ONCE // _CHUNK):
            try:
                part = os.read(self._stderr, _CHUNK)
            except OSError:
                return
            if not part:
                return
            self._errors = (self._errors + part)[-_ERROR_TAIL:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

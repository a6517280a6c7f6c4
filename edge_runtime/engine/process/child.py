"""A process that has an engine's plan, as the engine sees it: started, loaded, and always ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import threading
from collections import deque
from typing import IO, Deque, List, Sequence, Tuple

from edge_runtime.engine.child_process import module_command
from edge_runtime.engine.process.channel import Channel, Frame, Kind
from edge_runtime.engine.process.death import Death, death_from
from edge_runtime.engine.process.link import GoneError, SlotLink, error_from_text
from edge_runtime.tensors import Signature

logger = logging.getLogger(__name__)

COMMAND = module_command("edge_runtime.engine.process.served_engine")

_LAST_LINES = 4
_JOIN_S = 0.5


class EngineChild:
    """A started process. The thread that starts it must outlive it: the process ends with that thread.

    Raises:
        OSError: no process can be had.
    """

    def __init__(self, request: bytes, what: str, command: Sequence[str] = COMMAND) -> None:
        self.what = what
        self._links: List[SlotLink] = []
        self._last_lines: Deque[str] = deque(maxlen=_LAST_LINES)
        ours, theirs = socket.socketpair()
        self._control = Channel(ours)
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,  # libraries write to standard output too, which is not theirs here
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # so that all of it can be ended
            )
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        with contextlib.suppress(OSError):  # it ended already, which `loaded` finds out
            self._control.send(Kind.LOAD, 0, request)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _read(self, output: IO[bytes]) -> None:
        """Passes on what it prints, which is its log."""
        with output:
            for line in output:
                text = line.decode(errors="replace").rstrip()
                self._last_lines.append(text)
                logger.warning("%s, process %d: %s", self.what, self._process.pid, text)

    def loaded(self, signature: Signature) -> Tuple[SlotLink, ...]:
        """Its slots, once it has loaded and warmed the plan.

        Raises:
            GoneError: it ended meanwhile.
            EdgeRuntimeError: it can't load the plan.
        """
        while True:
            frame = self._control.receive()
            if frame is None:
                raise GoneError
            if frame.kind is Kind.FAILED:
                raise error_from_text(frame.head)
            if frame.kind is Kind.LOADED:
                return tuple(self._links)
            self._links.append(_link(frame, signature))

    def wait(self) -> None:
        """Returns when it has ended, or was let go."""
        self._control.receive()

    def let_go(self) -> None:
        """Asks it to end, on any thread; a run that is under way fails."""
        self._control.shut_down()

    def end(self, ask_s: float, kill_s: float) -> Death:
        """Ends it: it is asked, then killed. It ignores SIGTERM, which service managers send to all processes alike."""
        self.let_go()
        for link in self._links:
            link.break_off()
        status = self._waited(ask_s)
        if status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            status = self._waited(kill_s)
        for link in self._links:
            link.retire()
        self._control.close()
        self._reader.join(_JOIN_S)  # something that it started may still have its output
        return death_from(status, list(self._last_lines))

    def _waited(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None


def _link(frame: Frame, signature: Signature) -> SlotLink:
    end, *memory = frame.descriptors
    return SlotLink(Channel(socket.socket(fileno=end)), signature, json.loads(frame.head), memory)

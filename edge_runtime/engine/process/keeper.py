"""Keeps an engine's process there: starts it, notices its end at once, and starts another one."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Callable, Sequence

from edge_runtime.device.monotonic_event import MonotonicEvent
from edge_runtime.engine.process.backoff import Backoff
from edge_runtime.engine.process.child import COMMAND, EngineChild
from edge_runtime.engine.process.death import Death
from edge_runtime.engine.process.link import GoneError
from edge_runtime.engine.process.presence import Presence
from edge_runtime.errors import BackendError, EdgeRuntimeError
from edge_runtime.tensors import Signature

logger = logging.getLogger(__name__)

_MARGIN_S = 1.0


@dataclass(frozen=True)
class KeeperOptions:
    """How long things may take, and what is started.

    `drain_s` is for runs that are under way when the engine is closed, `ask_s` for a process that was asked to end,
    `kill_s` for one that was killed.
    """

    drain_s: float = 10.0
    ask_s: float = 1.0
    kill_s: float = 2.0
    command: Sequence[str] = COMMAND
    backoff: Callable[[], Backoff] = Backoff
    clock: Callable[[], float] = time.monotonic


class Keeper:
    """One process at a time for one plan, kept by a thread of its own; any thread may use it."""

    def __init__(self, request: bytes, signature: Signature, presence: Presence, options: KeeperOptions) -> None:
        self._request = request
        self._signature = signature
        self._presence = presence
        self._what = presence.what
        self._options = options
        self._backoff = options.backoff()
        self._lock = threading.Lock()
        self._closing = MonotonicEvent()
        self._child: EngineChild | None = None
        self._load_s = 1.0
        self._first: Future[None] = Future()
        self._thread = threading.Thread(target=self._keep, name="engine-keeper", daemon=True)

    def start(self) -> None:
        """Returns when the plan is loaded and warmed.

        Raises:
            EdgeRuntimeError: it can't be.
        """
        self._thread.start()
        try:
            self._first.result()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int | None:
        """The process that is there, if one is."""
        child = self._child
        return None if child is None else child.pid

    def break_off(self) -> None:
        """Lets all runs fail that are under way, and keeps no process any more."""
        with self._lock:
            self._closing.set()
            if self._child is not None:
                self._child.let_go()

    def close(self) -> None:
        """Ends the process and the thread, within a bound; idempotent."""
        self.break_off()
        self._thread.join(self._options.ask_s + self._options.kill_s + _MARGIN_S)

    def _keep(self) -> None:
        """The top frame of the thread."""
        try:
            while not self._closing.is_set():
                failure = self._lived()
                if not self._first.done():
                    self._first.set_exception(failure)
                    return
                if self._closing.is_set():
                    return
                delay_s = self._backoff.delay_s()
                again = f"after {delay_s:g} s" if delay_s else "now"
                self._presence.is_away(f"its process has ended, and is started again {again}", delay_s + self._load_s)
                self._closing.wait(delay_s)
        except Exception as error:
            logger.exception("%s: its process isn't kept any more", self._what)
            self._presence.is_away(f"unexpected {type(error).__name__}; restart the server", self._load_s)
        finally:
            if not self._first.done():
                self._first.set_exception(BackendError(f"{self._what}: it was closed before it was loaded"))

    def _lived(self) -> EdgeRuntimeError:
        """One process from its start to its end; why it isn't there any more."""
        started_s = self._options.clock()
        try:
            child = EngineChild(self._request, self._what, self._options.command)
        except OSError as error:
            return self._buried(Death("load_failed", f"can't be started ({error.strerror})"))
        self._take(child)
        failure: EdgeRuntimeError | None = None
        try:
            links = child.loaded(self._signature)
        except GoneError:
            pass
        except EdgeRuntimeError as error:
            failure = error
        else:
            self._load_s = self._options.clock() - started_s
            self._backoff.begun()
            self._presence.serves(links, self._load_s)
            self._say_so()
            child.wait()
        self._presence.is_away("its process has ended", self._load_s)
        death = child.end(self._options.ask_s, self._options.kill_s)
        self._take(None)
        if failure is None:
            return self._buried(death)
        self._buried(Death("load_failed", f"can't load the plan: {failure}"))
        return failure

    def _take(self, child: EngineChild | None) -> None:
        with self._lock:
            self._child = child
            if child is not None and self._closing.is_set():
                child.let_go()

    def _say_so(self) -> None:
        if self._first.done():
            logger.warning("%s: runs again, in another process", self._what)
        else:
            self._first.set_result(None)

    def _buried(self, death: Death) -> EdgeRuntimeError:
        """Counts and logs a death that somebody may wonder at; the first load's is told to who asked for it."""
        if self._first.done() and not self._closing.is_set():
            self._presence.replaced(death.reason)
            logger.error("%s: its process %s; it is replaced", self._what, death.text)
        return BackendError(f"{self._what}: its process {death.text}")

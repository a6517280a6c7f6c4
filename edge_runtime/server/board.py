"""The board that a server runs on, or one that is replayed: sampled beside it, and told as it was last seen."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Deque, Tuple

from edge_runtime.device.power_mode import current_power_mode
from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.device.telemetry.sampler import Sampler
from edge_runtime.device.telemetry.sampling import SamplerStatus
from edge_runtime.device.telemetry.throttling import ThrottleState, ThrottleWatch
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.server.board_log import BoardLog
from edge_runtime.server.conditions import Conditions
from edge_runtime.server.joules import EnergyCounter

if TYPE_CHECKING:
    from edge_runtime.device.telemetry.board import OpenBoard
    from edge_runtime.device.telemetry.source import Source

logger = logging.getLogger(__name__)

_POINTS = 120
_POINT_NS = 900_000_000
_KEPT_SAMPLES = 600
_MODE_NS = 1_000_000_000
_OPENING_NS = 10_000_000_000  # a trial of tegrastats takes 3 s
_JOIN_S = 2.0


@dataclass(frozen=True)
class Point:
    """One point of the lines that the live page draws; `is_throttled`: at any time since the point before."""

    at_ns: int
    power_mw: float | None
    hottest_c: float | None
    is_throttled: bool


@dataclass(frozen=True)
class Seen:
    """What the newest sample told, and what became of all of them."""

    stamped: Stamped
    throttle: ThrottleState
    joules: float | None
    power_mode: str | None
    points: Tuple[Point, ...]


@dataclass(frozen=True)
class BoardReading:
    """What is known of the board at `at_ns`: `seen` is old where `status` says that it is stale.

    Both are None where there is no source, for which `verdicts` say why; `alarm` is why there is nothing fresh.
    """

    at_ns: int
    verdicts: Tuple[Tuple[str, str], ...] = ()
    alarm: str | None = None
    status: SamplerStatus | None = None
    seen: Seen | None = None

    @property
    def fresh(self) -> Seen | None:
        """What may be told as being so now."""
        return None if self.status is None or self.status.is_stale else self.seen


class Watcher:
    """Makes of each sample what is told of the board; used by the sampler's thread.

    Args:
        root: where the board's power mode is read; None where it isn't known.
    """

    def __init__(self, interval_s: float, root: Path | None, log: BoardLog) -> None:
        self._root = root
        self._log = log
        self._throttling = ThrottleWatch()
        self._energy = EnergyCounter(interval_s)
        self._points: Deque[Point] = deque(maxlen=_POINTS)
        self._was_throttled = False
        self._mode: str | None = None
        self._mode_ns: int | None = None
        self.seen: Seen | None = None

    def add(self, stamped: Stamped) -> None:
        """Takes the next sample."""
        sample, total = stamped.sample, stamped.sample.total_power
        throttle = self._throttling.update(stamped)
        power_mw = None if total is None else float(total.cur_mw)
        self._energy.add(stamped.at_ns, power_mw)
        self._was_throttled = self._was_throttled or bool(throttle.active)
        if not self._points or stamped.at_ns - self._points[-1].at_ns >= _POINT_NS:
            self._points.append(Point(stamped.at_ns, power_mw, sample.hottest_c, self._was_throttled))
            self._was_throttled = False
        self.seen = Seen(stamped, throttle, self._energy.joules, self._power_mode(stamped.at_ns), tuple(self._points))
        self._log.heard()
        self._log.throttled(throttle.active)

    def _power_mode(self, now_ns: int) -> str | None:
        if self._root is not None and (self._mode_ns is None or now_ns - self._mode_ns >= _MODE_NS):
            mode = current_power_mode(self._root)
            self._mode, self._mode_ns = None if mode is None else mode.name, now_ns
        return self._mode


class ServedBoard:
    """Samples from `start` until `close`; what it tells is read without waiting, on any thread.

    Nothing waits for a source that hangs: it is opened and closed on threads that are left behind where they don't end.

    Args:
        clock: ns, monotonic.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self._verdicts: Tuple[Tuple[str, str], ...] = ()
        self._failure: str | None = None
        self._running: Tuple[Sampler, Watcher] | None = None
        self._opening: Tuple[threading.Thread, int] | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self, text: str, interval_s: float) -> None:
        """Begins to open what `--board` asks for, on a thread of its own."""
        thread = threading.Thread(target=self.open, args=(text, interval_s), name="telemetry opening", daemon=True)
        self._opening = thread, self._clock()
        thread.start()

    def open(self, text: str, interval_s: float) -> None:
        """Opens what `--board` asks for, which may take seconds; where that fails, this is what the board tells."""
        try:
            from edge_runtime.device.telemetry.board import open_board  # noqa: PLC0415  (not while a server starts)

            self.begin(open_board(text, interval_s))
        except (EdgeRuntimeError, OSError) as error:  # without descriptors nothing can be imported either
            self._fail(str(error))
        except Exception as error:  # the top frame of the thread that opens it
            logger.exception("opening the board's source failed")
            self._fail(f"{type(error).__name__}: {error}")

    def begin(self, opened: OpenBoard) -> None:
        """Samples a source from now on, which it closes at the end; at once if that has come already."""
        self._verdicts = opened.verdicts
        logger.info("telemetry of the board: %s", "; ".join(f"{name}: {why}" for name, why in opened.verdicts))
        if opened.failure is not None:
            self._fail(opened.failure)
        if opened.source is None:
            return
        with self._lock:
            if not self._is_closed:
                self._running = self._sampled(opened.source, opened)
                return
        opened.source.close()

    def _sampled(self, source: Source, opened: OpenBoard) -> Tuple[Sampler, Watcher]:
        log = BoardLog(source.origin, self._clock)
        watcher = Watcher(opened.interval_s, opened.root, log)
        sampler = Sampler(
            source, opened.interval_s, _KEPT_SAMPLES, self._clock, on_alarm=log.silent, on_sample=watcher.add
        )
        return sampler, watcher

    def read(self) -> BoardReading:
        """What is known now."""
        if self._running is None:
            return BoardReading(self._clock(), self._verdicts, self._failure or self._slow_opening())
        sampler, watcher = self._running
        status, seen = sampler.status(), watcher.seen
        return BoardReading(self._clock(), self._verdicts, status.alarm, status, seen)

    def conditions(self) -> Conditions:
        """What runs are measured under now."""
        fresh = self.read().fresh
        return Conditions(None, None) if fresh is None else Conditions(fresh.power_mode, fresh.stamped.sample.hottest_c)

    def close(self) -> None:
        """Ends sampling; idempotent. It waits for a source that is being opened or read, for some seconds at most."""
        with self._lock:
            self._is_closed = True
        threads = [] if self._opening is None else [self._opening[0]]
        if self._running is not None:
            threads.append(threading.Thread(target=self._running[0].close, name="telemetry closing", daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(_JOIN_S)
            if thread.is_alive():
                logger.warning("the board's source hangs and is left behind")

    def _slow_opening(self) -> str | None:
        if self._opening is None or not self._opening[0].is_alive():
            return None
        since_ns = self._clock() - self._opening[1]
        return f"the source isn't open after {since_ns / 1e9:.0f} s" if since_ns > _OPENING_NS else None

    def _fail(self, why: str) -> None:
        self._failure = why
        logger.warning("there is no telemetry of the board: %s", why)


NO_BOARD = ServedBoard()

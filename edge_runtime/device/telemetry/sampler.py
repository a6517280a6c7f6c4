"""A thread that samples a source at a steady pace, measures how steady, and tells at once when samples stop."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Callable, List, Type

from edge_runtime.device.monotonic_event import MonotonicEvent
from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample
from edge_runtime.device.telemetry.sampling import LONGEST_S, SHORTEST_S, SampleBook, SamplerStatus
from edge_runtime.device.telemetry.source import Source
from edge_runtime.errors import ConfigError, TelemetryError

logger = logging.getLogger(__name__)

_LONGEST_WAIT_NS = 250_000_000
_JOIN_S = 5.0


class Sampler:
    """Samples `source`, which it owns, every `interval_s` from now until `close`.

    A source without a pace of its own is read at `start + k * interval`, so that no delay adds up, and each sample is
    stamped with the middle of its reading; one with a pace is waited for, and stamped on arrival. `on_sample` and
    `on_alarm` are called on the sampler's thread and must be quick; what they raise is logged, and so is an alarm for
    which there is no `on_alarm`.
    """

    def __init__(
        self,
        source: Source,
        interval_s: float = 0.1,
        history: int = 36_000,
        clock: Callable[[], int] = time.perf_counter_ns,
        on_alarm: Callable[[str], None] | None = None,
        on_sample: Callable[[Stamped], None] | None = None,
    ) -> None:
        if not SHORTEST_S <= interval_s <= LONGEST_S:
            raise ConfigError(f"an interval of {interval_s!r} s: expected {SHORTEST_S:g} to {LONGEST_S:g}")
        self._source = source
        self._interval_ns = round(interval_s * 1e9)
        self._clock = clock
        self._on_alarm = on_alarm
        self._on_sample = on_sample
        self._start_ns = clock()
        self._cpu_start_ns = 0
        self._arrived_ns: int | None = None
        self._stopping = MonotonicEvent()
        self._book = SampleBook(source.origin, self._interval_ns, history, self._start_ns, self._alarmed)
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    @property
    def latest(self) -> Stamped | None:
        """The newest sample; None before the first."""
        return self._book.latest

    def between(self, start_ns: int, end_ns: int) -> List[Stamped]:
        """The samples between two moments of the clock, both counted, in order."""
        return self._book.between(start_ns, end_ns)

    def status(self) -> SamplerStatus:
        """How it is now, even while its thread hangs in a reading."""
        return self._book.status(self._clock())

    def close(self) -> None:
        """Ends the thread and closes the source; a thread that hangs in a reading is left behind after 5 s."""
        self._stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():
                logger.warning("%s hangs in a reading and is left behind", self._source.origin.source)

    def __enter__(self) -> Sampler:
        return self

    def __exit__(
        self, kind: Type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        self._cpu_start_ns = time.thread_time_ns()
        try:
            if self._source.is_paced:
                self._follow()
            else:
                self._pace()
        finally:
            self._source.close()

    def _pace(self) -> None:
        """Reads at every tick; ticks that a slow reading ran over are counted and not made up for."""
        tick = 0
        while not self._waited_until(self._start_ns + tick * self._interval_ns):
            before_ns = self._clock()
            sample = self._read(self._interval_ns)
            after_ns = self._clock()
            if sample is not None:
                due_ns = self._start_ns + tick * self._interval_ns
                self._take(Stamped((before_ns + after_ns) // 2, sample), before_ns - due_ns)
            ahead = max(tick + 1, (after_ns - self._start_ns) // self._interval_ns + 1)
            self._count(ahead - tick - 1)
            tick = ahead

    def _follow(self) -> None:
        """Waits for the source's own samples, looking up often enough to stop, and to tell that none comes."""
        while not self._stopping.is_set():
            left_ns = self._book.quiet_at_ns() + 1 - self._clock()
            sample = self._read(min(left_ns, _LONGEST_WAIT_NS) if left_ns > 0 else _LONGEST_WAIT_NS)
            now_ns = self._clock()
            missed = 0
            if sample is not None:
                step_ns = self._interval_ns if self._arrived_ns is None else now_ns - self._arrived_ns
                missed = max(0, round(step_ns / self._interval_ns) - 1)
                self._take(Stamped(now_ns, sample), None if self._arrived_ns is None else step_ns - self._interval_ns)
                self._arrived_ns = now_ns
            self._count(missed)

    def _read(self, timeout_ns: int) -> TelemetrySample | None:
        try:
            sample = self._source.read(timeout_ns / 1e9)
        except TelemetryError as error:
            text = str(error)
        except Exception as error:  # the thread's top frame: a source's own fault must not end sampling in silence
            logger.exception("a reading of %s failed", self._source.origin.source)
            text = f"{self._source.origin.source}: {type(error).__name__}: {error}"
        else:
            if sample is None:
                self._book.check(self._clock())
            return sample
        self._book.fail(text)
        if self._source.is_paced:  # one that fails at once, each time, would take a whole core
            self._stopping.wait(min(self._interval_ns, _LONGEST_WAIT_NS) / 1e9)
        return None

    def _take(self, stamped: Stamped, jitter_ns: int | None) -> None:
        self._book.add(stamped, jitter_ns)
        if self._on_sample is not None:
            try:
                self._on_sample(stamped)
            except Exception:  # of whoever listens; the next sample comes all the same
                logger.exception("a listener to samples failed")

    def _alarmed(self, text: str) -> None:
        if self._on_alarm is None:
            logger.warning("telemetry: %s", text)
            return
        try:
            self._on_alarm(text)
        except Exception:
            logger.exception("a listener to alarms failed")

    def _count(self, missed: int) -> None:
        elapsed_ns = self._clock() - self._start_ns
        cpu_ns = time.thread_time_ns() - self._cpu_start_ns
        cost_ratio = cpu_ns / elapsed_ns if elapsed_ns > 0 else None
        self._book.count(missed, getattr(self._source, "restarts", 0), cost_ratio)

    def _waited_until(self, due_ns: int) -> bool:
        """Waits until then; whether it is time to stop instead."""
        left_ns = due_ns - self._clock()
        return self._stopping.wait(left_ns / 1e9) if left_ns > 0 else self._stopping.is_set()

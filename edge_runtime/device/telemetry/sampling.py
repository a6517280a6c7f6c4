"""What a sampler knows at any moment: its samples, how regular they were, and whether they still come."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, List, Sequence

from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.device.telemetry.source import Origin

SHORTEST_S, LONGEST_S = 0.001, 3600.0  # the interval that samples may have
_JITTERS = 1024  # enough for a p99, and sorted in a tenth of a millisecond whenever a status is asked for
_INTERVALS_TO_ALARM = 2
_SHORT_NS = 10_000_000  # intervals below are told in tenths of a millisecond
# A program has to start before it can print.
_LEAST_START_NS = 500_000_000


@dataclass(frozen=True)
class SamplerStatus:
    """How a sampler is. `alarm` says why there is no fresh sample; None while all is well.

    `missed` are moments at which no sample was taken in time, `restarts` those of a child, `jitter_ms` how far samples
    are off their moments (of a source with a pace of its own: steps off the interval), `cost_ratio` the sampler's
    thread's share of one core; a child's isn't in it.
    """

    origin: Origin
    interval_s: float
    samples: int
    age_s: float | None
    is_stale: bool
    alarm: str | None
    missed: int
    restarts: int
    jitter_ms_p50: float | None
    jitter_ms_p99: float | None
    cost_ratio: float | None


class SampleBook:
    """The samples of one source, written by its sampler's thread and read by all.

    `on_alarm` is called by the thread that writes, once for each alarm.
    """

    def __init__(
        self,
        origin: Origin,
        interval_ns: int,
        history: int,
        start_ns: int,
        on_alarm: Callable[[str], None] | None = None,
    ) -> None:
        self._origin = origin
        self._interval_ns = interval_ns
        self._start_ns = start_ns
        self._on_alarm = on_alarm
        self._lock = threading.Lock()
        self._history: Deque[Stamped] = deque(maxlen=history)
        self._jitters_ns: Deque[int] = deque(maxlen=_JITTERS)
        self._samples = 0
        self._missed = 0
        self._restarts = 0
        self._cost_ratio: float | None = None
        self._alarm: str | None = None

    @property
    def latest(self) -> Stamped | None:
        """The newest sample."""
        with self._lock:
            return self._history[-1] if self._history else None

    def between(self, start_ns: int, end_ns: int) -> List[Stamped]:
        """The samples of a span, both ends counted, in order."""
        found = []
        with self._lock:
            for stamped in reversed(self._history):
                if stamped.at_ns < start_ns:
                    break
                if stamped.at_ns <= end_ns:
                    found.append(stamped)
        return found[::-1]

    def add(self, stamped: Stamped, jitter_ns: int | None = None) -> None:
        """Takes a sample in, which ends an alarm; one that came too late rings first."""
        self.check(stamped.at_ns)
        with self._lock:
            self._history.append(stamped)
            self._samples += 1
            self._alarm = None
            if jitter_ns is not None:
                self._jitters_ns.append(abs(jitter_ns))

    def fail(self, text: str) -> None:
        """The source failed: an alarm at once, unless it rings for the same reason already."""
        self._ring(text)

    def check(self, now_ns: int) -> None:
        """Rings if the source has been silent for two intervals."""
        with self._lock:
            silence = self._silence(now_ns) if self._alarm is None else None
        if silence is not None:
            self._ring(silence)

    def count(self, missed: int = 0, restarts: int = 0, cost_ratio: float | None = None) -> None:
        """Adds moments that were missed; restarts and cost are those so far."""
        with self._lock:
            self._missed += missed
            self._restarts = restarts
            self._cost_ratio = cost_ratio

    def quiet_at_ns(self) -> int:
        """When silence becomes an alarm."""
        with self._lock:
            return self._quiet_at_ns()

    def status(self, now_ns: int) -> SamplerStatus:
        """How things are at that moment, by what was written until then."""
        with self._lock:
            latest = self._history[-1] if self._history else None
            age_ns = None if latest is None else max(0, now_ns - latest.at_ns)
            jitters = sorted(self._jitters_ns)
            return SamplerStatus(
                origin=self._origin,
                interval_s=self._interval_ns / 1e9,
                samples=self._samples,
                age_s=None if age_ns is None else age_ns / 1e9,
                is_stale=age_ns is None or age_ns > _INTERVALS_TO_ALARM * self._interval_ns,
                alarm=self._alarm or self._silence(now_ns),
                missed=self._missed,
                restarts=self._restarts,
                jitter_ms_p50=_quantile_ms(jitters, 0.5),
                jitter_ms_p99=_quantile_ms(jitters, 0.99),
                cost_ratio=self._cost_ratio,
            )

    def _ring(self, text: str) -> None:
        with self._lock:
            is_new, self._alarm = text != self._alarm, text
        if is_new and self._on_alarm is not None:
            self._on_alarm(text)

    def _quiet_at_ns(self) -> int:
        allowed_ns = _INTERVALS_TO_ALARM * self._interval_ns
        if self._history:
            return self._history[-1].at_ns + allowed_ns
        return self._start_ns + max(allowed_ns, _LEAST_START_NS)

    def _silence(self, now_ns: int) -> str | None:
        if now_ns <= self._quiet_at_ns():
            return None
        since_ns = self._history[-1].at_ns if self._history else self._start_ns
        every = f"one is due every {self._interval_ns / 1e9:.4g} s"
        digits = 2 if self._interval_ns >= _SHORT_NS else 4
        return f"{self._origin.source}: no sample for {(now_ns - since_ns) / 1e9:.{digits}f} s; {every}"


def _quantile_ms(values_ns: Sequence[int], share: float) -> float | None:
    """The nearest-rank quantile."""
    if not values_ns:
        return None
    return values_ns[max(0, -int(-share * len(values_ns) // 1) - 1)] / 1e6

"""What the server does now: one record for all who watch, made from counters and from what they were a while ago."""

from __future__ import annotations

from array import array
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple

from edge_runtime import __version__
from edge_runtime.device.temperature import hottest_zone_c
from edge_runtime.evaluation.latency import min_samples
from edge_runtime.server.latencies import percentiles_ns
from edge_runtime.server.models import ModelTable, ServedModel
from edge_runtime.server.statistics import FAILURE_REASONS

WINDOW_S = 10
_APART_NS = 500_000_000  # what is asked for more often is still kept twice a second
LEVELS = (50.0, 90.0, 99.0)
_NEEDED = {50.0: 1, **{level: min_samples(level / 100) for level in LEVELS[1:]}}


class _Seen(NamedTuple):
    """Counters of one model at one moment."""

    at_ns: int
    success: int
    rows: int
    latencies: array[int]


class Snapshots:
    """Makes records; rates and percentiles are of the last ten seconds, or of what was seen of them.

    Args:
        clock: ns, monotonic.
        temperature_c: of the board; None where it can't be read.
    """

    def __init__(
        self,
        models: ModelTable,
        clock: Callable[[], int],
        temperature_c: Callable[[], float | None] = hottest_zone_c,
    ) -> None:
        self._models = models
        self._clock = clock
        self._temperature_c = temperature_c
        self._begun_ns = clock()
        self._seen: Dict[str, Deque[_Seen]] = {}

    def take(self) -> Dict[str, Any]:
        """The record now; durations in ms. What can't be known is None, power for one."""
        now_ns = self._clock()
        models = [self._of_model(model, now_ns) for model in self._models]
        served = {model.key for model in self._models}
        self._seen = {key: seen for key, seen in self._seen.items() if key in served}
        return {
            "server": {
                "version": __version__,
                "ready": self._models.is_ready,
                "uptime_s": (now_ns - self._begun_ns) // 1_000_000_000,
            },
            "board": {"temperature_c": self._temperature_c(), "power_mw": None},
            "window_s": WINDOW_S,
            "models": models,
        }

    def forget(self) -> None:
        """Says that nobody watches: what was seen is of no use to who comes next."""
        self._seen.clear()

    def _of_model(self, model: ServedModel, now_ns: int) -> Dict[str, Any]:
        info, totals = model.engine.info, model.statistics.totals
        now = _Seen(now_ns, totals.success, totals.rows, model.statistics.latencies)
        seen = self._seen.setdefault(model.key, deque())
        while len(seen) > 1 and now_ns - seen[0].at_ns > WINDOW_S * 1_000_000_000:
            seen.popleft()
        before = seen[0] if seen else now
        if not seen or now_ns - seen[-1].at_ns >= _APART_NS:
            seen.append(now)
        elapsed_s = (now_ns - before.at_ns) / 1e9
        return {
            "name": model.name,
            "version": model.version,
            "precision": info.precision,
            "backend": info.backend,
            "device": info.device,
            "waiting": model.pending,
            "succeeded": totals.success,
            "failed": {reason: totals.failures[reason] for reason in FAILURE_REASONS},
            "requests_per_s": round((now.success - before.success) / elapsed_s, 1) if elapsed_s else None,
            "inferences_per_s": round((now.rows - before.rows) / elapsed_s, 1) if elapsed_s else None,
            "latency": _latency([new - old for new, old in zip(now.latencies, before.latencies)]),
        }


def _latency(counts: List[int]) -> Dict[str, Any]:
    """How many there were, and the percentiles that so many can show (LoadGen's rule of early stopping)."""
    n = sum(counts)
    shown = [level for level, needed in _NEEDED.items() if n >= needed]
    found = dict(zip(shown, percentiles_ns(counts, shown)))
    return {"n": n, **{f"p{level:g}_ms": _ms(found.get(level)) for level in LEVELS}}


def _ms(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else round(duration_ns / 1e6, 3)

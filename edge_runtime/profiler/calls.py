"""Every timed call, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List

import numpy as np
import numpy.typing as npt

from edge_runtime.evaluation.latency import min_samples
from edge_runtime.profiler.stages import (
    ARRIVAL,
    COMPUTE,
    END,
    ENQUEUE,
    NO_ENQUEUE,
    READY,
    STAGES,
    START,
    WAITED,
    stage_spans,
)

Array = npt.NDArray[Any]

_WITH_COPIES = "with the copies between host and GPU, which run on the same stream"


@dataclass(frozen=True)
class CallTable:
    """A row of stamps (`stages`) and the caller's number for each call, in the order of their arrival.

    Stamps are nanoseconds of the monotonic clock. `tells_submission` says whether the backend tells when all was
    enqueued.
    """

    stamps: Array
    callers: Array
    tells_submission: bool = False

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def latency_ns(self) -> Array:
        """From when each call should have begun to the framed answer."""
        return self._between(ARRIVAL, END)

    @property
    def service_ns(self) -> Array:
        """What each call took of its caller."""
        return self._between(START, END)

    @property
    def queued_ns(self) -> Array:
        """How long each call was due while all callers were busy."""
        return np.asarray(np.maximum(self.stamps[:, READY] - self.stamps[:, ARRIVAL], 0))

    @property
    def late_ns(self) -> Array:
        """How late each call was begun though its caller was free: the load generator's own error."""
        return np.asarray(self.stamps[:, START] - np.maximum(self.stamps[:, ARRIVAL], self.stamps[:, READY]))

    @property
    def run_delay_ns(self) -> Array:
        """How long each call's thread was ready and had no core; -1 is unknown."""
        return np.asarray(self.stamps[:, WAITED])

    def _between(self, start: int, end: int) -> Array:
        return np.asarray(self.stamps[:, end] - self.stamps[:, start])

    def stage_ns(self) -> Dict[str, Array]:
        """What each call spent in each stage that this backend tells apart."""
        found: Dict[str, Array] = {}
        for name, start, end in stage_spans(self.tells_submission):
            taken = self._between(start, end)
            found[name] = found[name] + taken if name in found else taken
        return found

    def stage_records(self) -> List[Dict[str, Any]]:
        """The stages as a report has them; `share` is of all latency, a percentile of too few calls is None."""
        found, whole_ns = self.stage_ns(), max(int(self.latency_ns.sum()), 1)
        return [self._record(name, found.get(name), whole_ns) for name in STAGES]

    def _record(self, name: str, taken: Array | None, whole_ns: int) -> Dict[str, Any]:
        figures = ("mean_ms", "p50_ms", "p90_ms", "p99_ms")
        if taken is None:
            return {"name": name, "n": 0, **dict.fromkeys((*figures, "share")), "why": NO_ENQUEUE}
        count = len(taken)
        values = [float(value) / 1e6 for value in (taken.mean(), *np.percentile(taken, (50, 90, 99)))]
        tails = [value if count >= min_samples(level) else None for value, level in zip(values[2:], (0.9, 0.99))]
        note = {"note": _WITH_COPIES} if self.tells_submission and name in (ENQUEUE, COMPUTE) else {}
        return {
            "name": name,
            "n": count,
            **dict(zip(figures, [*values[:2], *tails])),
            "share": int(taken.sum()) / whole_ns,
            **note,
        }

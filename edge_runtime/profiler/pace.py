"""Calls of two sessions compared where the machine was equally fast for the yardstick.

A neighbour on a shared core doesn't slow all code alike, so dividing by the yardstick won't do. But calls around which
the yardstick took its best time repeat within about 1 % from session to session, and those at another equal pace
within about 3 %, where medians of all calls lie 17 % apart (`benchmarks/regression_gate.py` on a busy machine).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.evaluation.session_ratio import Change, change, estimate
from edge_runtime.profiler.baseline import SessionRecord

Array = npt.NDArray[Any]

_QUIET = 1.12  # a reading over the best, up to which the machine counts as quiet
_BEST = 2.0  # percent of a session's readings that are below what counts as its best
_FEWEST_QUIET = 50
_STEP = 0.1  # of the logarithm of the pace, within which calls are matched
_FEWEST_IN_STEP = 20
_FEWEST_MATCHED = 100
_SLOWEST = 7  # steps: half as fast as at best, from where on too much else is going on
_MATCHED_SPREAD = 3.0  # sessions differ that many times as much at any equal pace as when it is quiet


@dataclass(frozen=True)
class PacedChange:
    """What became of the median at equal pace; `values_ms` are then and now, `how` says which calls were compared."""

    change: Change | None
    values_ms: Tuple[float, float] | None
    how: str


def readings(session: SessionRecord) -> List[Array]:
    """The yardstick's readings of each repeat, in nanoseconds."""
    rows = [np.array(one.yardstick_ns, float) for one in session.repeats]
    return [row[row > 0] for row in rows]


def interrupted_share(session: SessionRecord) -> float:
    """The share of calls that had to wait for a core, for others had it."""
    return float(np.mean(np.concatenate([np.array(one.yardstick_ns) == 0 for one in session.repeats])))


def best_pace_ns(sessions: Sequence[SessionRecord]) -> float:
    """The yardstick's best time in any of the sessions; infinite where no call was left in peace."""
    rows = [np.concatenate(readings(session)) for session in sessions]
    return min((float(np.percentile(row, _BEST)) for row in rows if len(row)), default=math.inf)


def quiet_calls(session: SessionRecord, best_ns: float) -> List[Array]:
    """Of each repeat the calls while the machine was quiet, in nanoseconds."""
    return [durations[pace <= math.log(_QUIET)] for durations, pace in _paced(session, best_ns)]


def paced_change(then: Sequence[SessionRecord], now: SessionRecord, spread: float) -> PacedChange:
    """The change of the median of calls while the machine was quiet, or else at whatever equal paces there were.

    `spread` is the assumed one between sessions on a quiet machine.
    """
    best_ns = best_pace_ns((*then, now))
    quiet = [quiet_calls(session, best_ns) for session in then]
    usable = [(rows, found) for rows, found in ((rows, _estimate(rows)) for rows in quiet) if found is not None]
    after_rows = quiet_calls(now, best_ns)
    after = _estimate(after_rows)
    if usable and after is not None:
        before_ms = float(np.mean([_median_ms(rows) for rows, _ in usable]))
        found = change([one for _, one in usable], after, spread)
        return PacedChange(found, (before_ms, _median_ms(after_rows)), "of calls while the machine was quiet")
    return _matched(max(then, key=lambda one: _overlap(one, now, best_ns)), now, best_ns, spread * _MATCHED_SPREAD)


def _estimate(rows: Sequence[Array]) -> Any:
    return estimate(rows, np.median) if sum(map(len, rows)) >= _FEWEST_QUIET else None


def _median_ms(rows: Sequence[Array]) -> float:
    return float(np.median(np.concatenate(rows))) / 1e6


def _paced(session: SessionRecord, best_ns: float) -> List[Tuple[Array, Array]]:
    """Durations, and the logarithm of the pace around each over the best, for each repeat; of calls left in peace."""
    pairs = [(np.array(one.durations_ns, float), np.array(one.yardstick_ns, float)) for one in session.repeats]
    return [(durations[yards > 0], np.log(yards[yards > 0] / best_ns)) for durations, yards in pairs]


def _steps(session: SessionRecord, best_ns: float) -> List[Array]:
    """For each repeat `[calls, 2]`: the step of the pace, and the duration."""
    return [np.column_stack((np.floor(pace / _STEP), durations)) for durations, pace in _paced(session, best_ns)]


def _counts(session: SessionRecord, best_ns: float) -> Dict[float, int]:
    steps, counts = np.unique(np.concatenate(_steps(session, best_ns))[:, 0], return_counts=True)
    return {float(step): int(count) for step, count in zip(steps, counts)}


def _shared(then: SessionRecord, now: SessionRecord, best_ns: float) -> Dict[float, int]:
    """Steps of the pace with enough calls on both sides, and the fewer of both."""
    before, after = _counts(then, best_ns), _counts(now, best_ns)
    fewer = {step: min(count, after.get(step, 0)) for step, count in before.items()}
    return {step: count for step, count in fewer.items() if count >= _FEWEST_IN_STEP and step < _SLOWEST}


def _overlap(then: SessionRecord, now: SessionRecord, best_ns: float) -> int:
    return sum(_shared(then, now, best_ns).values())


def _matched(then: SessionRecord, now: SessionRecord, best_ns: float, spread: float) -> PacedChange:
    shared = _shared(then, now, best_ns)
    if sum(shared.values()) < _FEWEST_MATCHED:
        why = f"the machine was hardly ever as fast as then: {sum(shared.values()):,} calls of {_FEWEST_MATCHED} needed"
        return PacedChange(None, None, why)
    estimates, values = [], []
    for session in (then, now):
        rows = _steps(session, best_ns)
        statistic = _Standardised(np.concatenate(rows), shared)
        estimates.append(estimate(rows, statistic))
        values.append(statistic(np.concatenate(rows)) / 1e6)
    before, after = estimates
    found = None if before is None or after is None else change([before], after, spread)
    return PacedChange(found, (values[0], values[1]), "of calls at equal pace, for the machine was busy")


class _Standardised:
    """The mean of the logarithms of medians at each pace, weighed as both sessions share it; all calls fill gaps."""

    def __init__(self, all_calls: Array, weights: Dict[float, int]) -> None:
        self._weights = weights
        self._medians = {step: float(np.median(all_calls[all_calls[:, 0] == step, 1])) for step in weights}

    def __call__(self, calls: Array) -> float:
        total = 0.0
        for step, weight in self._weights.items():
            here = calls[calls[:, 0] == step, 1]
            total += weight * math.log(float(np.median(here)) if len(here) else self._medians[step])
        return math.exp(total / sum(self._weights.values()))

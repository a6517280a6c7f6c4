"""When the samples of a log were taken, by the stamps that are printed in it, which have whole seconds."""

from __future__ import annotations

import collections
import datetime
import statistics
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

_EPOCH = datetime.datetime(1970, 1, 1)
_GAP_STEPS = 2.0  # stamps of whole seconds step by twice the interval now and then, though nothing is missing
_LONGEST_INTERVAL_S = 60.0  # a usual step above that comes from lines put together, not from one log


@dataclass(frozen=True)
class Timeline:
    """The samples' times in seconds since the first.

    `gaps` are the samples before which something is missing: a step of over two intervals, or a clock that was set
    back (there the time goes on by one interval). `steps_s` counts the printed steps; `interval_s` is the usual one.
    """

    times_s: Tuple[float, ...]
    is_printed: bool
    interval_s: float
    steps_s: Dict[int, int]
    gaps: Tuple[int, ...]

    @property
    def duration_s(self) -> float:
        """From the first sample to the last."""
        return self.times_s[-1] if self.times_s else 0.0

    @property
    def note(self) -> str:
        """How the times are known, in words."""
        return "by the printed stamps" if self.is_printed else f"assumed: {self.interval_s:g} s a sample, no stamps"


def seconds_of(timestamp: str | None) -> int | None:
    """A sample's stamp as seconds since 1970 of the board's own local time."""
    if timestamp is None:
        return None
    return round((datetime.datetime.fromisoformat(timestamp) - _EPOCH).total_seconds())


def timeline_from_stamps(stamps_s: Sequence[int | None], interval_s: float = 1.0) -> Timeline:
    """The times of samples with these stamps; samples of one second are spread over it.

    Args:
        stamps_s: one for each sample; None where none was printed.
        interval_s: what is assumed where no stamp was printed at all.
    """
    if all(stamp is None for stamp in stamps_s):
        return Timeline(tuple(index * interval_s for index in range(len(stamps_s))), False, interval_s, {}, ())
    groups = _groups(stamps_s)
    steps = [later[0] - earlier[0] for earlier, later in zip(groups, groups[1:])]
    forward = [step for step in steps if step > 0]
    usual = float(statistics.median(forward)) if forward else interval_s
    usual = usual if usual <= _LONGEST_INTERVAL_S else interval_s
    starts = _starts(steps, usual)
    times: List[float] = []
    gaps = []
    for index, ((_, count), start) in enumerate(zip(groups, starts)):
        if index and not 0 < steps[index - 1] <= _GAP_STEPS * usual:
            gaps.append(len(times))
        times.extend(start + place / count for place in range(count))
    counted = collections.Counter(steps)
    repeats = sum(count - 1 for _, count in groups)
    counted.update({0: repeats} if repeats else {})
    interval = usual / statistics.median(count for _, count in groups)
    return Timeline(tuple(times), True, interval, dict(counted), tuple(gaps))


def _groups(stamps_s: Sequence[int | None]) -> List[Tuple[int, int]]:
    """Each second that follows another, and how many samples it has; one without a stamp belongs to the one before."""
    groups: List[Tuple[int, int]] = []
    pending = 0
    for stamp in stamps_s:
        if groups and (stamp is None or stamp == groups[-1][0]):
            groups[-1] = (groups[-1][0], groups[-1][1] + 1)
        elif stamp is None:
            pending += 1
        else:
            groups.append((stamp, 1 + pending))
            pending = 0
    return groups


def _starts(steps: Sequence[int], usual: float) -> List[float]:
    starts = [0.0]
    for step in steps:
        starts.append(starts[-1] + (step if step > 0 else usual))
    return starts

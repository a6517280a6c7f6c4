"""How long requests took, counted in a fixed number of buckets."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np
import numpy.typing as npt

_STEPS = 5  # 32 buckets an octave: each is 2.2 to 3.1 % wide
BUCKETS = (64 - _STEPS) << _STEPS
_LONGEST_NS = (1 << 62) - 1
RECENT = 512

Counts = npt.NDArray[np.int64]


class Latencies:
    """Counts of durations in ns; the caller guards it. A count is exact, a duration known to about 3 %.

    Durations are put into their buckets many at a time: who adds them to `recent_ns` calls `sort_in` once there are
    `RECENT`.
    """

    __slots__ = ("_counts", "recent_ns")

    def __init__(self) -> None:
        self._counts: Counts = np.zeros(BUCKETS, np.int64)
        self.recent_ns: List[int] = []

    def counts(self) -> Counts:
        """A copy of all counts, by bucket."""
        self.sort_in()
        return self._counts.copy()

    def sort_in(self) -> None:
        """Counts what is recent."""
        if self.recent_ns:
            durations_ns = np.clip(np.array(self.recent_ns), 0, _LONGEST_NS).astype(np.int64)
            octaves = np.maximum(np.frexp(durations_ns)[1].astype(np.int64) - _STEPS - 1, 0)
            found = np.minimum((octaves << _STEPS) + (durations_ns >> octaves), BUCKETS - 1)
            self._counts += np.bincount(found, minlength=BUCKETS)
            self.recent_ns.clear()


def bucket_of(duration_ns: int) -> int:
    """The bucket of a duration; what isn't positive counts as 0 ns."""
    if duration_ns < 1 << _STEPS:
        return max(duration_ns, 0)
    octave = duration_ns.bit_length() - _STEPS - 1
    return min((octave << _STEPS) + (duration_ns >> octave), BUCKETS - 1)


def upper_ns(bucket: int) -> int:
    """The longest duration of a bucket, ns."""
    if bucket < 1 << (_STEPS + 1):
        return bucket
    octave = (bucket >> _STEPS) - 1
    return ((bucket - (octave << _STEPS) + 1) << octave) - 1


def percentiles_ns(counts: Counts, levels: Sequence[float]) -> List[int]:
    """For each level in percent the upper bound of the bucket that its duration is in (nearest rank); [] of nothing."""
    seen = np.cumsum(counts)
    total = int(seen[-1])
    ranks = [max(1, -(-round(level * total * 1000) // 100_000)) for level in levels]
    return [upper_ns(int(np.searchsorted(seen, rank))) for rank in ranks] if total else []


def cumulative(counts: Counts, bounds_ns: Sequence[int]) -> List[int]:
    """How many durations are within each bound, to the resolution of the buckets."""
    seen = np.cumsum(counts)
    return [int(seen[bucket_of(bound)]) for bound in bounds_ns]

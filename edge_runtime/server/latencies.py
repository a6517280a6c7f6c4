"""How long requests took, counted in a fixed number of buckets."""

from __future__ import annotations

from array import array
from typing import List, Sequence

_STEPS = 5  # 32 buckets an octave: each is 2.2 to 3.1 % wide
_BUCKETS = (64 - _STEPS) << _STEPS

Counts = Sequence[int]


class Latencies:
    """Counts of durations in ns; the caller guards it. A count is exact, a duration known to about 3 %."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS))

    def add(self, duration_ns: int) -> None:
        """Counts one."""
        self._counts[bucket_of(duration_ns)] += 1

    def counts(self) -> array[int]:
        """A copy of all counts, by bucket."""
        return self._counts[:]


def bucket_of(duration_ns: int) -> int:
    """The bucket of a duration; what isn't positive counts as 0 ns."""
    if duration_ns < 1 << _STEPS:
        return max(duration_ns, 0)
    octave = duration_ns.bit_length() - _STEPS - 1
    return min((octave << _STEPS) + (duration_ns >> octave), _BUCKETS - 1)


def upper_ns(bucket: int) -> int:
    """The longest duration of a bucket, ns."""
    if bucket < 1 << (_STEPS + 1):
        return bucket
    octave = (bucket >> _STEPS) - 1
    return ((bucket - (octave << _STEPS) + 1) << octave) - 1


def percentiles_ns(counts: Counts, levels: Sequence[float]) -> List[int]:
    """For each level in percent, ascending, the upper bound of the bucket that its duration is in (nearest rank)."""
    found: List[int] = []
    total, seen = sum(counts), 0
    wanted = [max(1, -(-round(level * total * 1000) // 100_000)) for level in levels]
    for bucket, count in enumerate(counts):
        seen += count
        while len(found) < len(wanted) and seen >= wanted[len(found)]:
            found.append(upper_ns(bucket))
    return found


def cumulative(counts: Counts, bounds_ns: Sequence[int]) -> List[int]:
    """How many durations are within each bound, to the resolution of the buckets."""
    found: List[int] = []
    index = seen = 0
    for bound in bounds_ns:
        end = bucket_of(bound)
        seen += sum(counts[index : end + 1])
        found.append(seen)
        index = end + 1
    return found

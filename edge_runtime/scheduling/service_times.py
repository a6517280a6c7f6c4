"""How long a run takes, learnt from the runs themselves."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import Dict, List, Optional, Tuple

_BLOCKS = 4
_TRUSTED = 8  # as many new runs replace what was known before
_DOUBTS = 32  # refusals without a run in between, after which the longest run is forgotten


class _Block:
    """Some successive runs: how many, their sum, and the longest few in ascending order."""

    __slots__ = ("count", "longest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.longest: List[int] = []


class _Runs:
    """The runs of one (model, segment, rows) that count, in blocks of which the oldest is dropped.

    `high` is the longest run, less one for each 64 that count: an outlier is planned with only while few runs are
    known. `prior` is what was known before the runs began to count: (high, typical).
    """

    __slots__ = ("blocks", "count", "doubts", "high", "is_old", "prior", "size", "total")

    def __init__(self, size: int, prior: Optional[Tuple[int, int]] = None, is_old: bool = False) -> None:
        self.size = size
        self.is_old = is_old  # its prior was measured before the last `relearn`
        self.prior = prior
        self.blocks = [_Block()]
        self.count = 0
        self.total = 0
        self.high = 0
        self.doubts = 0

    def add(self, ns: int) -> bool:
        """Counts a run; True if `high` or the prior may have changed with it."""
        self.doubts = 0
        block = self.blocks[-1]
        block.count += 1
        block.total += ns
        self.count += 1
        self.total += ns
        longest = block.longest
        if len(longest) <= _BLOCKS:
            insort(longest, ns)
        elif ns > longest[0]:
            longest[0] = ns
            longest.sort()
        is_full = block.count >= self.size
        if ns <= self.high and self.count > _TRUSTED and not is_full:
            return False
        if is_full:
            self._turn()
        self._rank()
        return True

    def doubt(self) -> bool:
        """Counts a refusal; True if the longest run was forgotten for it."""
        self.doubts += 1
        if self.doubts < _DOUBTS:
            return False
        self.doubts = 0
        if self.prior is not None and self.prior[0] >= self.high:
            self.prior = (self.typical(), self.typical())
        else:
            longest = max(self.blocks, key=lambda block: block.longest[-1] if block.longest else -1).longest
            del longest[-1:]
            self._rank()
        return True

    def _turn(self) -> None:
        self.blocks.append(_Block())
        if len(self.blocks) > _BLOCKS + 1:
            gone = self.blocks.pop(0)
            self.count -= gone.count
            self.total -= gone.total

    def _rank(self) -> None:
        longest = sorted([ns for block in self.blocks for ns in block.longest], reverse=True)
        if longest:
            self.high = longest[min(self.count // 64, _BLOCKS, len(longest) - 1)]
        else:
            self.high = self.total // self.count if self.count else 0
        if self.count >= _TRUSTED:
            self.prior = None

    def worst(self) -> int:
        return max(self.high, self.prior[0]) if self.prior else self.high

    def typical(self) -> int:
        if self.count:
            return self.total // self.count
        return self.prior[1] if self.prior else 0


class ServiceTimes:
    """Nanoseconds of one run for each (model, segment, rows), the worst with a margin, and the typical.

    Worst is the longest of the last `window` runs or so, but for the longest 1 in 64; so the odd outlier is forgotten
    as soon as 64 runs are known, and what lasts is planned with. Both are monotone in rows. A number of rows that was
    never measured is given the time of the next larger one that was, or of runs of the next smaller one in a row,
    whichever is less. A model that was neither seeded nor observed is unknown: None.

    Attributes:
        version: changes whenever a worst time changes, or many runs were learnt.
    """

    def __init__(self, margin: float = 0.03, window: int = 256) -> None:
        self.version = 0
        self._margin = 1 + margin
        self._size = max(1, window // _BLOCKS)
        self._runs: Dict[Tuple[str, int], Dict[int, _Runs]] = {}
        self._slowdown = 1.0
        self._learnt = 0
        self._known: Dict[Tuple[str, int, int, bool], Optional[int]] = {}

    def knows(self, model: str, segment: int = 0) -> bool:
        """Whether anything is known of a model's segment."""
        return (model, segment) in self._runs

    def seed(self, model: str, segment: int, rows: int, ns: int) -> None:
        """Plans with `ns` until 8 runs of that size have been observed."""
        sizes = self._runs.setdefault((model, segment), {})
        known = sizes.get(rows)
        if known is None:
            sizes[rows] = _Runs(self._size, (ns, ns))
        elif known.count < _TRUSTED:
            known.prior = (ns, ns) if known.prior is None else (max(ns, known.prior[0]), max(ns, known.prior[1]))
        self._renew()

    def observe(self, model: str, segment: int, rows: int, ns: int) -> None:
        """Learns from one run."""
        sizes = self._runs.get((model, segment))
        runs = sizes.get(rows) if sizes is not None else None
        if runs is None:
            runs = self._runs.setdefault((model, segment), {}).setdefault(rows, _Runs(self._size))
        prior = runs.prior
        if runs.add(ns):
            if prior is not None and runs.is_old:
                self._slowdown = max(self._slowdown, ns / max(1, prior[0]))
            self._renew()
        else:
            self._learnt += 1
            if not self._learnt & 63:
                self._renew()

    def doubt(self, model: str) -> None:
        """Takes note that a request was refused for the worst time alone: nothing ran, and the typical time would do.

        Requests that are refused teach nothing, so that one slow run would be remembered for ever: after 32 refusals
        without a run in between the longest is forgotten.
        """
        sizes = [each for key, each in self._runs.items() if key[0] == model]
        forgotten = [runs.doubt() for each in sizes for runs in each.values()]
        if any(forgotten):
            self._renew()

    def forget(self, model: str) -> None:
        """Knows nothing of a model from here on."""
        for key in [each for each in self._runs if each[0] == model]:
            del self._runs[key]
        self._renew()

    def relearn(self) -> None:
        """Starts anew, as after a change of power mode or temperature.

        What was known of a size counts until 8 new runs of it have come, and until the first of them it is stretched by
        the largest slowdown that any other showed since: one slow run tells of all.
        """
        for sizes in self._runs.values():
            for rows, runs in sizes.items():
                sizes[rows] = _Runs(self._size, (runs.worst(), runs.typical()), is_old=True)
        self._slowdown = 1.0
        self._renew()

    def worst_ns(self, model: str, segment: int, rows: int) -> Optional[int]:
        """What a run is planned with, margin included; None if the model is unknown."""
        return self._cached((model, segment, rows, True))

    def typical_ns(self, model: str, segment: int, rows: int) -> Optional[int]:
        """The mean of the runs that count, without a margin; None if the model is unknown."""
        return self._cached((model, segment, rows, False))

    def _renew(self) -> None:
        self.version += 1
        self._known.clear()

    def _cached(self, key: Tuple[str, int, int, bool]) -> Optional[int]:
        if key not in self._known:
            known = self._between(*key)
            self._known[key] = math.ceil(known * self._margin) if known is not None and key[3] else known
        return self._known[key]

    def _between(self, model: str, segment: int, rows: int, is_worst: bool) -> Optional[int]:
        measured = self._runs.get((model, segment))
        if not measured:
            return None
        sizes = sorted(measured)
        times: List[int] = []
        for size in sizes:
            times.append(max(self._of(measured[size], is_worst), times[-1] if times else 0))
        place = bisect_left(sizes, rows)
        above = times[place] if place < len(sizes) else None
        if place == 0 or (above is not None and sizes[place] == rows):
            return above
        in_a_row = -(-rows // sizes[place - 1]) * times[place - 1]
        return in_a_row if above is None else min(above, in_a_row)

    def _of(self, runs: _Runs, is_worst: bool) -> int:
        known = runs.worst() if is_worst else runs.typical()
        return known if runs.count or not runs.is_old else math.ceil(known * self._slowdown)

"""The pauses that Python's garbage collector makes."""

from __future__ import annotations

import gc
from array import array
from dataclasses import dataclass
from typing import Callable, Mapping, Tuple


@dataclass(frozen=True)
class GcPause:
    """One collection, during which no thread runs Python."""

    start_ns: int
    end_ns: int
    generation: int


class GcWatch:
    """Stamps every collection of this process while it is open; a context manager."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._start_ns = 0
        self._columns = array("q"), array("q"), array("q")  # none of which is an object that the collector looks at

    @property
    def pauses(self) -> Tuple[GcPause, ...]:
        """The collections so far, in order."""
        return tuple(map(GcPause, *self._columns))

    def _called(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._start_ns = self._clock()
        elif self._start_ns:
            for column, value in zip(self._columns, (self._start_ns, self._clock(), info.get("generation", 0))):
                column.append(value)

    def __enter__(self) -> GcWatch:
        gc.callbacks.append(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._called)

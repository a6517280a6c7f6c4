"""How much of the cores other processes, and the hypervisor, take meanwhile."""

from __future__ import annotations

import bisect
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

_NOT_BUSY = (3, 4, 8, 9)  # of /proc/stat: idle, waiting for a disk, and guests, who are in user time already
_MARGIN_NS = 250_000_000  # /proc/stat counts in ticks of 10 ms
SHORTEST_S = 0.2  # over less, a tick of each core would be more than a twentieth


@dataclass(frozen=True)
class CpuReading:
    """Nanoseconds of all cores so far: in use by anyone (a hypervisor's other guests too), and by this process."""

    at_ns: int
    busy_ns: int
    own_ns: int


@dataclass(frozen=True)
class CpuShare:
    """How many cores were in use on average, by others and by this process, of so many."""

    others: float
    own: float
    cores: int

    @property
    def is_full(self) -> bool:
        """Whether hardly any core was left."""
        return self.others + self.own >= 0.9 * self.cores


class CpuUse:
    """What the readings say of any moment between them."""

    def __init__(self, readings: Sequence[CpuReading], cores: int) -> None:
        self._readings = readings
        self._at_ns = [reading.at_ns for reading in readings]
        self._cores = cores

    @property
    def is_too_short(self) -> bool:
        """Whether too short a time was watched to say anything."""
        return not self._at_ns or self._at_ns[-1] - self._at_ns[0] < SHORTEST_S * 1e9

    def between(self, start_ns: int, end_ns: int) -> CpuShare | None:
        """The share around that time, wide enough to be exact to a twentieth of a core; None if that wasn't watched."""
        first = max(bisect.bisect_right(self._at_ns, start_ns - _MARGIN_NS) - 1, 0)
        last = min(bisect.bisect_left(self._at_ns, end_ns + _MARGIN_NS), len(self._at_ns) - 1)
        if last <= first or self._at_ns[first] > end_ns or self._at_ns[last] < start_ns:
            return None
        before, after = self._readings[first], self._readings[last]
        whole_ns = after.at_ns - before.at_ns
        if whole_ns < SHORTEST_S * 1e9:
            return None
        own = (after.own_ns - before.own_ns) / whole_ns
        return CpuShare(max((after.busy_ns - before.busy_ns) / whole_ns - own, 0.0), own, self._cores)


class CpuWatch:
    """Reads /proc/stat on a thread of its own while it is open; a context manager."""

    def __init__(
        self, clock: Callable[[], int] = time.perf_counter_ns, root: Path = Path("/"), interval_s: float = 0.1
    ) -> None:
        self._clock = clock
        self._path = root / "proc/stat"
        self._interval_s = interval_s
        self._readings: List[CpuReading] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cpu-watch", daemon=True)

    def use(self) -> CpuUse | None:
        """What was read so far; None where the kernel doesn't say."""
        return CpuUse(tuple(self._readings), os.cpu_count() or 1) if len(self._readings) > 1 else None

    def _watch(self) -> None:
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        try:
            with self._path.open("rb", buffering=0) as file:
                is_last = False
                while True:
                    busy_ns = busy_from_stat(file.read(1024), ticks_per_s)
                    self._readings.append(CpuReading(self._clock(), busy_ns, time.process_time_ns()))
                    if is_last:
                        return
                    is_last = self._stop.wait(self._interval_s)
                    file.seek(0)
        except (OSError, ValueError):
            self._readings.clear()

    def __enter__(self) -> CpuWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def busy_from_stat(text: bytes, ticks_per_s: int) -> int:
    """Nanoseconds in which cores were in use since boot, from the first line of /proc/stat.

    Raises:
        ValueError: it isn't such a line.
    """
    label, *words = text.partition(b"\n")[0].split()
    if label != b"cpu" or len(words) < 4:
        raise ValueError(f"expected the line of all cores, got {text[:40]!r}")
    ticks: Tuple[int, ...] = tuple(map(int, words))
    return sum(value for index, value in enumerate(ticks) if index not in _NOT_BUSY) * 1_000_000_000 // ticks_per_s

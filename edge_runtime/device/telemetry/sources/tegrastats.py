"""NVIDIA's tegrastats as a source: started, read line by line, and started again when it ends."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Callable, List

from edge_runtime.device.files import printable
from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.sources.child_process import LineChild
from edge_runtime.errors import TelemetryError

_NAME = "tegrastats"
_PLACES = ("usr/bin", "usr/sbin")
_MOST_RESTARTS = 8
_FIRST_PAUSE_NS = 100_000_000
_LONGEST_PAUSE_NS = 30_000_000_000
_HEALTHY_NS = 60_000_000_000
_HANGS_NS = 10_000_000_000
_HANGING_INTERVALS = 10
_LOOK_NS = 50_000_000
_SHOWN = 80


def find_tegrastats(root: Path = Path("/")) -> Path | None:
    """The program: that of PATH (for the machine's own root), else of /usr/bin or /usr/sbin below `root`."""
    on_path = shutil.which(_NAME) if root == Path("/") else None
    if on_path is not None:
        return Path(on_path)
    places = (root / place / _NAME for place in _PLACES)
    return next((path for path in places if path.is_file() and os.access(path, os.X_OK)), None)


class TegrastatsSource:
    """A tegrastats child, started by the first `read`, on the thread that reads.

    After it ended, or hung for 10 s and 10 intervals, it is started anew: at once, then after pauses that double from
    0.1 s to 30 s, 8 times at most until one has given samples for a minute. `parse` makes a sample of a
    line, None of what isn't one.
    """

    is_paced = True

    def __init__(
        self,
        path: Path,
        parse: Callable[[str], TelemetrySample | None],
        interval_s: float = 1.0,
        module: str = "",
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.origin = Origin(_NAME, module=module)
        self.restarts = 0
        self._path = path
        self._parse = parse
        self._interval_ns = round(interval_s * 1e9)
        self._clock = clock
        self._child: LineChild | None = None
        self._failures = 0
        self._start_ns: int | None = None
        self._heard_ns = 0
        self._quiet_until_ns = 0
        self._noise = ""
        self._is_closed = False

    def read(self, timeout_s: float) -> TelemetrySample | None:
        """The newest sample of what it printed; None if there was none in `timeout_s`.

        Raises:
            TelemetryError: it can't be started, ended, prints no samples, or ended too often.
        """
        deadline_ns = self._clock() + round(timeout_s * 1e9)
        while not self._is_closed:
            left_ns = deadline_ns - self._clock()
            pause_ns = self._pause_ns()
            if pause_ns > 0:  # before a restart, or what floods would take a whole core
                if left_ns <= 0:
                    return None
                time.sleep(min(pause_ns, left_ns, _LOOK_NS) / 1e9)
                continue
            child = self._child or self._started()
            lines = child.lines(max(0, left_ns) / 1e9)
            if lines is None:
                raise self._ended(child.last_words())
            sample = self._newest(lines)
            if sample is not None:
                return self._noted(sample)
            if left_ns <= 0:
                self._check_silence()
                return None
        return None

    def close(self) -> None:
        """Ends the child; what was started is gone when this returns."""
        self._is_closed = True
        self._drop()

    def _pause_ns(self) -> int:
        if self._child is None:
            return 0 if self._start_ns is None else self._start_ns - self._clock()
        return 0 if self._child.has_ended() else self._quiet_until_ns - self._clock()

    def _started(self) -> LineChild:
        if self._failures > _MOST_RESTARTS:
            raise TelemetryError(f"{self._path} ended {self._failures} times in a row and isn't started again")
        interval_ms = max(1, round(self._interval_ns / 1e6))
        try:
            self._child = LineChild(self._path, ["--interval", str(interval_ms)])
        except OSError as error:
            self._plan_restart()
            raise TelemetryError(f"{self._path} can't be started ({error.strerror})") from error
        self.restarts += self._start_ns is not None
        self._start_ns = self._heard_ns = self._clock()
        return self._child

    def _ended(self, words: str) -> TelemetryError:
        assert self._start_ns is not None
        if self._heard_ns - self._start_ns >= _HEALTHY_NS:
            self._failures = 0
        self._drop()
        self._plan_restart()
        return TelemetryError(f"{self._path} {words}")

    def _plan_restart(self) -> None:
        pause_ns = 0 if not self._failures else min(_FIRST_PAUSE_NS << (self._failures - 1), _LONGEST_PAUSE_NS)
        self._failures += 1
        self._start_ns = self._clock() + pause_ns

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _newest(self, lines: List[str]) -> TelemetrySample | None:
        """The last sample of the lines: those before it waited in the terminal, and nobody knows since when."""
        for line in reversed(lines):
            sample = self._parse(line)
            if sample is not None:
                return sample
            self._noise = line.strip() or self._noise
        return None

    def _noted(self, sample: TelemetrySample) -> TelemetrySample:
        self._noise = ""
        self._heard_ns = self._clock()
        self._quiet_until_ns = self._heard_ns + self._interval_ns // 2
        return sample

    def _check_silence(self) -> None:
        """Says what it prints instead of samples; one that hangs is ended, to be started anew."""
        silent_ns = self._clock() - self._heard_ns
        if self._noise and silent_ns >= 2 * self._interval_ns:
            text, self._noise = printable(self._noise)[:_SHOWN], ""
            raise TelemetryError(f"{self._path} prints lines that are no samples: {text!r}")
        if silent_ns >= max(_HANGS_NS, _HANGING_INTERVALS * self._interval_ns):
            raise self._ended(f"gave no sample for {silent_ns / 1e9:.0f} s and was ended")

"""A board that isn't there: its recording, played with the recording's own timing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Callable

from edge_runtime.device.files import printable, text_of
from edge_runtime.device.identity import identify
from edge_runtime.device.telemetry.module_hint import module_hint
from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.sampling import LONGEST_S, SHORTEST_S
from edge_runtime.device.telemetry.source import Origin, Source
from edge_runtime.device.telemetry.sources.recording import Recording, read_recording
from edge_runtime.device.telemetry.sources.sysfs import SysfsSource
from edge_runtime.errors import TelemetryError

REPLAY = "replay"
_LONGEST_NBYTES = 400


class ReplaySource:
    """Gives a recording's samples when they are due, over and over; a gap in it stays a gap.

    A reader that comes late by more than a sample gets the next one at once, and the rest as much later: none are
    skipped, and none come in a burst.

    Args:
        speed: how many times as fast as it was recorded.
        clock: ns, monotonic.
        wait: waits for so many seconds, and tells whether the source was closed meanwhile.
    """

    is_paced = True

    def __init__(
        self,
        recording: Recording,
        speed: float = 1.0,
        clock: Callable[[], int] = time.perf_counter_ns,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        pace = "" if speed == 1 else f", at {speed:g} times its speed"
        module = module_hint(recording.samples[0]) or ""
        self.origin = Origin(f"{REPLAY} in a loop{pace}", recording.name, recording.made_up, module)
        self.interval_s = max(SHORTEST_S, recording.interval_s / speed)
        self._recording = recording
        self._speed = speed
        self._clock = clock
        self._closed = threading.Event()
        self._wait = self._closed.wait if wait is None else wait
        self._index = 0
        self._due_ns: float | None = None

    def read(self, timeout_s: float) -> TelemetrySample | None:
        """The next sample, when it is due; None if that isn't within `timeout_s`, or if the source was closed."""
        now_ns = self._clock()
        if self._due_ns is None or now_ns - self._due_ns > self.interval_s * 1e9:
            self._due_ns = now_ns
        left_s = (self._due_ns - now_ns) / 1e9
        if left_s > timeout_s:
            self._wait(timeout_s)
            return None
        if (left_s > 0 and self._wait(left_s)) or self._closed.is_set():
            return None
        sample = self._recording.samples[self._index]
        self._due_ns += self._step_s() * 1e9
        self._index = (self._index + 1) % len(self._recording.samples)
        return sample

    def close(self) -> None:
        """Ends a wait; idempotent."""
        self._closed.set()

    def _step_s(self) -> float:
        """From this sample to the next; from the last one to the first it is the usual interval."""
        times_s = self._recording.times_s
        if self._index + 1 == len(times_s):
            return self.interval_s
        return (times_s[self._index + 1] - times_s[self._index]) / self._speed


class TreeSource:
    """Reads a folder that looks like a board's /, with /sys and /proc in it, whenever it is asked.

    A file `made_up` in it says what no board ever measured.
    """

    is_paced = False

    def __init__(self, root: Path) -> None:
        self._source: Source = SysfsSource(root)
        made_up = printable(text_of(root / "made_up", _LONGEST_NBYTES)) or None
        name, module = printable(root.resolve().name), identify(root).module
        self.origin = Origin(f"{REPLAY} of a tree", name, made_up, module)

    def read(self, timeout_s: float) -> TelemetrySample | None:
        """What the tree says now."""
        return self._source.read(timeout_s)

    def close(self) -> None:
        """Ends what reading holds; idempotent."""
        self._source.close()


def replay_source(path: Path, speed: float = 1.0) -> Source:
    """What plays `path`: a log of tegrastats, JSON lines, or a folder that is a tree like a board's /.

    Raises:
        TelemetryError: there is no recording there, no sample in it, or they would come too slowly.
    """
    if not path.is_dir():
        played = ReplaySource(read_recording(path), speed)
        if played.interval_s > LONGEST_S:
            raise TelemetryError(
                f"{path}: a sample every {played.interval_s:g} s at {speed:g} times its speed; "
                f"expected {LONGEST_S:g} s at most: take a higher speed, as in replay@10:FILE"
            )
        return played
    source = TreeSource(path)
    try:
        source.read(0.0)
    except TelemetryError:
        source.close()
        raise TelemetryError(
            f"{path}: nothing of a board in this folder; expected sys and proc in it, as in a board's /"
        ) from None
    return source

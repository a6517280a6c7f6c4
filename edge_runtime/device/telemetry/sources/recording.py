"""What a board told once: a log of tegrastats, or the lines that `edge-runtime telemetry watch --json` writes."""

from __future__ import annotations

import json
import math
import stat
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from edge_runtime.device.files import printable
from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.sample_json import sample_from_record
from edge_runtime.device.telemetry.tegrastats.log import read_log
from edge_runtime.device.telemetry.tegrastats.log_lines import check_form, without_mark
from edge_runtime.errors import DataError, TelemetryError

_MAX_NBYTES = 16 << 20
_ASSUMED_S = 1.0
_SHORTEST_S = 0.001
_LONGEST_S = 86_400.0  # a step beyond that is a clock that was set: a board without a battery begins in 1970


@dataclass(frozen=True)
class Recording:
    """Samples and when each was taken, in seconds since the first; times never go back.

    `made_up` says what in it no board ever measured, None if nothing is known to be.
    """

    name: str
    samples: Tuple[TelemetrySample, ...]
    times_s: Tuple[float, ...]
    made_up: str | None = None

    @property
    def interval_s(self) -> float:
        """The usual time between two samples: the median; 1 s where there is but one."""
        steps = [later - earlier for earlier, later in zip(self.times_s, self.times_s[1:])]
        return max(_SHORTEST_S, statistics.median(steps)) if steps else _ASSUMED_S


def read_recording(path: Path) -> Recording:
    """The recording in a file; lines that aren't samples are left out.

    Raises:
        TelemetryError: it can't be read, is too large, or has no sample.
    """
    data = without_mark(_content(path))
    check_form(data, str(path), "> FILE")
    name = printable(path.name)
    lines = data.decode(errors="replace").splitlines()
    recording = _from_json_lines(name, [line for line in lines if line.lstrip().startswith("{")])
    if not recording.samples:
        recording = _from_log(name, lines)
    if not recording.samples:
        raise TelemetryError(
            f"{path}: no sample in {len(lines)} lines; expected a log of tegrastats, "
            "or what `edge-runtime telemetry watch --json` writes"
        )
    return recording


def _content(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TelemetryError(f"{path}: not a file; expected a recording, or the folder of a tree like a board's /")
        if status.st_size > _MAX_NBYTES:
            raise TelemetryError(
                f"{path}: {status.st_size} bytes; a recording has at most {_MAX_NBYTES}: cut out what matters"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise TelemetryError(f"{str(path)!r}: the recording can't be read ({why})") from None


def _from_log(name: str, lines: Sequence[str]) -> Recording:
    reading = read_log(lines)
    breaks = {*reading.run_starts, *reading.lost_before, *reading.gap_lines}
    starts = [index for index, line in enumerate(reading.lines) if index == 0 or line in breaks]
    return Recording(name, reading.samples, _forward(_evened(reading.times_s, starts)))


def _evened(times_s: Sequence[float], starts: Sequence[int]) -> List[float]:
    """The times, evenly spaced from each start to the next: tegrastats is steady, and its stamps have whole seconds."""
    found: List[float] = []
    for first, end in zip(starts, [*starts[1:], len(times_s)]):
        step_s = (times_s[end - 1] - times_s[first]) / max(1, end - 1 - first)
        found += [times_s[first] + step_s * index for index in range(end - first)]
    return found


def _from_json_lines(name: str, lines: Sequence[str]) -> Recording:
    samples: List[TelemetrySample] = []
    times_s: List[float] = []
    made_up: Dict[str, None] = {}
    for line in lines:
        entry = _entry(line)
        if entry is None:
            continue
        at_s, sample, said = entry
        samples.append(sample)
        times_s.append(at_s)
        if said:
            made_up[said] = None
    return Recording(name, tuple(samples), _forward(times_s), "; ".join(made_up) or None)


def _entry(line: str) -> Tuple[float, TelemetrySample, str] | None:
    """A line's time, sample, and what of it is said to be made up; None if it isn't a sample."""
    try:
        content: Any = json.loads(line)
        at_s, said = content["at_s"], content.get("made_up")
        if isinstance(at_s, bool) or not isinstance(at_s, (int, float)) or not math.isfinite(at_s):
            return None
        if "\\u" in line:  # half a character has no place on a page
            json.dumps(content, ensure_ascii=False).encode()
        return float(at_s), sample_from_record(content["sample"]), printable(str(said)) if said else ""
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, DataError):
        return None


def _forward(times_s: Sequence[float]) -> Tuple[float, ...]:
    """Seconds since the first; where a clock was set, back or by days, it goes on after the usual interval."""
    steps = [later - earlier for earlier, later in zip(times_s, times_s[1:])]
    onward = [step for step in steps if 0 < step <= _LONGEST_S]
    usual_s = statistics.median(onward) if onward else _ASSUMED_S
    at_s, found = 0.0, [0.0] if times_s else []
    for step in steps:
        at_s += max(_SHORTEST_S, step if 0 < step <= _LONGEST_S else usual_s)
        found.append(at_s)
    return tuple(found)

"""A whole log of tegrastats: its samples, what in it is none, the runs in it, and when each sample was taken."""

from __future__ import annotations

import collections
import re
from array import array
from dataclasses import dataclass
from typing import Iterable, List, Mapping, Tuple

from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.tegrastats.line import sample_from_line
from edge_runtime.device.telemetry.tegrastats.log_averages import Place, RunWatch
from edge_runtime.device.telemetry.tegrastats.log_times import Timeline, seconds_of, timeline_from_stamps

_NAME = re.compile(r"[^ @]{1,64}")
_MOST_NAMES = 1000
OTHER_NAMES = "(others)"


class LogNotes:
    """What a log tells beside its samples, noted line by line; it keeps no sample."""

    def __init__(self) -> None:
        self.n_lines = 0
        self.n_samples = 0
        self.noise_lines = array("q")
        self.run_starts: List[int] = []
        self.lost_before: List[int] = []
        self.unknown: collections.Counter[str] = collections.Counter()
        self.sample_lines = array("q")
        self.stamps_s: List[int | None] = []
        self._runs = RunWatch()

    def add(self, line: str) -> TelemetrySample | None:
        """Takes the next line in; its sample, or None if it is noise."""
        return self.note(sample_from_line(line))

    def note(self, sample: TelemetrySample | None) -> TelemetrySample | None:
        """Takes in what the next line gave."""
        self.n_lines += 1
        if sample is None:
            self.noise_lines.append(self.n_lines)
            return None
        self.n_samples += 1
        self.sample_lines.append(self.n_lines)
        self.stamps_s.append(seconds_of(sample.timestamp))
        self._place(sample)
        for word in sample.unknown:
            found = _NAME.match(word)
            name = word[:64] if found is None else found.group()
            is_new = name not in self.unknown and len(self.unknown) >= _MOST_NAMES
            self.unknown[OTHER_NAMES if is_new else name] += 1
        return sample

    def timeline(self, interval_s: float = 1.0) -> Timeline:
        """When the samples so far were taken."""
        return timeline_from_stamps(self.stamps_s, interval_s)

    def _place(self, sample: TelemetrySample) -> None:
        place = self._runs.place_of(sample)
        if place is Place.START:
            self.run_starts.append(self.n_lines)
        elif place is Place.AFTER_LOSS:
            self.lost_before.append(self.n_lines)


@dataclass(frozen=True)
class LogReading:
    """A log read whole; lines are numbered from 1.

    `lines` has the line of each sample. `run_starts` are lines where a tegrastats process starts (the first may be in
    the middle of a run), `lost_before` lines whose averages tell that some before them are missing, `gap_lines` those
    that come after a gap in time. `unknown` counts words that weren't understood, by name.
    """

    n_lines: int
    samples: Tuple[TelemetrySample, ...]
    lines: Tuple[int, ...]
    noise_lines: Tuple[int, ...]
    unknown: Mapping[str, int]
    run_starts: Tuple[int, ...]
    lost_before: Tuple[int, ...]
    timeline: Timeline

    @property
    def times_s(self) -> Tuple[float, ...]:
        """Each sample's seconds since the first; `timeline.note` says how they are known."""
        return self.timeline.times_s

    @property
    def gap_lines(self) -> Tuple[int, ...]:
        """The lines of samples that come after a gap."""
        return tuple(self.lines[index] for index in self.timeline.gaps)


def read_log(lines: Iterable[str], interval_s: float = 1.0) -> LogReading:
    """Reads a log whole.

    Args:
        lines: with or without their line ends.
        interval_s: seconds a sample, used only where the log has no stamps.
    """
    notes = LogNotes()
    samples = tuple(sample for sample in map(notes.add, lines) if sample is not None)
    return LogReading(
        n_lines=notes.n_lines,
        samples=samples,
        lines=tuple(notes.sample_lines),
        noise_lines=tuple(notes.noise_lines),
        unknown=dict(notes.unknown),
        run_starts=tuple(notes.run_starts),
        lost_before=tuple(notes.lost_before),
        timeline=notes.timeline(interval_s),
    )

"""What was seen while calls were timed, and what it says of one moment."""

from __future__ import annotations

import bisect
import statistics
from dataclasses import dataclass, field
from typing import List, Sequence, Tuple

import numpy as np

from edge_runtime.device.telemetry.sample import Number, Stamped, TelemetrySample
from edge_runtime.device.telemetry.throttling import ThrottleSpan
from edge_runtime.profiler.cpu_watch import CpuShare, CpuUse
from edge_runtime.profiler.gc_watch import GcPause

_BELOW = 0.95
_RISING = 1.02


@dataclass(frozen=True)
class Evidence:
    """Samples in order, spans in which the board throttled, pauses in order, and the use of the cores.

    `uses_gpu`: the clock of the GPU matters to these calls. `replayed`: what the board says is, where it was not
    measured here (`replayed_words`).
    """

    samples: Sequence[Stamped] = ()
    throttled: Sequence[ThrottleSpan] = ()
    pauses: Sequence[GcPause] = ()
    cpu: CpuUse | None = None
    uses_gpu: bool = True
    replayed: str = ""


@dataclass(frozen=True)
class ClockRamp:
    """A clock that was below its plateau, and higher in the next sample."""

    part: str
    mhz: float
    next_mhz: float
    plateau_mhz: float


@dataclass
class EvidenceIndex:
    """Finds in the evidence what belongs to one stretch of time."""

    evidence: Evidence
    _sample_ns: List[int] = field(init=False)
    _pause_ends_ns: List[int] = field(init=False)
    _clocks: List[Tuple[str, List[Number | None], float]] = field(init=False)

    def __post_init__(self) -> None:
        samples = self.evidence.samples
        self._sample_ns = [stamped.at_ns for stamped in samples]
        self._pause_ends_ns = [pause.end_ns for pause in self.evidence.pauses]
        gaps_ns = [after - before for before, after in zip(self._sample_ns, self._sample_ns[1:])]
        self._far_ns = 2 * statistics.median(gaps_ns) if gaps_ns else 0
        parts = (("GPU", gpu_mhz), ("CPU", cpu_mhz)) if self.evidence.uses_gpu else (("CPU", cpu_mhz),)
        self._clocks = []
        for part, clock_of in parts:
            clocks = [clock_of(stamped.sample) for stamped in samples]
            known = [mhz for mhz in clocks if mhz is not None]
            if known:
                self._clocks.append((part, clocks, float(np.percentile(known, 90))))

    def throttled(self, start_ns: int, end_ns: int) -> List[ThrottleSpan]:
        """The spans of throttling that overlap."""
        return [span for span in self.evidence.throttled if span.from_ns <= end_ns and span.to_ns >= start_ns]

    def ramp(self, start_ns: int, end_ns: int) -> ClockRamp | None:
        """A clock below its plateau and rising in the sample nearest to that time."""
        middle_ns = (start_ns + end_ns) // 2
        after = bisect.bisect_left(self._sample_ns, middle_ns)
        near = min(
            (index for index in (after - 1, after) if 0 <= index < len(self._sample_ns)),
            key=lambda index: abs(self._sample_ns[index] - middle_ns),
            default=None,
        )
        if near is None or not _is_near(self._sample_ns[near], start_ns, end_ns, self._far_ns):
            return None
        for part, clocks, plateau in self._clocks:
            now, later = clocks[near], next((mhz for mhz in clocks[near + 1 :] if mhz is not None), None)
            if now is not None and later is not None and now < _BELOW * plateau and later > _RISING * now:
                return ClockRamp(part, now, later, plateau)
        return None

    def pauses_within(self, start_ns: int, end_ns: int) -> Tuple[int, List[GcPause]]:
        """How much of that time was collecting garbage, and the collections."""
        first = bisect.bisect_right(self._pause_ends_ns, start_ns)
        found: List[GcPause] = []
        for pause in self.evidence.pauses[first:]:
            if pause.start_ns >= end_ns:
                break
            found.append(pause)
        return sum(min(p.end_ns, end_ns) - max(p.start_ns, start_ns) for p in found), found

    def cpu(self, start_ns: int, end_ns: int) -> CpuShare | None:
        """The use of the cores around that time."""
        return None if self.evidence.cpu is None else self.evidence.cpu.between(start_ns, end_ns)


def gpu_mhz(sample: TelemetrySample) -> Number | None:
    """The highest clock of the GPU's clusters."""
    gpu = sample.gr3d
    return None if gpu is None or not gpu.freq_mhz else max(gpu.freq_mhz)


def cpu_mhz(sample: TelemetrySample) -> Number | None:
    """The highest clock of all cores that are on."""
    known = [cpu.freq_mhz for cpu in sample.cpus or () if cpu is not None and cpu.freq_mhz is not None]
    return max(known, default=None)


def _is_near(at_ns: int, start_ns: int, end_ns: int, far_ns: float) -> bool:
    return start_ns - far_ns <= at_ns <= end_ns + far_ns

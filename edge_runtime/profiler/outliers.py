"""Why a call took longer than others: each outlier has one cause, the first of the list that the evidence shows.

1. gc: collections of garbage within the call explain half of the excess.
2. throttle: the board throttled during the call, for heat or for a reason that only its clocks show.
3. over-current: a counter of over-current or under-voltage rose between the samples around the call.
4. clock ramp: the clock of the GPU or CPU was below the plateau of the timed phase, and rising, by so much that it
   explains half of the excess.
5. queue: so does its wait while all callers were busy, beyond the usual.
6. other load: so does its thread's wait for a core, beyond the usual, while others used cores; or others used them all,
   and in that time took half of the excess.
7. unknown.

The excess is what the call took beyond the median. The board comes before waits, for what it does makes these longer.
What it did during most of the calls is no cause: the median has it too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from edge_runtime.device.telemetry.throttle_signals import UNDER_VOLTAGE
from edge_runtime.device.telemetry.throttling import ThrottleSpan
from edge_runtime.profiler.calls import CallTable
from edge_runtime.profiler.cpu_watch import CpuShare
from edge_runtime.profiler.evidence import Evidence, EvidenceIndex
from edge_runtime.profiler.stages import ARRIVAL, END

THROTTLE, OVER_CURRENT, CLOCK_RAMP, GC, QUEUED, OTHER_LOAD, UNKNOWN = CAUSES = (
    "throttle",
    "over-current",
    "clock ramp",
    "gc",
    "queue",
    "other load",
    "unknown",
)

OF_THE_BOARD = (THROTTLE, OVER_CURRENT, CLOCK_RAMP)

_FACTOR = 1.5
_CURRENT = (OVER_CURRENT, UNDER_VOLTAGE)
_HARDLY_ANY_CORES = 0.05


@dataclass(frozen=True)
class Call:
    """One call as the evidence is held against it, in nanoseconds; `usual` are the medians of all calls.

    `queued_ns` and `run_delay_ns` are what goes beyond the usual; the latter is None where the kernel doesn't say.
    """

    index: int
    start_ns: int
    end_ns: int
    excess_ns: int
    queued_ns: int
    run_delay_ns: int | None
    stages_ns: Mapping[str, int]
    usual_ns: Mapping[str, int]

    @property
    def median_ns(self) -> int:
        """What calls usually take."""
        return self.end_ns - self.start_ns - self.excess_ns

    def explains(self, taken_ns: float) -> bool:
        """Whether that is half of the excess at least."""
        return 2 * taken_ns >= self.excess_ns


@dataclass(frozen=True)
class Outlier:
    """A call above the threshold: its number, when it should have begun, how long it took, and why."""

    index: int
    at_ns: int
    latency_ns: int
    cause: str
    detail: str


@dataclass(frozen=True)
class Outliers:
    """All calls above the threshold, in the order of their arrival."""

    threshold_ns: int
    found: Tuple[Outlier, ...]

    def by_cause(self) -> Dict[str, int]:
        """How many have each cause."""
        counts = dict.fromkeys(CAUSES, 0)
        for outlier in self.found:
            counts[outlier.cause] += 1
        return counts


def explained_outliers(calls: CallTable, evidence: Evidence) -> Outliers:
    """Every call above 1.5 times the median, with its cause."""
    latency_ns, median_ns = calls.latency_ns, int(np.median(calls.latency_ns))
    threshold_ns = round(_FACTOR * median_ns)
    stages = calls.stage_ns()
    usual = {name: int(np.median(taken)) for name, taken in stages.items()}
    queued_ns = calls.queued_ns
    usual_queued_ns, usual_delay_ns = int(np.median(queued_ns)), int(np.median(calls.run_delay_ns))
    index, found = EvidenceIndex(replace(evidence, throttled=_passing(evidence.throttled, calls))), []
    for number in np.flatnonzero(latency_ns > threshold_ns).tolist():
        delay_ns = int(calls.run_delay_ns[number])
        call = Call(
            index=number,
            start_ns=int(calls.stamps[number, ARRIVAL]),
            end_ns=int(calls.stamps[number, END]),
            excess_ns=int(latency_ns[number]) - median_ns,
            queued_ns=int(queued_ns[number]) - usual_queued_ns,
            run_delay_ns=None if min(delay_ns, usual_delay_ns) < 0 else delay_ns - usual_delay_ns,
            stages_ns={name: int(taken[number]) for name, taken in stages.items()},
            usual_ns=usual,
        )
        cause, detail = cause_of(call, index)
        found.append(Outlier(number, call.start_ns, int(latency_ns[number]), cause, detail))
    return Outliers(threshold_ns, tuple(found))


def _passing(spans: Sequence[ThrottleSpan], calls: CallTable) -> List[ThrottleSpan]:
    """Without the spans of what acted during half of the time of all calls or more."""
    start_ns, end_ns = int(calls.stamps[:, ARRIVAL].min()), int(calls.stamps[:, END].max())
    lasted_ns: Dict[Tuple[str, str], int] = {}
    for span in spans:
        within_ns = min(span.to_ns, end_ns) - max(span.from_ns, start_ns)
        key = (span.cause, span.where)
        lasted_ns[key] = lasted_ns.get(key, 0) + max(0, within_ns)
    return [span for span in spans if 2 * lasted_ns[span.cause, span.where] < end_ns - start_ns]


def cause_of(call: Call, evidence: EvidenceIndex) -> Tuple[str, str]:
    """The first cause that the evidence shows, and a sentence on it."""
    for cause, shown in _ORDER:
        detail = shown(call, evidence)
        if detail is not None:
            words = evidence.evidence.replayed if cause in OF_THE_BOARD else ""
            return cause, f"{detail} ({words}: not this machine's board)" if words else detail
    return UNKNOWN, _unexplained(call, evidence)


def _throttle(call: Call, evidence: EvidenceIndex) -> str | None:
    spans = [span for span in evidence.throttled(call.start_ns, call.end_ns) if span.cause not in _CURRENT]
    return f"{spans[0].cause} throttling, {spans[0].where}: {spans[0].detail}" if spans else None


def _over_current(call: Call, evidence: EvidenceIndex) -> str | None:
    spans = [span for span in evidence.throttled(call.start_ns, call.end_ns) if span.cause in _CURRENT]
    return f"{spans[0].cause}, {spans[0].where}: {spans[0].detail}" if spans else None


def _clock_ramp(call: Call, evidence: EvidenceIndex) -> str | None:
    ramp = evidence.ramp(call.start_ns, call.end_ns)
    if ramp is None or (ramp.mhz and not call.explains((ramp.plateau_mhz / ramp.mhz - 1) * call.median_ns)):
        return None
    return f"the {ramp.part} ran at {ramp.mhz:g} MHz and rose to {ramp.next_mhz:g}; its plateau is {ramp.plateau_mhz:g}"


def _gc(call: Call, evidence: EvidenceIndex) -> str | None:
    paused_ns, pauses = evidence.pauses_within(call.start_ns, call.end_ns)
    if not pauses or not call.explains(paused_ns):
        return None
    oldest = max(pause.generation for pause in pauses)
    return f"collecting garbage (generation {oldest}) took {_ms(paused_ns)} of the {_ms(call.excess_ns)} beyond p50"


def _queue(call: Call, evidence: EvidenceIndex) -> str | None:  # noqa: ARG001  (of a table)
    if call.queued_ns <= 0 or not call.explains(call.queued_ns):
        return None
    return f"it waited {_ms(call.queued_ns)} longer than usual while all callers were busy with earlier calls"


def _other_load(call: Call, evidence: EvidenceIndex) -> str | None:
    share = evidence.cpu(call.start_ns, call.end_ns)
    delay_ns = call.run_delay_ns
    if delay_ns is not None and delay_ns > 0 and call.explains(delay_ns):
        if share is None:
            return f"its thread waited {_ms(delay_ns)} longer than usual for a core"
        if share.others >= _HARDLY_ANY_CORES:
            return f"its thread waited {_ms(delay_ns)} longer than usual for a core; {_share_text(share)}"
    if share is None or not share.is_full or not call.explains(share.others * (call.end_ns - call.start_ns)):
        return None
    return f"no core was free: {_share_text(share)}"


_ORDER: Tuple[Tuple[str, Callable[[Call, EvidenceIndex], str | None]], ...] = (
    (GC, _gc),
    (THROTTLE, _throttle),
    (OVER_CURRENT, _over_current),
    (CLOCK_RAMP, _clock_ramp),
    (QUEUED, _queue),
    (OTHER_LOAD, _other_load),
)


def _unexplained(call: Call, evidence: EvidenceIndex) -> str:
    """Where the time went, what was seen that isn't enough, and what nobody watched."""
    name = max(call.stages_ns, key=lambda stage: call.stages_ns[stage] - call.usual_ns[stage])
    parts: List[str] = [f"{name} took {_ms(call.stages_ns[name])}, where the median is {_ms(call.usual_ns[name])}"]
    share = evidence.cpu(call.start_ns, call.end_ns)
    if call.run_delay_ns is not None and call.run_delay_ns > 0 and call.explains(call.run_delay_ns):
        parts.append(
            f"its thread waited {_ms(call.run_delay_ns)} longer than usual for a core, though others used hardly any: "
            "this process may have more threads than cores"
        )
    unwatched = [
        name
        for name, is_missing in (
            ("the board (clocks, heat, current)", not evidence.evidence.samples),
            ("waits for a core", call.run_delay_ns is None),
            ("the load of others", share is None),
        )
        if is_missing
    ]
    if unwatched:
        parts.append(f"not watched: {', '.join(unwatched)}")
    return "; ".join(parts)


def _share_text(share: CpuShare) -> str:
    return f"others used {share.others:.2f} of {share.cores} cores, this process {share.own:.2f}"


def _ms(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.3f} ms"

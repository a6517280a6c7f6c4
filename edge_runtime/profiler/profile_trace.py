"""A profile as a trace of Chrome's format, for Perfetto: calls and their stages, layers, and what the board did."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.device.telemetry.throttling import ThrottleSpan
from edge_runtime.profiler.calls import CallTable
from edge_runtime.profiler.distribution import thinned
from edge_runtime.profiler.evidence import cpu_mhz, gpu_mhz
from edge_runtime.profiler.gc_watch import GcPause
from edge_runtime.profiler.outliers import Outlier
from edge_runtime.profiler.profile_report import ProfileReport, slowest
from edge_runtime.profiler.replayed import replayed_words
from edge_runtime.profiler.stages import ARRIVAL, END, QUEUE, START, stage_spans

Event = Dict[str, Any]

_CALLS, _LAYERS, _BOARD = 1, 2, 3
_GC_TRACK = 100_000
_MOST_CALLS = 100_000
_METADATA = ("target", "settings", "input", "environment", "load", "not_measured")


def profile_trace(report: ProfileReport) -> Dict[str, Any]:
    """The trace as an object: events sorted by time, in microseconds since the timed phase began.

    Above 100,000 calls some are left out, which `metadata` says; the slowest outliers never are.
    """
    timed = report.timed
    start_ns, calls = timed.load.start_ns, timed.load.calls
    outliers = slowest(report.outliers.found, _MOST_CALLS // 2)
    chosen = thinned(len(calls), np.array([outlier.index for outlier in outliers], dtype=np.int64), _MOST_CALLS)
    events = [
        *call_events(calls, chosen, start_ns),
        *outlier_events(outliers, calls, start_ns),
        *pause_events(timed.pauses, start_ns),
        *throttle_events(report.throttled, start_ns),
        *counter_events(timed.samples, start_ns),
        *_layer_events(report, timed.load.elapsed_ns / 1e3),
    ]
    first_us = min((event["ts"] for event in events), default=0.0)
    for event in events:
        event["ts"] = round(event["ts"] - min(first_us, 0.0), 3)
    events.sort(key=lambda event: (event["ts"], -event.get("dur", 0.0)))
    record, origin = report.record(), report.board.origin
    notes = [f"power, heat, clocks and throttling: {report.board.label}"] if replayed_words(origin) else []
    notes += ["layers were timed apart, in runs of their own after the timed phase"] if report.layers else []
    if len(chosen) < len(calls):
        notes.append(f"{len(chosen):,} of {len(calls):,} calls are in this trace, all listed outliers among them")
    return {
        "traceEvents": [*_names(calls, report.throttled, bool(report.layers), origin), *events],
        "displayTimeUnit": "ms",
        "metadata": {**{key: record[key] for key in _METADATA}, "board": origin, "notes": notes},
    }


def call_events(calls: CallTable, chosen: Any, start_ns: int) -> Iterator[Event]:
    """A slice for each chosen call on its caller's track, its stages within; waiting for a caller lies beside it."""
    spans = [span for span in stage_spans(calls.tells_submission) if span[1] != ARRIVAL]
    for number in chosen.tolist():
        stamps = ((calls.stamps[number] - start_ns) / 1e3).tolist()
        track = {"pid": _CALLS, "tid": int(calls.callers[number]) + 1}
        if stamps[ARRIVAL] < stamps[START]:
            waiting = {"cat": QUEUE, "name": QUEUE, "id": number, "pid": _CALLS, "tid": track["tid"]}
            yield {"ph": "b", "ts": stamps[ARRIVAL], **waiting}
            yield {"ph": "e", "ts": stamps[START], **waiting}
        yield _slice(f"call {number + 1}", "call", (stamps[START], stamps[END]), track)
        for name, first, last in spans:
            yield _slice(name, "stage", (stamps[first], stamps[last]), track)


def outlier_events(outliers: Sequence[Outlier], calls: CallTable, start_ns: int) -> Iterator[Event]:
    """A mark where each outlier began, with its cause."""
    for outlier in outliers:
        yield {
            "ph": "i",
            "s": "t",
            "pid": _CALLS,
            "tid": int(calls.callers[outlier.index]) + 1,
            "ts": (int(calls.stamps[outlier.index, START]) - start_ns) / 1e3,
            "name": f"outlier: {outlier.cause}",
            "cat": "outlier",
            "args": {"detail": outlier.detail, "latency_ms": outlier.latency_ns / 1e6, "call": outlier.index + 1},
        }


def pause_events(pauses: Sequence[GcPause], start_ns: int) -> Iterator[Event]:
    """A slice for each collection of garbage."""
    track = {"pid": _CALLS, "tid": _GC_TRACK}
    for pause in pauses:
        span = (pause.start_ns - start_ns) / 1e3, (pause.end_ns - start_ns) / 1e3
        yield _slice(f"generation {pause.generation}", "gc", span, track)


def throttle_events(spans: Sequence[ThrottleSpan], start_ns: int) -> Iterator[Event]:
    """A slice for each span of throttling, one track for each place and cause."""
    tracks = _throttle_tracks(spans)
    for span in spans:
        track = {"pid": _BOARD, "tid": tracks[span.cause, span.where]}
        times = (span.from_ns - start_ns) / 1e3, (span.to_ns - start_ns) / 1e3
        yield {**_slice(span.cause, "throttle", times, track), "args": {"where": span.where, "detail": span.detail}}


def counter_events(samples: Sequence[Stamped], start_ns: int) -> Iterator[Event]:
    """Power of each rail, temperature of each zone, clocks and load of each sample; what isn't known is left out."""
    for stamped in samples:
        ts, look = (stamped.at_ns - start_ns) / 1e3, stamped.sample
        values: List[Tuple[str, str, Any]] = [
            *((f"power {name}", "mW", rail.cur_mw) for name, rail in look.power_mw.items()),
            ("power total", "mW", None if look.total_power is None else look.total_power.cur_mw),
            *((f"temperature {name}", "°C", c) for name, c in look.temps_c.items() if name not in look.constants),
            ("GPU clock", "MHz", gpu_mhz(look)),
            ("CPU clock", "MHz", cpu_mhz(look)),
            ("GPU load", "%", None if look.gr3d is None else look.gr3d.load_pct),
        ]
        for name, unit, value in values:
            if value is not None:
                yield {"ph": "C", "pid": _BOARD, "ts": ts, "name": name, "args": {unit: value}}


def _layer_events(report: ProfileReport, after_us: float) -> Iterator[Event]:
    if report.layers is None:
        return
    for event in report.layers.trace({})["traceEvents"]:
        if event["ph"] != "M":
            yield {**event, "pid": _LAYERS, "ts": event["ts"] + after_us}


def _slice(name: str, category: str, span: Tuple[float, float], track: Mapping[str, int]) -> Event:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "ts": span[0],
        "dur": max(round(span[1] - span[0], 3), 0.0),
        **track,
    }


def _throttle_tracks(spans: Sequence[ThrottleSpan]) -> Dict[Tuple[str, str], int]:
    kinds = dict.fromkeys((span.cause, span.where) for span in spans)
    return {kind: number + 1 for number, kind in enumerate(kinds)}


def _names(
    calls: CallTable, spans: Sequence[ThrottleSpan], has_layers: bool, origin: Mapping[str, Any]
) -> Iterator[Event]:
    """What processes and tracks are called."""
    board = f"board ({origin['label']})" if replayed_words(origin) else "board"
    processes = {_CALLS: "calls", _BOARD: board, **({_LAYERS: "layers"} if has_layers else {})}
    threads = {(_CALLS, number + 1): f"caller {number + 1}" for number in np.unique(calls.callers).tolist()}
    threads[_CALLS, _GC_TRACK] = "garbage collection"
    threads.update({(_LAYERS, 1): "runs and layers"} if has_layers else {})
    threads.update(
        {(_BOARD, tid): f"throttling: {cause} ({where})" for (cause, where), tid in _throttle_tracks(spans).items()}
    )
    for pid, name in processes.items():
        yield {"ph": "M", "pid": pid, "tid": 0, "ts": 0, "name": "process_name", "args": {"name": name}}
    for (pid, tid), name in threads.items():
        yield {"ph": "M", "pid": pid, "tid": tid, "ts": 0, "name": "thread_name", "args": {"name": name}}

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from fakes.stamped_calls import MS, table

from edge_runtime.device.telemetry.sample import Cpu, Gpu, Rail, Stamped, TelemetrySample, TotalPower
from edge_runtime.device.telemetry.throttling import ThrottleSpan
from edge_runtime.profiler.calls import CallTable
from edge_runtime.profiler.gc_watch import GcPause
from edge_runtime.profiler.load import Load, run_load
from edge_runtime.profiler.outliers import Outlier
from edge_runtime.profiler.profile_trace import (
    call_events,
    counter_events,
    outlier_events,
    pause_events,
    throttle_events,
)
from edge_runtime.profiler.stages import ARRIVAL, END, START, WIDTH


def events_of(calls):
    return list(call_events(calls, np.arange(len(calls)), 0))


def nested(events):
    """The tracks' slices as Perfetto nests them: each with those that lie within it; fails where two only overlap."""
    tracks, roots = defaultdict(list), []
    for event in sorted((e for e in events if e["ph"] == "X"), key=lambda e: (e["ts"], -e["dur"])):
        open_ones = tracks[event["pid"], event["tid"]]
        while open_ones and open_ones[-1]["ts"] + open_ones[-1]["dur"] <= event["ts"] + 1e-6:
            open_ones.pop()
        if open_ones:
            assert event["ts"] + event["dur"] <= open_ones[-1]["ts"] + open_ones[-1]["dur"] + 1e-6
            open_ones[-1].setdefault("within", []).append(event["name"])
        else:
            roots.append(event)
        open_ones.append(event)
    return roots


def random_calls(tells_submission):
    rng = np.random.default_rng(5)
    stamps = np.zeros((20, WIDTH), np.int64)
    stamps[:, ARRIVAL : END + 1] = np.cumsum(rng.integers(1, 5 * MS, (20, END + 1)).ravel()).reshape(20, -1)
    return CallTable(stamps, np.zeros(20, np.int32), tells_submission)


@pytest.mark.parametrize(
    ("tells_submission", "stages"),
    [
        (True, ["parse", "queue", "copy in", "enqueue", "compute", "copy out", "frame"]),
        (False, ["parse", "queue", "copy in", "compute", "copy out", "frame"]),
    ],
)
def test_every_call_is_a_slice_with_its_stages_within(tells_submission, stages):
    roots = nested(events_of(random_calls(tells_submission)))
    assert [root["name"] for root in roots] == [f"call {number + 1}" for number in range(20)]
    assert all(root["within"] == stages for root in roots)


def test_waits_for_a_caller_lie_beside_the_calls_for_they_overlap():
    calls = table([2.0, 4.0, 6.0], queued_ms={1: 2.0, 2: 4.0})
    events = events_of(calls)
    waits = [(e["ph"], e["id"], e["ts"]) for e in events if e["ph"] in "be"]
    assert waits == [("b", 1, 2000.0), ("e", 1, 4000.0), ("b", 2, 6000.0), ("e", 2, 10000.0)]
    assert sum(root["cat"] == "call" for root in nested(events)) == 3


def test_callers_have_a_track_each():
    def call(stamps, at):
        stamps[at + START : at + END + 1] = type(stamps)("q", range(10, 10 + END + 1 - START))

    calls = run_load(call, Load(40, 3)).calls
    assert {event["tid"] for event in events_of(calls)} == set((calls.callers + 1).tolist())


def test_an_outlier_is_a_mark_with_its_cause_where_its_call_began():
    (mark,) = outlier_events([Outlier(1, 2 * MS, 4 * MS, "gc", "why")], table([2.0, 4.0]), MS)
    assert (mark["ph"], mark["ts"], mark["name"]) == ("i", 1000.0, "outlier: gc")
    assert mark["args"] == {"detail": "why", "latency_ms": 4.0, "call": 2}


def test_pauses_and_spans_are_slices_on_tracks_of_their_own():
    spans = [ThrottleSpan("thermal", "gpu", 0, 5 * MS, "d"), ThrottleSpan("over-current", "oc3", MS, 2 * MS, "d")]
    events = [*throttle_events(spans, 0), *pause_events([GcPause(MS, 3 * MS, 2)], 0)]
    assert len({(event["pid"], event["tid"]) for event in events}) == 3
    assert [(event["name"], event["dur"]) for event in events] == [
        ("thermal", 5000.0),
        ("over-current", 1000.0),
        ("generation 2", 2000.0),
    ]


def test_a_counter_leaves_out_what_is_not_known():
    look = TelemetrySample(
        gr3d=Gpu(None, (306, 408)),
        cpus=(Cpu(5, 1500), None),
        temps_c={"cpu": 41.5, "gpu": None, "PMIC": 100.0},
        constants=("PMIC",),
        power_mw={"VDD_IN": Rail(5000)},
        total_power=TotalPower(5000, ("VDD_IN",), "input-rail"),
    )
    events = list(counter_events([Stamped(3 * MS, look)], MS))
    assert {event["name"]: event["args"] for event in events} == {
        "power VDD_IN": {"mW": 5000},
        "power total": {"mW": 5000},
        "temperature cpu": {"°C": 41.5},
        "GPU clock": {"MHz": 408},
        "CPU clock": {"MHz": 1500},
    }
    assert {(event["ph"], event["ts"]) for event in events} == {("C", 2000.0)}

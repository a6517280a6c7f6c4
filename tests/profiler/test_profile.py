from __future__ import annotations

import gc
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.device.telemetry.board import OpenBoard
from edge_runtime.device.telemetry.sample import Cpu, Gpu, Rail, Stamped, TelemetrySample, TotalPower
from edge_runtime.device.telemetry.sampling import SamplerStatus
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.errors import InvalidRequestError
from edge_runtime.profiler import profile_text
from edge_runtime.profiler import profile_trace as profile_trace_module
from edge_runtime.profiler.board import WatchedBoard, watched_board
from edge_runtime.profiler.energy_result import EnergyResult, Estimate, Window
from edge_runtime.profiler.outliers import CAUSES
from edge_runtime.profiler.profile import profile
from edge_runtime.profiler.profile_trace import profile_trace
from edge_runtime.profiler.settings import ProfileSettings

ORIGIN = Origin("tegrastats", replay_of="made-up.txt", made_up="all of it", module="Orin Nano 8GB")


class MadeUpSampler:
    """Every number is made up: a sample for every 10 ms of the time that is asked for, 1 °C a second, oc3 once."""

    status_now = SamplerStatus(ORIGIN, 0.01, 500, 0.002, False, None, 1, 0, 0.4, 1.5, 0.004)

    def __init__(self):
        self.start_ns = time.perf_counter_ns()
        self.asked = []

    @property
    def latest(self):
        return self.at(time.perf_counter_ns())

    def at(self, at_ns):
        seconds = (at_ns - self.start_ns) / 1e9
        rail = round(5000 + 100 * np.sin(at_ns))
        return Stamped(
            at_ns,
            TelemetrySample(
                gr3d=Gpu(50, (900,)),
                cpus=(Cpu(90, 1500), None),
                temps_c={"tj": 40 + seconds},
                power_mw={"VDD_IN": Rail(rail)},
                total_power=TotalPower(rail, ("VDD_IN",), "input-rail"),
                cooling={"gpu-throttle-alert": 0},
                trips_c={"tj": 99.0},
            ),
        )

    def between(self, start_ns, end_ns):
        self.asked.append((start_ns, end_ns))
        return [self.at(at_ns) for at_ns in range(start_ns, end_ns, 10_000_000)]

    def status(self):
        return self.status_now


@pytest.fixture(scope="module")
def quick():
    return ProfileSettings(n=80, warm_up=20, layer_runs=3, interval_s=0.01, baseline_s=0)


@pytest.fixture
def report(make_plan, quick):
    return profile(make_plan(), quick, board=WatchedBoard(MadeUpSampler(), (("tegrastats", "in use"),)))


def test_a_record_has_every_part_and_is_json(report):
    record = json.loads(json.dumps(report.record(), allow_nan=False))
    assert record["schema"] == "edge_runtime.profile/1"
    assert set(record) == {
        "schema",
        "target",
        "settings",
        "input",
        "environment",
        "board",
        "cold_start",
        "load",
        "latency",
        "throughput",
        "stages",
        "timeline",
        "histogram",
        "outliers",
        "telemetry",
        "energy",
        "layers",
        "not_measured",
    }
    assert (record["load"]["kind"], record["load"]["offered"], record["load"]["completed"]) == ("closed", 80, 80)
    assert sum(record["histogram"]["counts"]) == len(record["timeline"]["start_s"]) == 80
    assert sum(record["outliers"]["by_cause"].values()) == record["outliers"]["n"] == len(record["outliers"]["items"])
    assert set(record["outliers"]["by_cause"]) == set(CAUSES)
    assert record["layers"]["runs"] == 3


def test_numbers_of_a_replay_are_marked_as_such(report):
    record = report.record()
    assert record["board"]["origin"]["label"].startswith("replay of made-up.txt, made up: all of it")
    assert record["board"]["cost_pct_of_a_core"] == pytest.approx(0.4)
    assert any("replay of made-up.txt" in value for _, value in profile_text.board_rows(report))


def test_telemetry_covers_the_timed_phase(report):
    telemetry = report.record()["telemetry"]
    assert telemetry["at_s"][0] <= 0
    assert telemetry["at_s"][-1] >= report.timed.load.elapsed_ns / 1e9
    assert len(telemetry["total_mw"]) == len(telemetry["rails_mw"]["VDD_IN"]) == len(telemetry["at_s"])
    assert (telemetry["how"], telemetry["throttled"], telemetry["headroom_zone"]) == ("input-rail", [], "tj")


def test_energy_of_too_short_a_run_is_refused_with_the_reason(report):
    energy = report.record()["energy"]
    assert energy["gross_mj"] is None
    assert "expected at least 30 s" in energy["refused"]
    assert any(line.startswith("energy: the calls took") for line in report.not_measured)


def test_stages_are_no_more_than_the_latency(report):
    stages = report.stages
    assert [stage["n"] for stage in stages] == [80, 80, 80, 0, 80, 80, 80]
    assert sum(stage["mean_ms"] or 0 for stage in stages) == pytest.approx(report.latency.mean_ms)


def test_a_trace_is_sorted_and_has_every_call(report):
    trace = json.loads(json.dumps(profile_trace(report), allow_nan=False))
    events = [event for event in trace["traceEvents"] if event["ph"] != "M"]
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
    assert events[0]["ts"] >= 0
    assert all(event["dur"] >= 0 for event in events if event["ph"] == "X")
    assert sum(event.get("cat") == "call" for event in events) == 80
    assert sum(event.get("cat") == "run" for event in events) == 3
    assert {event["name"] for event in events if event["ph"] == "C"} >= {"power VDD_IN", "temperature tj", "GPU clock"}
    named = {(event["pid"], event["tid"]) for event in trace["traceEvents"] if event["name"] == "thread_name"}
    assert {(event["pid"], event["tid"]) for event in events if "tid" in event} <= named


def test_every_figure_of_a_replayed_board_says_so_where_it_stands(report):
    energy = EnergyResult("input-rail", ("VDD_IN",), None, Window(0, 1, 9, 0, 1.0), 9.0, Estimate(5, 1), Estimate(4, 1))
    replayed = replace(report, energy=energy)
    rows = dict(profile_text.board_rows(replayed))
    example = "replayed, made up power over this machine's calls: an example, not a measurement"
    assert rows["energy per inference, gross"].endswith(example)
    assert rows["energy per inference, net of idle"].endswith(example)
    assert rows["power"].startswith("mean ")
    for label in ("power", "temperature", "throttling"):
        assert rows[label].endswith("(replayed, made up)")
    record = replayed.record()
    assert (record["energy"]["note"], record["telemetry"]["note"]) == (example, ORIGIN.label)
    trace = profile_trace(replayed)
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"]
    assert f"board ({ORIGIN.label})" in names
    assert ORIGIN.label in trace["metadata"]["notes"][0]


def test_a_trace_of_many_calls_is_thinned_and_says_so(report, monkeypatch):
    monkeypatch.setattr(profile_trace_module, "_MOST_CALLS", 20)
    trace = profile_trace(report)
    names = {event["name"] for event in trace["traceEvents"] if event.get("cat") == "call"}
    marked = {f"call {event['args']['call']}" for event in trace["traceEvents"] if event["ph"] == "i"}
    assert len(names) <= 20 + 10
    assert marked <= names
    assert trace["metadata"]["notes"][-1].startswith(f"{len(names)} of 80 calls")


def test_without_a_source_power_and_heat_are_not_measured_and_nothing_idles(make_plan, quick):
    board = WatchedBoard(verdicts=(("sysfs", "no sensor"), ("none", "in use")))
    settings = quick.model_copy(update={"baseline_s": 600.0, "layers": False})
    report = profile(make_plan(), settings, board=board)
    record = report.record()
    assert "power: sysfs: no sensor; none: in use" in record["not_measured"]
    assert record["energy"]["refused"] == "sysfs: no sensor; none: in use"
    assert (record["telemetry"]["at_s"], record["board"]["origin"]["label"], record["layers"]) == ([], "none", None)
    label, text = profile_text.board_rows(report)[-1]
    assert (label, text[:12]) == ("power, temperature, clocks, throttling", "not measured")


def test_the_idle_baseline_comes_before_the_first_call(make_plan, quick):
    sampler = MadeUpSampler()
    settings = quick.model_copy(update={"baseline_s": 0.05, "layers": False})
    report = profile(make_plan(), settings, board=WatchedBoard(sampler))
    (idle_start, idle_end), timed = sampler.asked
    assert idle_end - idle_start >= 50_000_000
    assert idle_end < timed[0] + 2 * 10_000_000
    assert "baseline" in str(report.energy.refused) or "30 s" in str(report.energy.refused)


def test_a_collection_in_a_call_is_its_cause(make_plan, quick, monkeypatch):
    from edge_runtime.profiler import staged_call

    calls, ballast = [], []
    decode = staged_call.request_from_body

    def collecting(*arguments):
        calls.append(1)
        if len(calls) == 50:  # what was there before the timed phase isn't looked at
            ballast.extend([] for _ in range(300_000))
        if len(calls) == 60:
            gc.collect()
        return decode(*arguments)

    monkeypatch.setattr(staged_call, "request_from_body", collecting)
    report = profile(make_plan(), quick.model_copy(update={"layers": False}))
    causes = {outlier.index: outlier.cause for outlier in report.outliers.found}
    assert causes[60 - 20 - 2] == "gc"


def test_a_rate_above_the_capacity_is_said(make_plan, quick):
    settings = quick.model_copy(update={"n": 200, "rate_per_s": 1e6, "layers": False})
    report = profile(make_plan(), settings)
    load = report.record()["load"]
    assert (load["kind"], load["overloaded"], load["completed"]) == ("poisson", True, 200)
    assert 0 < load["capacity_per_s"] < 1e6
    assert "more than the capacity" in profile_text.advice(report)[0]


def test_feeds_that_do_not_fit_are_refused(make_plan, quick):
    with pytest.raises(InvalidRequestError):
        profile(make_plan(), quick, {"x": np.zeros((2, 5), np.float32)})


def test_a_watched_board_owns_the_sampler_and_keeps_its_alarms():
    class Dead:
        origin, is_paced, is_closed = ORIGIN, False, False

        def read(self, timeout_s):
            asked.set()
            raise OSError("made up")

        def close(self):
            self.is_closed = True

    source, asked = Dead(), threading.Event()
    with watched_board(OpenBoard(source, (("tegrastats", "in use"),), 0.01), clock=lambda: 7) as board:
        assert asked.wait(10)
        assert not board.tells_power()
    assert source.is_closed
    assert board.facts(7).alarms
    assert not board.facts(8).alarms


def test_a_board_without_a_source_has_no_sampler():
    with watched_board(OpenBoard(None, (("none", "asked for"),), 0.1)) as board:
        facts = board.facts(0)
    assert (facts.status, facts.label, facts.choice) == (None, "none", "none: asked for")

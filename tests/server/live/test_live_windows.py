"""What snapshots say, on a clock that only the test moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_runtime.engine.engine import EngineInfo
from edge_runtime.server.board import BoardReading
from edge_runtime.server.live.snapshots import Snapshots
from edge_runtime.server.models import ModelTable
from edge_runtime.server.statistics import ModelStatistics, RunTimes

UNKNOWN = BoardReading(0)


def model_of(statistics: ModelStatistics, name: str = "a") -> Any:
    info = EngineInfo(name, 3, "onnxruntime 1.0", "onnxruntime_onnx", "int8", "cpu")
    return SimpleNamespace(
        name=name,
        version="3",
        statistics=statistics,
        pending=2,
        engine=SimpleNamespace(info=info, slot_count=2),
        ladder=None,
        deadline_ns=lambda *_: 20_000_000,
    )


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Watched:
    """Snapshots of one made-up model on a clock that only the test moves."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.statistics = ModelStatistics()
        self.table = ModelTable([model_of(self.statistics)])
        self.table.is_ready = True
        self.snapshots = Snapshots(self.table, self.clock)

    def answer(self, duration_ms: float, count: int = 1) -> None:
        end_ns = round(duration_ms * 1e6)
        for _ in range(count):
            self.statistics.add_run(RunTimes(end_ns // 2, end_ns // 2, end_ns, end_ns), [0], rows=2, wall_ms=0)

    def after(self, seconds: float) -> Any:
        self.clock.now_ns += round(seconds * 1e9)
        return self.snapshots.take(UNKNOWN)["models"][0]


def test_the_server_and_its_board_are_told_of() -> None:
    of = Watched()
    of.clock.now_ns = 90 * 10**9
    found = of.snapshots.take(BoardReading(0, alarm="tegrastats: not found"))
    assert found["board"]["alarm"] == "tegrastats: not found"
    assert found["server"]["uptime_s"] == 90


def test_windows_are_of_the_last_seconds_and_the_total_of_all() -> None:
    of = Watched()
    of.after(0)
    for second in range(1, 101):
        of.answer(second, count=second)
        of.statistics.add_failure("REJECTED", 0)
        model = of.after(1)
    short, long = model["windows"]
    assert [short["seen_s"], long["seen_s"]] == [10, 60]
    assert [short["succeeded"], long["succeeded"]] == [sum(range(91, 101)), sum(range(41, 101))]
    assert short["requests_per_s"] == pytest.approx(95.5)
    assert short["inferences_per_s"] == pytest.approx(191)
    assert [short["failed"]["REJECTED"], long["failed"]["REJECTED"]] == [10, 60]
    assert model["total"]["succeeded"] == sum(range(101))
    assert model["waiting"] == 2


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_of_windows_are_those_of_numpy_to_three_percent(seed: int) -> None:
    rng, of, durations = np.random.default_rng(seed), Watched(), []
    of.after(0)
    for _ in range(30):
        durations.append(rng.lognormal(1, 1, 100))
        for duration in durations[-1]:
            of.answer(duration)
        model = of.after(1)
    for window, kept in zip((*model["windows"], model["total"]), (10, 30, 30)):
        expected = np.percentile(np.concatenate(durations[-kept:]), [50, 90, 99], method="inverted_cdf")
        found = [window["latency"][f"{name}_ms"] for name in ("p50", "p90", "p99")]
        assert found == pytest.approx(expected, rel=0.035)
        waits = [window["wait"][f"{name}_ms"] for name in ("p50", "p90", "p99")]
        assert waits == pytest.approx(expected / 2, rel=0.035)


@pytest.mark.parametrize(("n", "shown"), [(0, 0), (1, 1), (63, 1), (64, 2), (661, 2), (662, 3)])
def test_a_percentile_needs_enough_requests(n: int, shown: int) -> None:
    of = Watched()
    of.answer(1, count=n)
    latency = of.after(1)["total"]["latency"]
    assert [latency[f"{name}_ms"] is not None for name in ("p50", "p90", "p99")] == [True] * shown + [False] * (
        3 - shown
    )


def test_what_was_done_while_nobody_watched_is_in_no_window() -> None:
    of = Watched()
    of.after(0)
    of.answer(1, count=100)
    model = of.after(3600)
    assert [(window["succeeded"], window["requests_per_s"]) for window in model["windows"]] == [(0, None), (0, None)]
    of.answer(1)
    assert [window["succeeded"] for window in of.after(1)["windows"]] == [1, 1]
    assert of.after(0)["total"]["succeeded"] == 101


def test_asking_often_keeps_no_more() -> None:
    of = Watched()
    for _ in range(1000):
        of.answer(1)
        model = of.after(0.01)
    assert len(of.snapshots._histories[of.statistics]._windows[1]._changes) <= 20
    assert model["windows"][0]["requests_per_s"] == pytest.approx(100, rel=0.01)


def test_a_model_that_is_loaded_anew_counts_from_nothing() -> None:
    of = Watched()
    of.answer(1, count=50)
    of.after(0)
    of.statistics = ModelStatistics()
    of.table.put(model_of(of.statistics))
    of.after(1)
    of.answer(1)
    model = of.after(1)
    assert model["total"]["succeeded"] == model["windows"][0]["succeeded"] == 1
    assert len(of.snapshots._histories) == 1


def test_how_long_a_model_ran_is_told_and_what_deadline_it_has() -> None:
    of = Watched()
    of.answer(10.0, count=3)  # the second half of which it ran
    found = of.after(1)
    assert (found["busy_s"], found["late"], found["at_once"], found["deadline_ms"]) == (0.015, 0, 2, 20.0)
    assert found["ladder"] is None

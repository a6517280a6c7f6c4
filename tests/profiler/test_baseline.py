from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.profiler.baseline import (
    MOST_CALLS,
    Baseline,
    baseline_bytes,
    baseline_of,
    extended,
    read_baseline,
    session_of,
)
from edge_runtime.profiler.bench import bench_engine
from edge_runtime.profiler.repeats import Repeat
from edge_runtime.profiler.settings import BenchSettings


@pytest.fixture
def baseline(make_plan: Any) -> Baseline:
    plan = make_plan()
    return baseline_of(bench_engine(plan, BenchSettings(n=9, warm_up=0, repeats=3)), plan.manifest)


def test_a_baseline_is_read_as_it_was_written(baseline: Baseline, tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    file.write_bytes(baseline_bytes(baseline))
    assert read_baseline(file) == baseline
    assert baseline.conditions["model"] == "relu"
    assert [len(repeat.durations_ns) for repeat in baseline.sessions[0].repeats] == [3, 3, 3]
    assert baseline.quality_unknown == "version 1 was built without held-out samples"


def test_long_repeats_are_thinned_in_their_order_and_stay_paired() -> None:
    durations = tuple(range(1, 4 * MOST_CALLS + 2))
    record = session_of([Repeat(durations, 9, durations)] * 3).repeats[0]
    assert record.durations_ns == record.yardstick_ns == durations[::5]
    assert record.n == len(durations)


def test_too_few_repeats_are_no_baseline() -> None:
    with pytest.raises(ConfigError, match="needs 3 or more"):
        session_of([Repeat((1,), 1, (1,))] * 2)


def test_a_session_is_added_if_it_is_of_the_same_plan(baseline: Baseline) -> None:
    assert len(extended(baseline, baseline, "b.json").sessions) == 2
    other = baseline.model_copy(update={"plan_sha256": ("0",)})
    with pytest.raises(ConfigError, match=r"b\.json: plan: expected .* --replace"):
        extended(baseline, other, "b.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "expected a JSON object"),
        (b"{}", r"schema: expected 'edge_runtime\.baseline/1', got 'None'"),
        (b'{"schema": "edge_runtime.baseline/2"}', r"got 'edge_runtime\.baseline/2'"),
        (b'{"schema": "edge_runtime.baseline/1"}', "conditions"),
        (b'{"schema": ' + b"[" * 50_000, "nested deeper"),
        (b'{"schema": "edge_runtime.baseline/1", "sessions": NaN}', "NaN"),
    ],
)
def test_what_is_no_baseline_is_one_error_with_a_remedy(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "b.json").write_bytes(content)
    with pytest.raises(ConfigError, match=f"{problem}.*save it anew"):
        read_baseline(tmp_path / "b.json")


@pytest.mark.parametrize("value", [0, -1, 10**16, 1.5, "7", None, True])
def test_times_that_no_clock_gives_are_refused(baseline: Baseline, tmp_path: Path, value: Any) -> None:
    content = json.loads(baseline_bytes(baseline))
    content["sessions"][0]["repeats"][0]["durations_ns"][0] = value
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="durations_ns"):
        read_baseline(tmp_path / "b.json")


def test_calls_without_their_readings_are_refused(baseline: Baseline, tmp_path: Path) -> None:
    content = json.loads(baseline_bytes(baseline))
    content["sessions"][0]["repeats"][0]["yardstick_ns"].append(7)
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"as many yardstick_ns as durations_ns.*save it anew"):
        read_baseline(tmp_path / "b.json")


def test_files_that_would_hold_it_up_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    for name, problem in (
        ("fifo", "regular file"),
        ("huge", "expected at most"),
        ("none", "no such file"),
        (".", "directory"),
    ):
        with pytest.raises(ConfigError, match=f"{name}.*{problem}"):
            read_baseline(tmp_path / name)

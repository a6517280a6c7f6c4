"""A replay gives samples when the recording had them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.device.telemetry.sample import Ram, TelemetrySample
from edge_runtime.device.telemetry.sources.recording import Recording
from edge_runtime.device.telemetry.sources.replay import ReplaySource, replay_source
from edge_runtime.errors import TelemetryError


class FakeTime:
    """A clock that only waiting moves, and the moments at which a source was waited for."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def clock(self) -> int:
        return self.now_ns

    def wait(self, timeout: float) -> bool:
        self.now_ns += round(timeout * 1e9)
        return False


def numbered(*times_s: float) -> Recording:
    samples = tuple(TelemetrySample(ram=Ram(index, 100)) for index in range(len(times_s)))
    return Recording("board.log", samples, times_s)


def played(source: ReplaySource, time: FakeTime, count: int) -> list[tuple[float, int]]:
    """When each sample came, in seconds since the first, and which it was."""
    found, begun_ns = [], None
    while len(found) < count:
        sample = source.read(0.25)
        if sample is not None:
            begun_ns = time.now_ns if begun_ns is None else begun_ns
            found.append(((time.now_ns - begun_ns) / 1e9, sample.ram.used_mb))
    return found


@pytest.mark.parametrize(("speed", "factor"), [(1, 1), (10, 0.1), (0.5, 2)])
def test_samples_come_as_they_were_recorded_and_begin_again_after_the_usual_interval(
    speed: float, factor: float
) -> None:
    time = FakeTime()
    source = ReplaySource(numbered(0, 1, 2, 95), speed, time.clock, time.wait)
    due = [(0, 0), (1, 1), (2, 2), (95, 3), (96, 0), (97, 1)]
    assert played(source, time, 6) == [(pytest.approx(at_s * factor), index) for at_s, index in due]


def test_a_gap_stays_a_gap_and_no_sample_is_made_up_for_it() -> None:
    time = FakeTime()
    source = ReplaySource(numbered(0, 1, 2, 95), 1, time.clock, time.wait)
    played(source, time, 3)
    assert [source.read(2.0) for _ in range(46)] == [None] * 46


def test_a_reader_that_was_away_gets_the_next_sample_and_no_burst() -> None:
    time = FakeTime()
    source = ReplaySource(numbered(0, 1, 2, 3), 1, time.clock, time.wait)
    played(source, time, 1)
    time.now_ns += 600_000_000_000
    assert played(source, time, 3) == [(0, 1), (1, 2), (2, 3)]


def test_the_origin_says_what_is_replayed_and_how() -> None:
    origin = ReplaySource(numbered(0)).origin
    assert (origin.source, origin.replay_of) == ("replay in a loop", "board.log")
    assert origin.label == "replay of board.log: not measured on this machine"
    fast = ReplaySource(numbered(0, 2), 10)
    assert fast.origin.source == "replay in a loop, at 10 times its speed"
    assert fast.interval_s == 0.2


def test_the_module_is_a_guess_from_the_first_sample() -> None:
    assert replay_source(Path(__file__).parents[3] / "data/boards/orin-nano-jp6.log").origin.module == "Orin Nano 8GB"


def test_closing_ends_a_wait_and_nothing_comes_after_it() -> None:
    source = ReplaySource(numbered(0, 1000))
    assert source.read(0) is not None
    source.close()
    source.close()
    assert source.read(1000) is None


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A made-up tree of a board with one zone."""
    root = tmp_path / "orin"
    for path, text in {
        "sys/class/thermal/thermal_zone0/type": "tj-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "41500\n",
        "proc/device-tree/compatible": "nvidia,p3767-0005\0nvidia,tegra234\0",
        "made_up": "all of it\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_a_folder_is_read_as_the_board_that_it_looks_like(tree: Path) -> None:
    source: Any = replay_source(tree)
    assert (source.origin.replay_of, source.origin.made_up, source.origin.module) == (
        "orin",
        "all of it",
        "Orin Nano 8GB",
    )
    assert source.read(0).temps_c == {"tj": 41.5}
    (tree / "sys/class/thermal/thermal_zone0/temp").write_text("97000\n")
    assert source.read(0).temps_c == {"tj": 97.0}
    source.close()


def test_a_folder_that_is_gone_is_an_error(tree: Path) -> None:
    source = replay_source(tree)
    shutil.rmtree(tree)
    with pytest.raises(TelemetryError, match=r"nothing of .* can be read"):
        source.read(0)
    source.close()


def test_the_interval_is_never_shorter_than_a_samplers() -> None:
    assert ReplaySource(numbered(0, 0.1), 1000).interval_s == 0.001


@pytest.mark.parametrize(("step_s", "speed"), [(7200, 1), (3600, 0.5)])
def test_a_speed_that_makes_samples_too_slow_is_refused(tmp_path: Path, step_s: float, speed: float) -> None:
    path = tmp_path / "board.jsonl"
    path.write_text("".join(f'{{"at_s": {index * step_s}, "sample": {{}}}}\n' for index in range(3)))
    with pytest.raises(TelemetryError, match="take a higher speed, as in replay@10:FILE"):
        replay_source(path, speed)


def test_a_folder_with_nothing_of_a_board_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TelemetryError, match="nothing of a board"):
        replay_source(tmp_path)

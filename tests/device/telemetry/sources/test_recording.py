"""Recordings are read whole, or refused in one line."""

from __future__ import annotations

import gzip
import json
import os
import runpy
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.device.telemetry.sources.recording import read_recording
from edge_runtime.errors import TelemetryError

BOARDS = Path(__file__).parents[3] / "data/boards"
LINE = (BOARDS / "orin-nano-jp6.log").read_text()
SAMPLE = json.loads((BOARDS / "orin-nano-heat-ramp.jsonl").read_text().splitlines()[0])["sample"]


def entry(at_s: Any, **more: Any) -> str:
    return json.dumps({"at_s": at_s, "source": "tegrastats", "sample": SAMPLE, **more})


@pytest.fixture
def recording(tmp_path: Path) -> Any:
    def read(*lines: str) -> Any:
        path = tmp_path / "board.log"
        path.write_text("\n".join(lines))
        return read_recording(path)

    return read


def test_a_log_of_tegrastats_is_read_with_its_noise_left_out(recording: Any) -> None:
    found = recording(
        "Mon Jan  1 10:00:00 UTC 2024", LINE, "sudo: tegrastats: command not found", LINE.replace(":24 ", ":26 ")
    )
    assert (found.name, len(found.samples), found.made_up) == ("board.log", 2, None)
    assert found.samples[0].total_power.cur_mw == 4824
    assert found.times_s == (0, 2)


def test_stamps_of_whole_seconds_are_evened_between_gaps(recording: Any) -> None:
    seconds = (10, 11, 12, 14, 15, 50, 51)
    found = recording(*[LINE.replace(":24 ", f":{second} ") for second in seconds])
    assert found.times_s == pytest.approx((0, 1.25, 2.5, 3.75, 5, 40, 41))


def test_json_lines_keep_their_times_and_what_is_made_up(recording: Any) -> None:
    found = recording(entry(5), "", entry(5.1, made_up="the heat"), "{", entry(6, made_up="the heat"), entry(99))
    assert found.times_s == pytest.approx((0, 0.1, 1, 94))
    assert found.interval_s == pytest.approx(0.9)
    assert found.made_up == "the heat"


@pytest.mark.parametrize(
    ("times_s", "expected"),
    [
        ((7,), (0,)),
        ((0, 2, 1, 3), (0, 2, 4, 6)),
        ((1, 1, 1), (0, 1, 2)),
        ((0, 1e-9), (0, 0.001)),
        ((0, 2, 1.7e9, 1.7e9 + 2), (0, 2, 4, 6)),
        ((0, 1e308, -1e308), (0, 1, 2)),
        ((0, 1, 80_000, 80_001), (0, 1, 80_000, 80_001)),
    ],
    ids=["one", "a clock set back", "no time passes", "hardly any", "a clock set forward", "absurd", "a long gap"],
)
def test_times_never_go_back_and_always_pass(recording: Any, times_s: Any, expected: Any) -> None:
    assert recording(*map(entry, times_s)).times_s == pytest.approx(expected)


NO_SAMPLES = [
    "{",
    "[]",
    "3",
    '{"at_s": 1}',
    *map(entry, ("1", True, None, float("nan"), 10**400)),
    "[" * 100_000,
    '{"at_s": 1, "sample": 7}',
    '{"at_s": 1, "sample": {"temps_c": 3}}',
    '{"at_s": 1, "sample": {"temps_c": {"\\ud800": 3.0}}}',
]


@pytest.mark.parametrize("line", NO_SAMPLES, ids=range(len(NO_SAMPLES)))
def test_a_line_that_is_no_sample_is_left_out(recording: Any, line: str) -> None:
    assert len(recording(entry(0), line, entry(1)).samples) == 2


def test_the_heat_ramp_is_what_its_script_makes_and_says_so_in_every_object() -> None:
    tool = runpy.run_path(str(BOARDS.parents[2] / "tools/make_heat_ramp.py"))
    entries = [json.loads(line) for line in (BOARDS / "orin-nano-heat-ramp.jsonl").read_text().splitlines()]
    assert entries == list(tool["ramp"](LINE))
    assert {entry["made_up"] for entry in entries} == {tool["MADE_UP"]}


def test_words_of_a_terminal_before_json_lines_are_left_out(recording: Any) -> None:
    assert recording("edge-runtime: sysfs; sysfs: in use", entry(0), entry(1)).times_s == (0, 1)


def test_a_log_in_the_quotes_of_json_lines_is_a_log(recording: Any) -> None:
    assert len(recording(*[json.dumps({"log": f"{LINE}\n", "stream": "stdout"})] * 3).samples) == 3


def test_the_mark_that_windows_puts_first_hides_nothing(recording: Any) -> None:
    assert len(recording("\ufeff" + entry(0), entry(1)).samples) == 2


def test_what_is_compressed_or_of_another_encoding_is_named(tmp_path: Path) -> None:
    for name, content in {"gzip": gzip.compress(LINE.encode()), "UTF-16": LINE.encode("utf-16")}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TelemetryError, match=f"{name}.*; give it as `.* > FILE`"):
            read_recording(tmp_path / name)


def test_what_is_said_to_be_made_up_stays_on_one_line(recording: Any) -> None:
    assert recording(entry(0, made_up="all\n\x1b[31mof it")).made_up == "all  [31mof it"


@pytest.mark.parametrize(
    ("content", "why"),
    [("", "no sample in 0 lines"), ("hello\n", "no sample in 1 lines"), ("{}\n{}", "no sample in 2 lines")],
)
def test_a_file_without_a_sample_is_refused(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "board.log"
    path.write_text(content)
    with pytest.raises(TelemetryError, match=f"{path}: {why}; expected a log of tegrastats"):
        read_recording(path)


def test_what_is_not_a_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, why in {"none": "No such file", "fifo": "not a file", "a\0b": "null"}.items():
        with pytest.raises(TelemetryError, match=why):
            read_recording(tmp_path / name)


def test_a_file_larger_than_any_recording_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(TelemetryError, match="1073741824 bytes; a recording has at most"):
        read_recording(tmp_path / "large")

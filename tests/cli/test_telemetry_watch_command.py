from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest
from fakes.board_trees import orin_nano_jp6, thor_jp7
from fakes.boards import tree

from edge_runtime.cli import telemetry_watch
from edge_runtime.cli.main import main
from edge_runtime.cli.telemetry_watch import line_from_sample
from edge_runtime.device.telemetry import board, choice
from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.sample_json import sample_from_record
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.sources.sysfs import SysfsSource
from edge_runtime.errors import TelemetryError


class DeadSource:
    origin = Origin("made-up")
    is_paced = False

    def read(self, timeout_s: float) -> TelemetrySample | None:
        raise TelemetryError("it ended")

    def close(self) -> None:
        pass


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple]:
    """Runs the command with a source; gives its exit status, stdout and stderr."""
    monkeypatch.setattr("edge_runtime.cli.telemetry_watch.configure_logging", lambda level: None)

    def call(source: object, *flags: str) -> tuple[int, str, str]:
        verdicts = (("sysfs", "in use" if source else "made-up reason"),)
        monkeypatch.setattr(board, "open_source", lambda kind, root, interval_s: choice.Chosen(source, verdicts))
        with pytest.raises(SystemExit) as ending:
            main(["telemetry", "watch", *flags])
        return int(ending.value.code or 0), *capsys.readouterr()

    return call


def test_each_sample_is_a_line(run: Callable[..., tuple], tmp_path: Path) -> None:
    code, out, err = run(SysfsSource(orin_nano_jp6(tmp_path)), "--count", "2", "--interval-s", "0.01")
    first, second = out.splitlines()
    assert code == 0
    assert first.startswith("     0.00 s  13.80 W (VDD_IN), GPU 99 % at 624.75 MHz, gpu 67.4 °C, RAM 5530/7607 MB")
    assert "sysfs: in use" in err
    assert "W (VDD_IN)" in second


def test_json_lines_are_a_recording(run: Callable[..., tuple], tmp_path: Path) -> None:
    code, out, _ = run(SysfsSource(thor_jp7(tmp_path)), "--count", "3", "--interval-s", "0.01", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert records[0]["at_s"] == 0
    assert [record["source"] for record in records] == ["sysfs"] * 3
    assert records[0]["at_s"] < records[1]["at_s"] < records[2]["at_s"]
    total = sample_from_record(records[0]["sample"]).total_power
    assert total is not None
    assert total.cur_mw == 19780


def test_it_ends_after_its_time(run: Callable[..., tuple], tmp_path: Path) -> None:
    assert run(SysfsSource(thor_jp7(tmp_path)), "--duration-s", "0.05", "--interval-s", "0.01")[0] == 0


def test_a_source_that_stays_dead_ends_it(run: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_watch, "_LEAST_PATIENCE_S", 0.05)
    code, out, err = run(DeadSource(), "--interval-s", "0.001")
    assert (code, out) == (1, "")
    assert "no sample for 0.05 s: it ended" in err


def test_without_a_source_the_reasons_are_said(run: Callable[..., tuple]) -> None:
    code, _, err = run(None)
    assert code == 1
    assert "nothing tells of this machine: sysfs: made-up reason" in err


@pytest.mark.parametrize(
    "flags",
    [["--interval-s", "0"], ["--interval-s", "nan"], ["--duration-s", "-1"], ["--count", "0"]],
)
def test_flags_out_of_reason_are_usage_errors(run: Callable[..., tuple], flags: list) -> None:
    assert run(None, *flags)[0] == 2


def test_a_board_that_there_is_not_is_a_configuration_error(run: Callable[..., tuple]) -> None:
    code, _, err = run(None, "--board", "guess")
    assert code == 78
    assert "expected one of auto" in err


def test_a_recording_that_is_recorded_again_keeps_its_marks(
    run: Callable[..., tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.jsonl").write_text(
        json.dumps({"at_s": 0, "made_up": "all of it", "sample": {"ram": {"used_mb": 1, "total_mb": 2}}}) + "\n"
    )
    code, out, err = run(None, "--board", f"replay@100:{tmp_path / 'b.jsonl'}", "--count", "1", "--json")
    record = json.loads(out)
    assert (code, record["replay_of"], record["made_up"]) == (0, "b.jsonl", "all of it")
    assert "not measured on this machine" in err


def test_signals_of_throttling_are_shown_and_fans_are_not(tmp_path: Path) -> None:
    orin_nano_jp6(tmp_path)
    tree(tmp_path / "sys/class/thermal", {f"cooling_device{n}/cur_state": "1\n" for n in (0, 1, 2)})
    source = SysfsSource(tmp_path)
    assert line_from_sample(source.read()).endswith("raised: cpu-throttle-alert, gpu-throttle-alert")
    source.close()


def test_states_of_a_pc_that_slow_nothing_are_not_shown() -> None:
    sample = TelemetrySample(cooling={"Fan": 1, "TCC Offset": 3, "Processor": 2, "hot-surface-alert": 1})
    assert line_from_sample(sample) == "raised: hot-surface-alert"


def test_a_sample_of_nothing_is_said_to_be_one() -> None:
    assert line_from_sample(TelemetrySample()) == "nothing is known"

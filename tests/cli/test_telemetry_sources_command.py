from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest
from fakes.board_trees import nano_jp4, orin_nano_jp6, pc_with_rapl
from fakes.boards import power, tree

from edge_runtime.cli.main import main
from edge_runtime.device.telemetry import survey as surveying


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command over a tree in place of `/`; gives what it printed."""
    monkeypatch.setattr("edge_runtime.cli.telemetry_sources.configure_logging", lambda: None)
    monkeypatch.setenv("PATH", "/nowhere")

    def call(root: Path, *flags: str) -> str:
        real = surveying.survey
        monkeypatch.setattr(surveying, "survey", lambda: real(root))
        with pytest.raises(SystemExit) as ending:
            main(["telemetry", "sources", *flags])
        assert not ending.value.code
        return capsys.readouterr().out

    return call


def test_a_board_says_what_it_can_tell_and_what_its_modes_set(run: Callable[..., str], tmp_path: Path) -> None:
    tree(orin_nano_jp6(tmp_path), power("pmode:0002", {0: "15W", 2: "MAXN_SUPER"}, 0))
    text = run(tmp_path)
    for part in ("Orin Nano 8GB", "FP16 yes, INT8 yes, FP8 no", "MAXN_SUPER (now)", "power of 3 rails", "4.98 A"):
        assert part in text


def test_the_document_has_all_of_it(run: Callable[..., str], tmp_path: Path) -> None:
    document = json.loads(run(nano_jp4(tmp_path), "--json"))
    assert (document["used"], document["device"]["module"]) == ("sysfs", "Nano 4GB")
    assert [each["source"] for each in document["sources"]] == ["sysfs", "tegrastats", "nvml", "rapl"]
    assert document["capabilities"]["has_int8"] is False
    assert document["rails"][0] == {"name": "POM_5V_IN", "warn_ma": 4000, "crit_ma": 5000}
    assert (document["power_mode"], document["power_modes"]) == (None, [])


def test_a_pc_has_no_rows_that_only_a_board_has(run: Callable[..., str], tmp_path: Path) -> None:
    text = run(pc_with_rapl(tmp_path))
    assert "rapl" in text
    assert "L4T" not in text


def test_a_machine_that_tells_nothing_says_so(run: Callable[..., str], tmp_path: Path) -> None:
    document = json.loads(run(tmp_path, "--json"))
    assert document["used"] is None
    assert document["verdicts"][-1] == {"source": "none", "why": "in use"}

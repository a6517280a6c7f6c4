"""Proposals for a made-up board; a sweep's and a server's figures are made up too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.power_modes import board_with_modes

from edge_runtime.cli import power as verb
from edge_runtime.device.power_mode import PowerMode
from edge_runtime.errors import ConfigError, RemoteError
from edge_runtime.provisioning import power_proposal
from edge_runtime.provisioning.power_proposal import apply, board_modes, proposal_from_load, proposal_from_sweep
from edge_runtime.provisioning.serving_load import ServingLoad, serving_load

CALM: dict[str, Any] = {
    "seconds": 10, "requests": 900, "utilisation": 0.5, "miss_share": 0.0, "slack_ms": None, "p99_ms": None,
    "is_throttled": False, "power_w": None,
}  # fmt: skip


def point(
    mode: str, p50_ms: float, energy_mj: float | None, is_recommended: bool = False, **more: Any
) -> dict[str, Any]:
    return {
        "label": f"int8 batch 1 {mode}", "precision": "int8", "batch": 1, "power_mode": mode, "p50_ms": p50_ms,
        "samples_per_s": 1000 / p50_ms, "energy_mj": energy_mj, "refused": None, "is_recommended": is_recommended,
        **more,
    }  # fmt: skip


def sweep(*points: dict[str, Any]) -> dict[str, Any]:
    return {"schema": "edge_runtime.sweep/1", "points": list(points), "limits": {"objective": "energy"}}


def test_a_sweep_s_mode_comes_with_what_was_measured_in_both(tmp_path: Path) -> None:
    record = sweep(point("25W", 2.0, 14.0), point("15W", 3.0, 9.5, True), point("MAXN", 1.8, None))
    found = proposal_from_sweep(board_modes(board_with_modes(tmp_path)), record).record()
    assert (found["mode"], found["command"], found["may_need_reboot"]) == ("15W", "sudo nvpmodel -m 2", None)
    assert found["effect"] == "p50 2 to 3 ms, throughput 500 to 333.3 /s, energy 14 to 9.5 mJ"
    assert "int8 batch 1 15W, the best by energy" in found["why"]


def test_what_was_not_measured_is_said_not_to_be(tmp_path: Path) -> None:
    board = board_modes(board_with_modes(tmp_path))
    half = proposal_from_sweep(board, sweep(point("25W", 2.0, None), point("15W", 3.0, 9.0, True)))
    assert half.effect == "p50 2 to 3 ms, throughput 500 to 333.3 /s, energy not measured"
    other = proposal_from_sweep(board, sweep(point("MAXN", 2.0, 20.0), point("15W", 3.0, 9.0, True)))
    assert other.effect == "not measured"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (sweep(point("25W", 2.0, 9.0, True), point("15W", 3.0, 9.5)), "is in the mode that holds"),
        (sweep(point("25W", 2.0, 9.0, True)), "one power mode only"),
        (sweep(point("25W", 2.0, 9.0), point("15W", 3.0, 9.0)), "recommends no point"),
    ],
)
def test_a_sweep_may_say_to_stay(tmp_path: Path, record: dict[str, Any], why: str) -> None:
    found = proposal_from_sweep(board_modes(board_with_modes(tmp_path)), record)
    assert found.mode is None
    assert why in found.why


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({}, "not the record of a sweep"),
        ({"schema": "edge_runtime.bench/1"}, "expected a record of schema edge_runtime.sweep/1"),
        (sweep(point("25W", 2.0, 9.0), point("30W", 3.0, 9.5, True)), "'30W': this board has no such mode"),
    ],
)
def test_another_record_or_another_board_s_is_refused(tmp_path: Path, record: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        proposal_from_sweep(board_modes(board_with_modes(tmp_path)), record)


@pytest.mark.parametrize(
    ("current", "seen", "mode", "why"),
    [
        (1, {}, None, "neither too busy nor idle enough"),
        (1, {"utilisation": 0.9}, "MAXN", "busy for 90% of 10 s"),
        (2, {"miss_share": 0.02}, "25W", "2.0% of 900 requests refused or late: the next mode up"),
        (0, {"utilisation": 0.9}, None, "no mode of this board has higher clocks"),
        (1, {"utilisation": 0.9, "is_throttled": True}, None, "the board is throttled"),
        (0, {"utilisation": 0.1}, "25W", "runs take up to 1.3 times as long"),
        (1, {"utilisation": 0.1}, "15W", "runs take up to 1.5 times as long"),
        (1, {"utilisation": 0.1, "slack_ms": 2.0, "p99_ms": 4.0}, "15W", "leaves time"),
        (1, {"utilisation": 0.1, "slack_ms": 1.9, "p99_ms": 4.0}, None, "no lower mode surely leaves time"),
        (3, {"utilisation": 0.01}, None, "no lower mode"),
    ],
)
def test_a_server_s_load_leads_to_the_next_mode_or_to_none(
    tmp_path: Path, current: int, seen: dict[str, Any], mode: str | None, why: str
) -> None:
    found = proposal_from_load(board_modes(board_with_modes(tmp_path, current)), ServingLoad(**{**CALM, **seen}))
    assert (None if found.mode is None else found.mode.name, found.effect) == (mode, "not measured")
    assert why in found.why


def test_without_knowing_the_mode_a_load_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which one holds now isn't known"):
        proposal_from_load(board_modes(board_with_modes(tmp_path, None)), ServingLoad(**CALM))
    with pytest.raises(ConfigError, match="this machine has no power modes"):
        board_modes(tmp_path / "pc")


class Setter:
    """Keeps what it was told to set."""

    def __init__(self) -> None:
        self.asked: list[PowerMode] = []

    def set(self, mode: PowerMode) -> None:
        self.asked.append(mode)


def test_a_mode_is_set_by_root_alone(tmp_path: Path) -> None:
    board, setter = board_modes(board_with_modes(tmp_path)), Setter()
    proposal = proposal_from_load(board, ServingLoad(**{**CALM, "utilisation": 0.9}))
    with pytest.raises(ConfigError, match=r"--apply needs root; .*sudo nvpmodel -m 0"):
        apply(board, proposal, setter, user=1000)
    assert setter.asked == []
    apply(board, proposal, setter, user=0)
    assert setter.asked == [PowerMode(0, "MAXN")]


def test_what_may_need_a_reboot_is_never_set(tmp_path: Path) -> None:
    board, setter = board_modes(board_with_modes(tmp_path)), Setter()
    proposal = proposal_from_sweep(board, sweep(point("25W", 2.0, 9.0), point("7W", 3.0, 5.0, True)))
    assert proposal.record()["may_need_reboot"] == "it changes how many cores are on (6 to 4)"
    with pytest.raises(ConfigError, match=r"may need a reboot, which is never done from here: .*sudo nvpmodel -m 3"):
        apply(board, proposal, setter, user=0)
    assert setter.asked == []


def test_held_clocks_are_not_undone(tmp_path: Path) -> None:
    root, setter = board_with_modes(tmp_path), Setter()
    (root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq").write_text("1728000\n")
    board = board_modes(root)
    with pytest.raises(ConfigError, match="jetson_clocks holds the clocks"):
        apply(board, proposal_from_load(board, ServingLoad(**{**CALM, "utilisation": 0.9})), setter, user=0)
    assert setter.asked == []


def live(busy_s: float, answered: int, refused: int, late: int, device: str = "gpu:0") -> dict[str, Any]:
    latency = {"p99_ms": 8.0 if answered else None}
    model = {
        "name": "m", "version": "1", "device": device, "at_once": 2, "busy_s": busy_s, "late": late,
        "deadline_ms": 20.0,
        "total": {"succeeded": answered, "failed": {"REJECTED": refused}}, "windows": [{}, {"latency": latency}],
    }  # fmt: skip
    return {"models": [model], "board": {"throttles": None, "power_mw": 9500, "replay_of": None}}


def test_a_load_is_the_difference_of_two_live_documents() -> None:
    found = serving_load(live(1.0, 100, 10, 5), live(5.0, 180, 20, 15), 10.0)
    assert (found.utilisation, found.requests, found.miss_share) == (0.4, 90, 20 / 90)
    assert (found.slack_ms, found.p99_ms, found.power_w, found.is_throttled) == (12.0, 8.0, 9.5, False)
    assert serving_load(live(1.0, 0, 0, 0, "cpu"), live(5.0, 0, 0, 0, "cpu"), 10.0).utilisation == 0.2


def test_a_board_that_is_replayed_decides_nothing() -> None:
    replayed = {"throttles": [{"cause": "thermal"}], "power_mw": 9500, "replay_of": "ramp.jsonl"}
    found = serving_load(live(0, 0, 0, 0), {**live(1, 1, 0, 0), "board": replayed}, 1.0)
    assert (found.is_throttled, found.power_w) == (False, None)


def test_documents_of_other_servers_are_refused() -> None:
    with pytest.raises(RemoteError, match="serves no model 'other'"):
        serving_load(live(0, 0, 0, 0), live(0, 0, 0, 0), 1.0, "other")
    with pytest.raises(RemoteError, match="lacks what is needed"):
        serving_load({"models": [{}]}, {"models": [{}]}, 1.0)


def test_the_verb_prints_one_document_and_sets_nothing_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    board = board_modes(board_with_modes(tmp_path))
    monkeypatch.setattr(power_proposal, "board_modes", lambda: board)
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(sweep(point("25W", 2.0, 14.0), point("15W", 3.0, 9.5, True))))
    verb.command(None, path, None, 10.0, False, True)
    found = json.loads(capsys.readouterr().out)
    assert (found["power_mode"], found["proposal"]["mode"], found["is_applied"]) == ("25W", "15W", False)
    assert [mode["name"] for mode in found["modes"]] == ["MAXN", "25W", "15W", "7W", "gated"]

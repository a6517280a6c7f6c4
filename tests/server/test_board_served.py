"""A whole server over a replayed board: metrics, the live document and its end."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from fakes.board_readings import LINE, RAMP


@pytest.fixture(scope="module")
def ramped(serving: Any) -> Iterator[Any]:
    """A server whose board heats up, throttles and cools down in two seconds, over and over."""
    with serving("identity", board=f"replay@60:{RAMP}") as server:
        yield server


def board(server: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.ask("GET", "/live").json["board"]
    return found


def until(server: Any, is_so: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The first document of which that is so."""
    while True:
        found = board(server)
        if is_so(found):
            return found


def metrics(server: Any) -> list[str]:
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    return [
        line
        for line in lines
        if not line.startswith("#") and ("_board_" in line or line.startswith(("nv_gpu", "nv_cpu")))
    ]


def test_a_throttle_begins_and_ends_in_the_live_document(ramped: Any) -> None:
    hot = until(ramped, lambda found: [each for each in found["throttles"] or [] if each["cause"] == "thermal"])
    cool = until(ramped, lambda found: found["throttles"] == [] and found["power_mw"] == 4800)
    assert (hot["clocks_mhz"]["gpu"], cool["clocks_mhz"]["gpu"]) == (612, 306)


def test_everything_of_a_replay_is_marked(ramped: Any) -> None:
    until(ramped, lambda found: found["power_mw"])
    lines = metrics(ramped)
    assert len(lines) > 20
    assert all(f'replay="{RAMP.name}"' in line for line in lines)
    assert "not measured on this machine" in board(ramped)["origin"]
    assert "tools/make_heat_ramp.py" in board(ramped)["made_up"]


def test_health_and_metadata_are_as_without_a_board(ramped: Any, server: Any) -> None:
    for path in ("/v2/health/ready", "/v2/health/live", "/v2"):
        assert ramped.ask("GET", path).json == server.ask("GET", path).json


def test_what_a_log_does_not_tell_is_absent(serving: Any) -> None:
    with serving("identity", board=f"replay:{LINE}") as server:
        found = until(server, lambda each: each["age_s"] is not None)
        assert (found["power_mode"], found["headroom_c"], found["throttle_causes_known"]) == (None, None, [])
        assert not [line for line in metrics(server) if "throttled" in line or "headroom" in line]


def test_a_gap_in_a_recording_is_an_alarm_and_the_server_serves(serving: Any, tmp_path: Path, good_head: Any) -> None:
    lines = [json.loads(line) for line in RAMP.read_text().splitlines()[:4]]
    lines[-1]["at_s"] = 10_000
    path = tmp_path / "gap.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    with serving("identity", board=f"replay@100:{path}") as server:
        found = until(server, lambda each: each["alarm"] and each["history"]["ago_s"])
        assert found["power_mw"] is None
        assert any(line.startswith("edge_runtime_board_alarm{") and line.endswith(" 1") for line in metrics(server))
        assert not [line for line in metrics(server) if "power_watts" in line]
        assert server.infer("identity", good_head(), b"\0" * 16).status == 200


def test_a_tree_may_change_while_it_is_replayed(serving: Any, tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("tj-thermal")
    (zone / "temp").write_text("40000")
    with serving("identity", board=f"replay:{tmp_path}", board_interval_s=0.02) as server:
        until(server, lambda each: each["temperature_c"] == 40.0)
        (zone / "temp").write_text("97000")
        assert until(server, lambda each: each["temperature_c"] == 97.0)["replay_of"] == tmp_path.name


def test_a_board_ends_with_its_server(serving: Any) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    with serving("identity", board=f"replay:{LINE}"):
        pass
    assert not [each for each in threading.enumerate() if each.ident not in before and each.name == "telemetry"]


def test_a_board_that_is_not_there_takes_no_server_down(serving: Any, tmp_path: Path) -> None:
    with serving("identity", board=f"replay:{tmp_path / 'none'}") as server:
        assert "can't be read" in until(server, lambda found: found["alarm"])["alarm"]
        assert server.ask("GET", "/v2/health/ready").status == 200
        assert metrics(server) == ["edge_runtime_board_alarm 1"]

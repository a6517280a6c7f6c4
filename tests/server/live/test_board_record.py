"""The board in the live document."""

from __future__ import annotations

import json

from fakes.board_readings import HERE, LINE, ramp, reading_of

from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.sources.recording import read_recording
from edge_runtime.server.board import BoardReading
from edge_runtime.server.live.board_record import board_record


def test_a_board_is_told_whole() -> None:
    found = json.loads(json.dumps(board_record(reading_of(*ramp().samples[:60]))))
    expected = {
        "source": "sysfs",
        "origin": "sysfs",
        "replay_of": None,
        "made_up": None,
        "module": "Orin Nano 8GB",
        "verdicts": [["sysfs", "in use"]],
        "interval_s": 1.0,
        "age_s": 0.5,
        "alarm": None,
        "power_mw": 10500,
        "power_how": "input-rail",
        "hottest": "tj",
        "headroom_zone": "tj",
        "gpu_load_pct": 99,
        "power_mode": None,
        "ram": {"used_mb": 3452, "total_mb": 7620},
        "throttle_events": {"oc1": 0, "oc3": 3},
    }
    assert {key: found[key] for key in expected} == expected
    assert found["rails_mw"]["VDD_SOC"] == 2100
    assert found["zones_c"]["tj"] == found["temperature_c"]
    assert found["clocks_mhz"]["gpu"] == 612
    assert ("thermal", "gpu-throttle-alert") in {(each["cause"], each["where"]) for each in found["throttles"]}


def test_the_history_is_of_the_last_points_with_how_long_ago_each_was() -> None:
    history = board_record(reading_of(*ramp().samples[:3]))["history"]
    assert history == {
        "ago_s": [2.5, 1.5, 0.5],
        "power_mw": [4800, 4800, 4800],
        "hottest_c": [sample.temps_c["tj"] for sample in ramp().samples[:3]],
        "is_throttled": [False, False, False],
    }


def test_a_replay_is_marked() -> None:
    found = board_record(reading_of(TelemetrySample(), origin=Origin("replay in a loop", "board.log", "the heat")))
    assert (found["replay_of"], found["made_up"]) == ("board.log", "the heat")
    assert found["origin"] == "replay of board.log, made up: the heat: not measured on this machine"


def test_what_a_line_does_not_tell_is_null() -> None:
    found = board_record(reading_of(*read_recording(LINE).samples))
    assert (found["power_mw"], found["headroom_c"], found["throttles"], found["throttle_causes_known"]) == (
        4824,
        None,
        [],
        [],
    )
    assert sorted(found["clocks_mhz"]) == [f"cpu{index}" for index in range(6)]


def test_a_silent_source_says_nothing_of_now_and_keeps_what_was() -> None:
    found = board_record(reading_of(*ramp().samples[:60], alarm="no sample for 3 s"))
    assert found["alarm"] == "no sample for 3 s"
    for name in ("power_mw", "temperature_c", "headroom_c", "throttles", "power_mode", "ram", "gpu_load_pct"):
        assert found[name] is None
    assert (found["rails_mw"], found["zones_c"], found["clocks_mhz"]) == ({}, {}, {})
    assert len(found["history"]["ago_s"]) == 60
    assert found["energy_j"] > 0


def test_without_a_source_it_says_why() -> None:
    found = board_record(BoardReading(0, (("sysfs", "no rails"),)))
    assert (found["source"], found["origin"], found["verdicts"]) == (None, None, [["sysfs", "no rails"]])
    assert found["throttles"] is None


def test_a_constant_is_no_temperature() -> None:
    sample = TelemetrySample(temps_c={"PMIC": 100.0, "CPU": 40.5, "GPU": None}, constants=("PMIC",))
    found = board_record(reading_of(sample, origin=HERE))
    assert (found["hottest"], found["temperature_c"]) == ("CPU", 40.5)
    assert found["zones_c"] == {"CPU": 40.5, "GPU": None}

"""The board on the metrics page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.board_readings import HERE, LINE, ramp, reading_of

from edge_runtime.device.telemetry.sample import Gpu, Rail, TelemetrySample, TotalPower
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.sources.recording import read_recording
from edge_runtime.server.board import BoardReading
from edge_runtime.server.metrics import metrics_page

OURS = "edge_runtime_board_"
REPLAY = Origin("replay", "board.log", "the heat")


def values(reading: BoardReading) -> dict[str, str]:
    """Values by metric and labels, those of the board only."""
    lines = metrics_page([], True, {}, reading).splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith(("#", "edge_runtime_ready")))


def test_every_family_is_there_under_the_ramp() -> None:
    found = values(reading_of(*ramp().samples[:60]))
    expected = {
        f'{OURS}info{{source="sysfs",origin="sysfs",replay_of="",made_up="",module="Orin Nano 8GB"}}': "1",
        f"{OURS}alarm": "0",
        f"{OURS}sample_age_seconds": "0.5",
        f'{OURS}throttle_events_total{{counter="oc3"}}': "3",
        f'{OURS}power_watts{{rail="VDD_SOC"}}': "2.1",
        f'{OURS}total_power_watts{{how="input-rail"}}': "10.5",
        f'{OURS}throttled{{cause="thermal",where="gpu-throttle-alert"}}': "1",
        f'{OURS}throttled{{cause="under-voltage",where=""}}': "0",
        f'{OURS}clock_hertz{{part="gpu"}}': "612000000",
        f'{OURS}clock_hertz{{part="cpu5"}}': "729000000",
        "nv_gpu_utilization": "0.99",
        "nv_cpu_memory_total_bytes": str(7620 << 20),
        "nv_cpu_memory_used_bytes": str(3452 << 20),
    }
    assert {key: found.get(key) for key in expected} == expected
    tj_c = float(found[f'{OURS}temperature_celsius{{zone="tj"}}'])
    assert float(found[f'{OURS}headroom_celsius{{zone="tj"}}']) == pytest.approx(99 - tj_c)
    assert 59 * 4.8 < float(found[f"{OURS}energy_joules_total"]) < 59 * 15.6


def test_a_real_line_tells_what_it_has_and_no_more() -> None:
    found = values(reading_of(*read_recording(LINE).samples))
    assert found['edge_runtime_board_total_power_watts{how="input-rail"}'] == "4.824"
    assert found['edge_runtime_board_temperature_celsius{zone="tj"}'] == "50.25"
    assert found["nv_cpu_utilization"] == "0.01333333333"
    assert found["nv_gpu_utilization"] == "0"
    assert found["edge_runtime_board_energy_joules_total"] == "0"
    unknown = ("throttle", "headroom", 'part="gpu', 'part="emc')
    assert not [key for key in found if any(word in key for word in unknown)]


def test_what_is_not_known_has_no_sample() -> None:
    found = values(reading_of(TelemetrySample(temps_c={"gpu": None, "PMIC": 100.0}, constants=("PMIC",))))
    assert set(found) == {
        'edge_runtime_board_info{source="sysfs",origin="sysfs",replay_of="",made_up="",module="Orin Nano 8GB"}',
        "edge_runtime_board_alarm",
        "edge_runtime_board_sample_age_seconds",
    }


@pytest.mark.parametrize("reading", [BoardReading(0), BoardReading(0, (("sysfs", "no zones"),))], ids=["none", "auto"])
def test_without_a_source_there_is_nothing(reading: BoardReading) -> None:
    assert values(reading) == {}


def test_a_source_that_was_asked_for_and_is_not_there_is_an_alarm() -> None:
    assert values(BoardReading(0, (), "tegrastats: not found")) == {"edge_runtime_board_alarm": "1"}


def test_a_silent_source_leaves_only_counters_its_age_and_the_alarm() -> None:
    found = values(reading_of(*ramp().samples[:60], alarm="nothing for 2 s"))
    assert found["edge_runtime_board_alarm"] == "1"
    assert float(found["edge_runtime_board_energy_joules_total"]) > 100
    assert {key.split("{")[0] for key in found} == {
        "edge_runtime_board_info",
        "edge_runtime_board_alarm",
        "edge_runtime_board_sample_age_seconds",
        "edge_runtime_board_energy_joules_total",
        "edge_runtime_board_throttle_events_total",
    }


def test_every_sample_of_a_replay_says_so() -> None:
    found = values(reading_of(*ramp().samples[:60], origin=REPLAY))
    assert len(found) > 20
    assert all('replay="board.log"' in key for key in found)
    assert [key for key in found if 'replay_of="board.log",made_up="the heat"' in key]


def test_a_throttle_begins_and_ends() -> None:
    samples = ramp().samples
    thermal = [
        sum(int(value) for key, value in values(reading_of(*samples[:count])).items() if 'cause="thermal"' in key)
        for count in (20, 60, 110)
    ]
    assert thermal == [0, 1, 0]


def test_a_discrete_gpu_has_tritons_names() -> None:
    sample = TelemetrySample(
        gr3d=Gpu(50), power_mw={"gpu": Rail(20_000)}, total_power=TotalPower(20_000, ("gpu",), "gpu")
    )
    found = values(reading_of(sample, sample, origin=replace(HERE, source="nvml")))
    assert (found["nv_gpu_power_usage"], found["nv_energy_consumption"]) == ("20", "20")
    assert found["nv_gpu_utilization"] == "0.5"


def test_clusters_of_a_gpu_are_apart() -> None:
    found: Any = values(reading_of(TelemetrySample(gr3d=Gpu(None, (1300, 0)))))
    assert found['edge_runtime_board_clock_hertz{part="gpu0"}'] == "1300000000"
    assert found['edge_runtime_board_clock_hertz{part="gpu1"}'] == "0"
    assert "nv_gpu_utilization" not in found

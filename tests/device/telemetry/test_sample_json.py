from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fakes.tegrastats_data import own_lines

from edge_runtime.device.telemetry.sample import Gpu, Limits, Rail, Swap, TelemetrySample
from edge_runtime.device.telemetry.sample_json import record_from_sample, sample_from_record
from edge_runtime.device.telemetry.tegrastats.line import sample_from_line
from edge_runtime.errors import DataError

FULL = TelemetrySample(
    swap=Swap(1, 2),
    gr3d=Gpu(None, (1.5, 2)),
    mts_pct=(1, 2),
    temps_c={"PMIC-Die": 47.5, "x": None},
    constants=("PMIC-Die",),
    power_mw={"VDD_IN": Rail(1.25)},
    cooling={"cpu-throttle-alert": 1},
    over_current_events={"oc1": 7},
    trips_c={"tj": 99.0},
    gpu_limits=Limits(None, 1300),
    cpu_limits=(None, Limits(1, 2)),
    unknown=("FOO 1",),
)


@pytest.mark.parametrize("sample", [FULL, TelemetrySample(), *map(sample_from_line, own_lines())])
def test_a_sample_comes_back_from_json(sample):
    assert sample_from_record(json.loads(json.dumps(record_from_sample(sample)))) == sample


def test_what_was_not_told_has_no_key():
    assert record_from_sample(TelemetrySample()) == {"temps_c": {}, "power_mw": {}, "total_power": None}
    assert record_from_sample(FULL)["swap"] == {"used_mb": 1, "total_mb": 2}


def test_constants_are_written_only_where_the_rule_does_not_give_them():
    usual = TelemetrySample(temps_c={"PMIC": 100}, constants=("PMIC",))
    assert "constants" not in record_from_sample(usual)
    assert record_from_sample(replace(usual, constants=()))["constants"] == []


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ([], "an object"),
        ({"rma": 1}, "unknown key 'rma'"),
        ({"ram": {"used_mb": 1}}, "ram"),
        ({"ram": {"used_mb": -1, "total_mb": 2}}, "ram.used_mb"),
        ({"swap": {"used_mb": True, "total_mb": 2}}, "swap.used_mb"),
        ({"cpus": {}}, "cpus"),
        ({"cpus": [{"load_pct": "5"}]}, "cpus[0].load_pct"),
        ({"temps_c": {"tj": float("nan")}}, "temps_c.tj"),
        ({"power_mw": {"VDD_IN": {"cur": 10**400}}}, "power_mw.VDD_IN.cur"),
        ({"power_mw": {"VDD_IN": {"cur": 1e308}}}, "power_mw.VDD_IN.cur"),
        ({"ram": {"used_mb": 10**400, "total_mb": 1}}, "ram.used_mb"),
        ({"power_mw": {"VDD_IN": {"cur": None}}}, "power_mw.VDD_IN.cur"),
        ({"power_mw": {"VDD_IN": {"cur": 1, "x": 2}}}, "power_mw.VDD_IN"),
        ({"engines": {"VIC": {"on": 1}}}, "engines.VIC.on"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"total_power": {"cur_mw": 1, "rails": "VDD_IN", "how": "input-rail"}}, "total_power.rails"),
        ({"unknown": [5]}, "unknown[0]"),
        ({"mts": {"fg_pct": 1}}, "mts.bg_pct"),
        ({"gr3d": {"freq_mhz": 5}}, "gr3d.freq_mhz"),
        ({"cpu_limits": [{"min": 1}]}, "cpu_limits[0]"),
    ],
)
def test_what_is_no_record_is_refused_by_its_place(record, place):
    with pytest.raises(DataError) as raised:
        sample_from_record(record)
    assert place in str(raised.value)

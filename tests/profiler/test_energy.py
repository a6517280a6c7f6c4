"""Joules of an inference, on made-up loads of known energy (fakes/power_loads.py) and sensors (fakes/ina3221.py)."""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.ina3221 import Ina3221
from fakes.power_loads import stamped_power

from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample
from edge_runtime.profiler.energy import energy_per_inference
from edge_runtime.profiler.energy_baseline import Baseline, BaselineOptions, Refused, baseline_from
from edge_runtime.profiler.energy_options import EnergyOptions

S = 10**9
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
IDLE = Baseline(4300.0, 5.0, 300, 30.0, "input-rail", ("VDD_IN",))


@pytest.fixture(scope="module")
def trials():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("energy_trials")
    finally:
        sys.path.remove(str(BENCHMARKS))


def readings(end_s=40.0, step_s=0.1, level_mw=15000.0, noise_mw=100.0, seed=0):
    rng = np.random.default_rng(seed)
    at_s = np.arange(0, end_s, step_s)
    level = np.where((at_s > 1) & (at_s < end_s - 1), level_mw, 4300.0)
    return stamped_power(at_s, level + noise_mw * rng.normal(size=len(at_s)))


def calls(end_s=40.0, period_s=0.0137, share=0.9):
    starts = np.arange(1, end_s - 1 - period_s, period_s)
    return np.column_stack([starts, starts + share * period_s]) * S


def test_gross_and_net_are_power_times_period():
    result = energy_per_inference(readings(), calls(), IDLE)
    assert result.gross_mj.value == pytest.approx(15000 * 0.0137, rel=0.002)
    assert result.net_mj.value == pytest.approx(10700 * 0.0137, rel=0.003)
    assert result.gross_mj.standard_error < 0.002 * result.gross_mj.value
    assert result.net_mj.standard_error > 5 * 0.0137
    assert (result.refused, result.note) == (None, None)


def test_two_readings_at_each_end_are_left_out():
    window = energy_per_inference(readings(noise_mw=20), calls(), IDLE).window
    assert window.from_ns == pytest.approx(1.2 * S, abs=0.15 * S)
    assert window.to_ns == pytest.approx(38.8 * S, abs=0.15 * S)


def test_calls_may_overlap():
    lanes = np.concatenate([calls(), calls() + 0.005 * S])
    assert energy_per_inference(readings(), lanes, IDLE).gross_mj.value == pytest.approx(7500 * 0.0137, rel=0.002)


def test_a_gap_is_left_out_with_the_calls_in_it():
    samples = [each for each in readings() if not 10 * S < each.at_ns < 15 * S]
    result = energy_per_inference(samples, calls(), IDLE)
    assert result.window.gaps == 1
    assert result.window.covered_s == pytest.approx(37.6 - 5, abs=0.5)
    assert result.inferences == pytest.approx(result.window.covered_s / 0.0137, rel=0.01)
    assert result.gross_mj.value == pytest.approx(15000 * 0.0137, rel=0.002)


def lossy(share):
    return [each for i, each in enumerate(readings()) if i % 20 > 20 * share]


SLOW_SENSOR = Ina3221(1.1e-3, 1024)


@pytest.mark.parametrize(
    ("samples", "made", "why"),
    [
        (readings(20), calls(20), r"took 18\.0 s, expected at least 30 s"),
        (readings(50, step_s=1.0), calls(50), r"took 48\.0 s, expected at least 60 s"),
        (readings(80, step_s=5.0), calls(80), "readings of the total lie in the steady part"),
        (readings(), [], "no inference"),
        (readings(), calls() + 100 * S, r"known for 0\.0 of the"),
        ([each for each in readings() if each.at_ns < 15 * S], calls(), r"known for 1[34]\.\d of the"),
        (lossy(0.3), calls(), "gaps"),
        (readings(), calls(period_s=3.7), "inferences lie in the window, expected at least 20"),
        (readings(noise_mw=0), calls(), "reading changed 0 times"),
        (readings(), calls(period_s=0.05), "keeps step"),
        (readings(noise_mw=9000), calls(), r"95 % of such measurements may lie up to \d+\.\d% off, expected 5%"),
        ([Stamped(each.at_ns, TelemetrySample()) for each in readings()], calls(), "no sample has a total power"),
        ([], calls(), "no sample has a total power"),
    ],
)
def test_a_number_that_would_mean_nothing_is_refused_with_the_reason(samples, made, why):
    result = energy_per_inference(samples, made, IDLE)
    assert (result.gross_mj, result.net_mj) == (None, None)
    assert re.search(why, result.refused)


@pytest.mark.parametrize(
    ("baseline", "level_mw", "why"),
    [
        (Refused("the idle baseline has no power"), 15000, "the idle baseline has no power"),
        (replace(IDLE, rails=("VIN",)), 15000, r"baseline is of input-rail (VIN), the run of input-rail (VDD_IN)"),
        (IDLE, 4300, "can't be told from idle"),
        (replace(IDLE, standard_error_mw=400.0), 15000, "95 % of such measurements"),
    ],
)
def test_without_a_baseline_that_fits_there_is_gross_energy_alone(baseline, level_mw, why):
    result = energy_per_inference(readings(level_mw=level_mw), calls(), baseline)
    assert result.gross_mj is not None
    assert result.net_mj is None
    assert result.refused.startswith("net of idle: ")
    assert why in result.refused


def test_a_lowered_limit_is_said():
    result = energy_per_inference(readings(12), calls(12), IDLE, EnergyOptions(min_run_s=5, max_error_ratio=0.2))
    assert result.gross_mj is not None
    assert result.note == "limits were lowered: shortest run in s 5 in place of 30, an error of 20% in place of 5%"


def test_power_that_still_rises_is_refused():
    samples = readings(noise_mw=20)
    rising = [
        replace(each, sample=replace(each.sample, total_power=replace(total, cur_mw=total.cur_mw * (1 + i / 4000))))
        for i, each in enumerate(samples)
        for total in [each.sample.total_power]
    ]
    result = energy_per_inference(rising, calls(), IDLE)
    assert "hasn't settled: 15," in result.refused


def test_the_record_is_json_with_the_keys_of_a_report():
    result = energy_per_inference(readings(), calls(), IDLE)
    record = json.loads(json.dumps(result.record(S)))
    assert (record["total_kind"], record["rails"], record["refused"]) == ("input-rail", ["VDD_IN"], None)
    assert set(record["baseline"]) == {"mean_mw", "standard_error_mw", "samples", "duration_s"}
    assert record["window"]["from_s"] == pytest.approx(0.2, abs=0.15)
    assert record["gross_mj"]["value"] == pytest.approx(205.5, rel=0.002)
    refused = energy_per_inference([], calls(), IDLE)
    assert {key: value for key, value in refused.record(0).items() if value} == {"refused": refused.refused}
    assert set(refused.record(0)) == set(record)


def test_rows_tell_what_is_given_and_what_is_not():
    given = dict(energy_per_inference(readings(), calls(), Refused("none was measured")).rows())
    assert given["power"] == "input-rail: VDD_IN"
    assert given["energy per inference, gross"].startswith("205.")
    assert given["energy"] == "not given: net of idle: none was measured"


def test_a_baseline_is_a_mean_with_its_error():
    idle = baseline_from(readings(31, level_mw=4300, noise_mw=20))
    assert idle.mean_mw == pytest.approx(4300, abs=4 * idle.standard_error_mw)
    assert 0.5 < idle.standard_error_mw < 3
    assert (idle.samples, idle.how, idle.rails) == (306, "input-rail", ("VDD_IN",))


def test_a_baseline_forgets_what_ran_before_it():
    at_s = np.arange(0, 40, 0.1)
    cooling_down = 4300 + 5000 * np.exp(-at_s / 0.86) + 20 * np.random.default_rng(0).normal(size=len(at_s))
    assert baseline_from(stamped_power(at_s, cooling_down)).mean_mw == pytest.approx(4300, rel=0.003)


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (readings(10, level_mw=4300), "stay idle for longer"),
        (readings(40, step_s=4.0, level_mw=4300), "in 10 samples; expected at least 20 s and 20"),
        ([], "no total power"),
        (stamped_power(np.arange(40.0), 4300 + 20 * np.arange(40.0)), "isn't idle"),
    ],
)
def test_a_baseline_that_is_none_is_refused(samples, why):
    found = baseline_from(samples)
    assert isinstance(found, Refused)
    assert why in found.why


def test_a_baseline_s_least_can_be_set():
    assert isinstance(baseline_from(readings(10, level_mw=4300), BaselineOptions(min_duration_s=5)), Baseline)


@pytest.mark.parametrize(("interval_s", "averages"), [(0.02, 1), (0.1, 1), (0.1, 512), (0.1, 1024)])
def test_one_ms_kernels_are_measured_within_5_percent_whatever_the_sensor_averages(trials, interval_s, averages):
    setting = trials.Setting(interval_s, Ina3221(averages=averages))
    found = [trials.trial(setting, seed) for seed in range(4)]
    assert max(abs(each.gross) for each in found) < 0.05
    assert max(abs(each.net) for each in found) < 0.05
    assert max(each.printed_average for each in found) < 0.75  # the idle time is in it


def test_a_sensor_that_is_slower_than_the_run_is_refused(trials):
    assert trials.trial(trials.Setting(0.1, SLOW_SENSOR), 0).gross is None
    assert trials.trial(trials.Setting(0.1, replace(SLOW_SENSOR, is_block=True)), 0).gross is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_95_of_100_seeds_are_within_5_percent(trials):
    for setting in trials.settings()[::10]:  # `benchmarks/energy.py` has all of them
        found = [trials.trial(setting, seed) for seed in range(100)]
        for values in ([each.gross for each in found], [each.net for each in found]):
            errors = [abs(value) for value in values if value is not None]
            assert not errors or np.percentile(errors, 95) < 0.05, setting.text

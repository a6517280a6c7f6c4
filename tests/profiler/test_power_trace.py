"""Power over time and its gaps; made-up readings."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import recordings
from fakes.power_loads import stamped_power

from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample
from edge_runtime.profiler.power_trace import power_trace

NAN = float("nan")


def trace(at_s, power_mw, interval_s=None):
    return power_trace(stamped_power(np.array(at_s, float), np.array(power_mw, float)), interval_s)


def test_the_trapezoid_is_exact_on_straight_lines():
    found = trace([0, 1, 2, 4], [1000, 2000, 3000, 5000])
    assert found.energies_mj().sum() == 1500 + 2500 + 8000
    assert found.mean_mw() == 3000
    assert (found.gaps, found.span_s, found.covered_s) == (0, 4, 4)


@pytest.mark.parametrize(
    ("at_s", "power_mw", "interval_s", "covered_s"),
    [
        ([0, 1, 2, 5, 6], [1, 1, 1, 1, 1], None, 3),  # over 2.5 steps
        ([0, 1, 2, 4, 5], [1, 1, 1, 1, 1], None, 5),  # a stamp of whole seconds
        ([0, 1, 2, 5, 6], [1, 1, 1, 1, 1], 2, 6),  # within two intervals
        ([0, 1, 2, 3, 4], [1, 1, NAN, 1, 1], None, 2),
        ([0, 1, 2, 3, 4], [NAN, 1, 1, 1, NAN], None, 2),
        ([0, 1, 2, 3, 4], [1, 1, float("inf"), 1, 1], None, 2),
        ([0, 1, 1, 2, 3], [1, 1, 9, 1, 1], None, 3),  # two at one moment
        ([3, 0, 2, 1], [1, 1, 1, 1], None, 3),
    ],
)
def test_what_is_not_known_is_never_integrated_over(at_s, power_mw, interval_s, covered_s):
    found = trace(at_s, power_mw, interval_s)
    assert found.covered_s == covered_s
    assert found.energies_mj().sum() == covered_s


@pytest.mark.parametrize("other", [{"how": "sum-of-rails"}, {"rails": ("VIN",)}])
def test_a_total_of_another_kind_is_a_gap(other):
    mine, theirs = (stamped_power(np.arange(3.0) + start, np.ones(3)) for start in (0, 4))
    odd = stamped_power(np.array([3.0]), np.array([50.0]), **other)
    found = power_trace([*mine, *odd, *theirs])
    assert (found.how, found.rails, found.gaps, found.energies_mj().sum()) == ("input-rail", ("VDD_IN",), 1, 4.0)


def test_without_a_total_there_is_no_trace():
    assert power_trace([]) is None
    assert power_trace([Stamped(0, TelemetrySample()), Stamped(10**9, TelemetrySample())]) is None
    assert trace([0], [5]).mean_mw() is None


@pytest.mark.skipif(recordings.folder() is None, reason="the recordings aren't beside this checkout")
def test_whole_recordings_agree_with_the_average_that_tegrastats_printed():
    names = recordings.whole_runs()
    assert len(names) == 7
    for name in names:
        samples = recordings.read(name)
        assert power_trace(samples).mean_mw() == pytest.approx(
            samples[-1].sample.power_mw["VDD_IN"].avg_mw, rel=0.01
        ), name

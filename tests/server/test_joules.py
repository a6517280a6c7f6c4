from __future__ import annotations

import pytest

from edge_runtime.server.joules import EnergyCounter


@pytest.mark.parametrize(
    ("samples", "joules"),
    [
        ([], None),
        ([(0, None)], None),
        ([(0, 5000)], 0),
        ([(0, 4000), (1, 6000), (2, 6000)], 11),
        ([(0, 4000), (2.9, 4000)], 11.6),
        ([(0, 4000), (1, 4000), (94, 4000), (95, 4000)], 8),
        ([(0, 4000), (1, None), (2, 4000), (3, 4000)], 4),
        ([(1, 4000), (0, 4000), (1, 4000)], 4),
        ([(0, -300), (1, -100)], 0),
        ([(0, 1e308), (1, 1e308)], 1e305),
    ],
    ids=[
        "nothing",
        "no power",
        "one",
        "a trapezoid",
        "one lost",
        "a gap",
        "unknown",
        "back in time",
        "never down",
        "absurd",
    ],
)
def test_energy_is_power_over_the_time_between_samples_and_not_over_gaps(samples: list, joules: float | None) -> None:
    counter = EnergyCounter(1.0)
    for at_s, power_mw in samples:
        counter.add(round(at_s * 1e9), power_mw)
    assert counter.joules == (None if joules is None else pytest.approx(joules))

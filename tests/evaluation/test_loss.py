"""Relative losses, and how many rows would settle them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.evaluation.loss import Loss, relative_losses


@pytest.mark.parametrize(
    ("loss", "limit", "needed"),
    [
        (Loss(0.0, -0.1, 0.03, 100, fewest=0, rate=1.0), 0.01, 300),
        (Loss(0.0, -0.01, 0.01, 300, fewest=0, rate=1.0), 0.01, None),
        (Loss(0.005, 0.0, 0.015, 200, fewest=0), 0.01, 800),
        (Loss(0.005, 0.0, 0.009, 200), 0.01, None),
        (Loss(0.02, 0.0, 0.04, 200), 0.01, None),
        (Loss(0.01, 0.0, 0.04, 200), 0.01, None),
        (Loss(0.0, 0.0, 0.0, 200), 0.0, None),
        (Loss(math.inf, None, None, 8), 0.01, None),
        (Loss(0.001, 0.0, 0.002, 8), 0.01, 30),
        (Loss(0.001, None, None, 1), 0.01, 30),
        (Loss(0.001, None, None, 30), 0.01, None),
        (Loss(0.0, -1e300, 1e300, 100), 0.01, None),
        (Loss(-0.05, -0.1, -0.01, 5, fewest=0), 0.01, None),
    ],
)
def test_how_many_rows_bring_the_upper_end_down_to_the_limit(loss, limit, needed):
    assert loss.needed(limit) == needed


@pytest.mark.parametrize(
    ("baseline", "candidate", "magnitude", "is_higher", "loss"),
    [
        (0.8, 0.76, 0.8, True, 0.05),
        (0.8, 0.84, 0.8, True, -0.05),
        (0.1, 0.12, 0.1, False, 0.2),
        (-2.0, -2.1, 2.0, True, 0.05),
        (0.0, -1e-9, 0.0, True, math.inf),
        (0.0, 0.0, 0.0, True, 0.0),
        (0.0, 0.5, 0.0, True, 0.0),
        (0.0, 0.5, 0.0, False, math.inf),
        (0.5, math.nan, 0.5, True, math.inf),
        (math.inf, 0.5, math.inf, True, math.inf),
        (0.5, math.inf, 0.5, True, math.inf),
        (1e300, -1e300, 1e-300, True, math.inf),
    ],
)
def test_losses_are_shares_of_the_magnitude(baseline, candidate, magnitude, is_higher, loss):
    assert float(relative_losses(baseline, candidate, magnitude, is_higher)) == pytest.approx(loss)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_the_direction_only_turns_the_sign(baseline, candidate):
    magnitude = np.abs(baseline) + 1
    losses = [relative_losses(baseline, candidate, magnitude, is_higher) for is_higher in (True, False)]
    assert losses[0] == -losses[1]

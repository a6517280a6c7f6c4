"""Numbers as text, labels apart, and fewer points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edge_runtime.profiler.pages.marks import spread, thinned, with_gaps
from edge_runtime.profiler.pages.reading import amount, over_time, plain, with_error


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 ms"), (0.00012, "0.00012 ms"), (2.3352, "2.335 ms"), (14.921, "14.92 ms"), (1234.5, "1,234 ms")]
    + [(value, "not measured") for value in (None, math.nan, math.inf, "3", True, 10**400)],
)
def test_an_amount_has_about_four_digits(value: Any, text: str) -> None:
    assert amount(value, "ms") == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (14.9231, 0.1187, "14.92 \u00b1 0.12 mJ"),
        (1520.4, 31, "1,520 \u00b1 31 mJ"),
        (2.5, None, "2.500 mJ"),
        (2, 0, "2 mJ"),
    ],
)
def test_an_error_has_two_digits(value: Any, error: Any, text: str) -> None:
    assert with_error(value, error, "mJ") == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb\tc", "a b c"), ("a\x00b\u202e\ud800", "a\ufffdb\ufffd\ufffd"), ("abcdefghij", "abc\u2026ghij")],
)
def test_text_is_one_visible_line(text: str, shown: str) -> None:
    assert plain(text, 8) == shown


def test_labels_are_moved_apart_and_stay_inside() -> None:
    assert spread([50, 51, 90], 10, 0, 100) == [50, 60, 90]
    assert spread([99, 98], 10, 0, 100) == [100, 90]
    assert spread([5, 5, 5], 10, 0, 10) == [0, 5, 10]
    assert spread([], 10, 0, 100) == []


def test_thinning_keeps_the_extremes_and_the_gaps() -> None:
    values = np.zeros(100_000)
    values[7777], values[40_000:60_000] = 9.0, np.nan
    at, kept = thinned((np.arange(100_000.0), values))
    assert kept.size < 2000
    assert np.nanmax(kept) == 9.0
    assert at[kept == 9.0] == [7777]
    assert np.isnan(kept[(at > 41_000) & (at < 59_000)]).all()


def test_silence_becomes_a_gap() -> None:
    at, values = with_gaps((np.array([0.0, 1, 2, 30, 31]), np.ones(5)))
    assert at.tolist() == [0, 1, 2, 16, 30, 31]
    assert np.isnan(values).tolist() == [False, False, False, True, False, False]


def test_samples_are_put_in_order_and_those_without_a_time_left_out() -> None:
    at, values = over_time({"at_s": [2, None, 1, 3]}, "at_s", [20, 30, None])
    assert at.tolist() == [1, 2]
    assert np.isnan(values[0])
    assert values[1] == 20

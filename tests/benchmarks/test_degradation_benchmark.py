"""The benchmark of degradation on one trace: what its table must show."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from operations import degradation


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return degradation.result(seeds=1)


def missed(counts: dict[str, int]) -> int:
    return counts["refused"] + counts["late"]


def test_under_made_up_heat_a_ladder_misses_fewer_never_flaps_and_returns(record: dict[str, Any]) -> None:
    assert record["is_held"]
    assert (record["switches"], record["flaps"], record["has_returned"]) == ([2], 0, True)
    during = {name: missed(record[name]["during"]) for name in ("without", "with")}
    assert during["with"] < during["without"] / 10


def test_its_line_of_the_report_says_that_it_is_simulated(monkeypatch: pytest.MonkeyPatch, record: Any) -> None:
    monkeypatch.setattr(degradation, "result", lambda: record)
    (row,) = degradation.heat_rows(argparse.Namespace())
    assert (row.verdict, row.server) == ("held", "simulated")
    assert row.measured.endswith("2 switches, 0 flaps")


def test_the_same_requests_come_to_both_and_what_is_made_up_is_said(record: dict[str, Any]) -> None:
    for phase in degradation.PHASES:
        assert record["with"][phase]["offered"] == record["without"][phase]["offered"] > 1000
    assert "tools/make_heat_ramp.py" in record["made_up"]
    title = str(degradation.table(record).title)
    assert "MADE UP" in title
    assert "SIMULATED" in title

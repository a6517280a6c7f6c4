"""The plot and the page of a sweep."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from edge_runtime.profiler.pages.canvas import NothingToPlotError, draw
from edge_runtime.profiler.pareto_plot import PARETO_SIZE, paint_pareto
from edge_runtime.profiler.sweep_html import sweep_html


def pareto_svg(points: Any) -> str:
    return draw(partial(paint_pareto, points=points), PARETO_SIZE, "pareto-", "the points")


def point(label: str, p50_ms: float, energy_mj: float | None, **more: Any) -> dict[str, Any]:
    """Made up."""
    return {
        "label": label,
        "precision": "int8",
        "batch": 1,
        "power_mode": "15W",
        "p50_ms": p50_ms,
        "p99_ms": p50_ms * 1.2,
        "samples_per_s": 1000 / p50_ms,
        "energy_mj": energy_mj,
        "quality": 0.99,
        "quality_metric": "accuracy",
        "is_pareto": False,
        "is_recommended": False,
        "refused": None,
        **more,
    }


POINTS = [
    point("int8 batch 1", 2.0, 30.0, is_pareto=True, is_recommended=True),
    point("fp16 batch 1", 3.0, 45.0),
    point("int8 batch 8", 9.0, 21.0, is_pareto=True),
    point("fp32 batch 64", 1.0, None, refused="not enough memory"),
]


def texts(page: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", page)


def test_measured_points_are_named_and_the_recommended_one_is_marked() -> None:
    found = texts(pareto_svg(POINTS))
    assert {"int8 batch 1 (recommended)", "fp16 batch 1", "int8 batch 8"} <= set(found)
    assert "energy per inference, mJ (less is better)" in found
    assert "fp32 batch 64" not in found


def test_without_energy_the_throughput_stands_in() -> None:
    assert "samples/s (more is better)" in texts(pareto_svg([point("a", 1.0, None), point("b", 100.0, None)]))


@pytest.mark.parametrize("points", [[], [{}], [point("a", 1.0, 1.0, refused="why")]])
def test_nothing_measured_is_an_error_that_says_so(points: list[dict[str, Any]]) -> None:
    with pytest.raises(NothingToPlotError, match="no point of the sweep"):
        pareto_svg(points)


def test_the_page_of_a_sweep_lists_refused_points_and_commands() -> None:
    page = sweep_html(
        {
            "schema": "edge_runtime.sweep/1",
            "target": {"model": "<b>net</b>"},
            "points": POINTS,
            "recommended": "int8 batch 1",
            "origin": {"replay_of": "a.log", "label": "replay of a.log"},
            "commands": ["sudo nvpmodel -m 2"],
        }
    ).decode()
    assert "refused: not enough memory" in page
    assert "sudo nvpmodel -m 2" in page
    assert "Sweep of &lt;b&gt;net&lt;/b&gt;" in page
    assert "Power and energy on this page are not measured: from a replay of a.log" in page
    assert page.count("<svg") == 1
    assert "energy mJ (replayed)" in page
    assert "Latency against energy (replayed)" in page


def test_an_empty_sweep_says_why_there_is_no_plot() -> None:
    assert b"No plot: no point of the sweep" in sweep_html({})

"""Plots of how long calls take: their histogram, and what each stage of a call takes."""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

import numpy as np

from edge_runtime.profiler.pages.canvas import BLUE, INK, RED, Canvas, NothingToPlotError
from edge_runtime.profiler.pages.marks import log_ticks, plain_ticks
from edge_runtime.profiler.pages.reading import amount, number, plain, rows, section, series

HISTOGRAM_SIZE = (400.0, 280.0)
_MANY_TIMES = 20  # a latency axis that spans more is logarithmic
_ROW = 30.0


def paint_histogram(canvas: Canvas, record: Mapping[str, Any]) -> None:
    """Counts by latency, with the median, p99 and the limit of an outlier marked.

    Raises:
        NothingToPlotError: there are no counts.
    """
    histogram = section(record, "histogram")
    edges, counts = series(histogram.get("edges_ms")), series(histogram.get("counts"))
    if not counts.size or edges.size != counts.size + 1:
        raise NothingToPlotError("the record has no histogram of latencies")
    if not np.isfinite(edges).all() or not (np.diff(edges) > 0).all() or not np.nansum(counts) > 0:
        raise NothingToPlotError("the histogram in the record has no counts, or edges that don't ascend")
    axes = canvas.panel(46, 40, canvas.width - 62, canvas.height - 112)
    axes.annotate("Calls per bin, logarithmic", (0, 1), (-40, 56), xycoords="axes fraction", textcoords="offset points")
    axes.set_xlabel("latency, ms")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0.7, float(np.nanmax(counts)) * 1.5)
    log_ticks(axes, "y")
    if edges[0] > 0 and edges[-1] / edges[0] > _MANY_TIMES:
        log_ticks(axes, "x")
    else:
        plain_ticks(axes.xaxis, 6)
    axes.stairs(np.nan_to_num(counts), edges, fill=True, color=BLUE, linewidth=0)
    axes.grid(visible=False, axis="x")
    _mark(axes, _marks(record))


def _marks(record: Mapping[str, Any]) -> List[Tuple[str, float, str]]:
    latency, outliers = section(record, "latency"), section(record, "outliers")
    named = [
        ("p50", number(latency.get("p50_ms")), INK),
        ("p99", number(latency.get("p99_ms")), INK),
        ("outlier above", number(outliers.get("threshold_ms")), RED),
    ]
    return [(name, value, colour) for name, value, colour in named if value is not None]


def _mark(axes: Any, marks: List[Tuple[str, float, str]]) -> None:
    """Upright lines; each label has a row of its own above, so that none lies on another."""
    low, high = axes.get_xlim()
    inside = sorted((mark for mark in marks if low <= mark[1] <= high), key=lambda mark: mark[1])
    for row, (name, value, colour) in enumerate(inside):
        fraction = axes.transAxes.inverted().transform(axes.transData.transform((value, 1)))[0]
        is_right = fraction > 0.5
        height = 6 + 15 * (len(inside) - 1 - row)
        axes.axvline(value, color=colour, linewidth=1, linestyle="--" if colour == RED else "-")
        axes.annotate(
            f"{name} {amount(value, 'ms')}",
            (fraction, 1),
            (-3 if is_right else 3, height),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right" if is_right else "left",
            fontsize=11,
            color=colour,
        )


def stages_size(record: Mapping[str, Any]) -> Tuple[float, float]:
    """Pixels that the stages need."""
    return HISTOGRAM_SIZE[0], max(46 + _ROW * len(_stages(record)), HISTOGRAM_SIZE[1])


def paint_stages(canvas: Canvas, record: Mapping[str, Any]) -> None:
    """A bar for each stage's mean, a line from its median to its p99.

    Raises:
        NothingToPlotError: no stage was timed.
    """
    stages = _stages(record)
    if not stages:
        why = next((plain(row["why"]) for row in rows(record, "stages") if row.get("why")), "")
        raise NothingToPlotError(f"no stage of a call was timed{': ' + why if why else ''}")
    axes = canvas.panel(74, 24, canvas.width - 84, canvas.height - 56, "")
    axes.annotate(
        "Mean of each stage, ms; the line ends at p99",
        (0, 1),
        (-70, 14),
        xycoords="axes fraction",
        textcoords="offset points",
    )
    means = [number(row.get("mean_ms")) or 0.0 for row in stages]
    tails = [number(row.get("p99_ms")) for row in stages]
    reach = max([*means, *(tail for tail in tails if tail is not None), 1e-9])
    places = -np.arange(len(stages), dtype=float)
    axes.barh(places, means, height=0.5, color=BLUE)
    for place, mean, tail in zip(places, means, tails):
        if tail is not None and tail > mean:
            axes.plot([mean, tail], [place, place], color=INK, linewidth=1, marker="|", markevery=[1], markersize=7)
    for place, row, mean, tail in zip(places, stages, means, tails):
        share = number(row.get("share"))
        text = amount(mean, "ms") + ("" if share is None else f" \u00b7 {share:.1%}")
        axes.annotate(text, (max(mean, tail or 0), place), (6, -4), textcoords="offset points", fontsize=11)
    axes.set_xlim(0, reach * 1.55)
    axes.set_ylim(-len(stages) + 0.4, 0.6)
    axes.set_yticks(places, [plain(row.get("name"), 12) for row in stages])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(visible=False, axis="y")
    plain_ticks(axes.xaxis, 4)


def _stages(record: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    return [row for row in rows(record, "stages") if number(row.get("mean_ms")) is not None][:12]

"""The plot of a sweep: latency against energy or throughput, its frontier and the point that is recommended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Sequence, Tuple

from edge_runtime.profiler.pages.canvas import BLUE, GREEN, INK, QUIET, Axes, Canvas, NothingToPlotError
from edge_runtime.profiler.pages.marks import log_ticks, plain_ticks, spread
from edge_runtime.profiler.pages.reading import number, plain

PARETO_SIZE = (960.0, 420.0)
_MANY_TIMES = 10  # an axis that spans more is logarithmic
_LABEL = 13.0
_MOST = 26
_FEW = 12  # more points than these don't all get a name
_AXES = {"energy_mj": "energy per inference, mJ (less is better)", "samples_per_s": "samples/s (more is better)"}


@dataclass(frozen=True)
class Point:
    """A point that was measured, in pixels too once there are axes."""

    label: str
    x: float
    y: float
    is_pareto: bool
    is_recommended: bool


def measure_of(points: Sequence[Mapping[str, Any]]) -> str:
    """What stands against latency: energy where any point has it."""
    has_energy = any(_point(point, "energy_mj") for point in points)
    return "energy_mj" if has_energy else "samples_per_s"


def paint_pareto(canvas: Canvas, points: Sequence[Mapping[str, Any]]) -> None:
    """Each measured point with its label, the frontier's joined by a line.

    Raises:
        NothingToPlotError: no point has both figures.
    """
    measure = measure_of(points)
    found = [made for point in points for made in [_point(point, measure)] if made is not None]
    if not found:
        raise NothingToPlotError("no point of the sweep has both a latency and an energy or throughput")
    axes = canvas.panel(60, 44, canvas.width - 330, canvas.height - 80)
    axes.annotate(
        "Latency p50, ms (less is better)", (0, 1), (-54, 10), xycoords="axes fraction", textcoords="offset points"
    )
    axes.set_xlabel(_AXES[measure])
    _scale(axes, "x", [point.x for point in found])
    _scale(axes, "y", [point.y for point in found])
    frontier = sorted((point for point in found if point.is_pareto), key=lambda point: point.x)
    axes.plot([point.x for point in frontier], [point.y for point in frontier], color=BLUE, linewidth=1)
    for point in found:
        _mark(axes, point)
    _label(axes, found)


def _point(point: Mapping[str, Any], measure: str) -> Point | None:
    x, y = number(point.get(measure)), number(point.get("p50_ms"))
    if x is None or y is None or point.get("refused"):
        return None
    return Point(plain(point.get("label"), 26), x, y, bool(point.get("is_pareto")), bool(point.get("is_recommended")))


def _scale(axes: Axes, name: str, values: List[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high > _MANY_TIMES * low:
        getattr(axes, f"set_{name}lim")(low / 1.3, high * 1.3)
        log_ticks(axes, name)
    else:
        edge = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
        getattr(axes, f"set_{name}lim")(low - edge, high + edge)
        plain_ticks(getattr(axes, f"{name}axis"), 6)


def _mark(axes: Axes, point: Point) -> None:
    colour = BLUE if point.is_pareto else QUIET
    axes.plot(
        [point.x],
        [point.y],
        marker="o" if point.is_pareto else "x",
        color=colour,
        markersize=6,
        markerfacecolor=BLUE if point.is_pareto else "none",
    )
    if point.is_recommended:
        axes.plot(
            [point.x], [point.y], marker="o", markersize=15, color=GREEN, markerfacecolor="none", markeredgewidth=1.8
        )


def _label(axes: Axes, points: List[Point]) -> None:
    """Names in a column at the right, each joined to its point; of many points only those of the frontier have one."""
    ranked = [point for point in points if len(points) <= _FEW or point.is_pareto or point.is_recommended]
    ranked = sorted(ranked, key=lambda point: not point.is_recommended)[:_MOST]
    box = axes.bbox
    places: List[Tuple[float, float]] = [tuple(axes.transData.transform((point.x, point.y))) for point in ranked]
    heights = spread([y - box.y0 for _, y in places], _LABEL, 0, box.height)
    for point, height in zip(ranked, heights):
        colour = GREEN if point.is_recommended else INK if point.is_pareto else QUIET
        leader = {"arrowstyle": "-", "color": QUIET, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 4}
        axes.annotate(
            f"{point.label}{' (recommended)' if point.is_recommended else ''}",
            (point.x, point.y),
            (1.012, height / box.height),
            textcoords="axes fraction",
            va="center",
            fontsize=10.5,
            color=colour,
            arrowprops=leader,
            annotation_clip=False,
        )

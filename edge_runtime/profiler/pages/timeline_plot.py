"""The timeline: every call, and under it on the same axis what the board did meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np

from edge_runtime.profiler.outliers import OF_THE_BOARD
from edge_runtime.profiler.pages.canvas import (
    BLUE,
    INK,
    QUIET,
    RED,
    Axes,
    Canvas,
    NothingToPlotError,
)
from edge_runtime.profiler.pages.marks import (
    CAUSES,
    UNLISTED,
    dots,
    log_ticks,
    plain_ticks,
    spread,
    stroke,
    thinned,
    with_gaps,
)
from edge_runtime.profiler.pages.reading import (
    Pair,
    has_values,
    items,
    named_series,
    number,
    over_time,
    plain,
    rows,
    section,
)
from edge_runtime.profiler.replayed import marked

WIDTH = 960.0
MOST_DOTS = 2000
MOST_MARKERS = 1000
_LEFT, _RIGHT, _TOP, _BOTTOM, _BETWEEN = 52.0, 138.0, 30.0, 40.0, 34.0
_LABEL = 13.0
_NEAR_TRIP_C = 30.0
_MOST_SPANS = 300


@dataclass(frozen=True)
class Panel:
    """One row of the timeline: its height in pixels, its title, and what draws it."""

    height: float
    title: str
    paint: Callable[[Axes, Mapping[str, Any]], None]


def panels(record: Mapping[str, Any]) -> List[Panel]:
    """The rows that the record has anything for."""
    telemetry = section(record, "telemetry")
    at, latency = over_time(section(record, "timeline"), "start_s", section(record, "timeline").get("latency_ms"))
    found = [Panel(190, "Latency of each call, ms", _paint_latency)] if has_values(latency) and at.size else []
    watched = []
    if power_lines(telemetry):
        watched.append(Panel(130, "Power, W", _paint_power))
    if zone_lines(telemetry):
        watched.append(Panel(130, _temperature_title(telemetry), _paint_temperatures))
    if _lines(telemetry, _LOADS):
        watched.append(Panel(84, "Load, %", _paint_loads))
    if _lines(telemetry, _CLOCKS):
        watched.append(Panel(84, "Clock, MHz", _paint_clocks))
    origin = section(record, "board", "origin")
    return found + [replace(panel, title=marked(panel.title, origin)) for panel in watched]


def timeline_size(record: Mapping[str, Any]) -> Tuple[float, float]:
    """Pixels that the rows need."""
    found = panels(record)
    return WIDTH, _TOP + sum(panel.height for panel in found) + _BETWEEN * max(len(found) - 1, 0) + _BOTTOM


def paint_timeline(canvas: Canvas, record: Mapping[str, Any]) -> None:
    """All rows, and the spans in which the board was throttled behind them.

    Raises:
        NothingToPlotError: there is neither a call nor a sample.
    """
    found, limits = panels(record), _limits(record)
    if not found or limits is None:
        raise NothingToPlotError("the record has neither the moments of calls nor samples of the board")
    top = canvas.height - _TOP
    for index, panel in enumerate(found):
        top -= panel.height
        axes = canvas.panel(_LEFT, top, canvas.width - _LEFT - _RIGHT, panel.height, panel.title)
        top -= _BETWEEN
        axes.set_xlim(*limits)
        panel.paint(axes, record)
        axes.set_xlim(*limits)
        plain_ticks(axes.xaxis, 10)
        _shade(axes, record, is_labelled=index == 0)
        if index == len(found) - 1:
            axes.set_xlabel("seconds since the timed phase began")
        else:
            axes.tick_params(axis="x", labelbottom=False, length=0)


def _limits(record: Mapping[str, Any]) -> Tuple[float, float] | None:
    """The span of the calls, and up to half of it before and after where there are samples."""
    calls, _ = over_time(section(record, "timeline"), "start_s", section(record, "timeline").get("start_s"))
    sampled, _ = over_time(section(record, "telemetry"), "at_s", section(record, "telemetry").get("at_s"))
    main = calls if calls.size else sampled
    if not main.size:
        return None
    low, high = float(main[0]), float(main[-1])
    reach = (high - low) / 2
    if sampled.size:
        low, high = max(min(low, sampled[0]), low - reach), min(max(high, sampled[-1]), high + reach)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _shade(axes: Axes, record: Mapping[str, Any], *, is_labelled: bool) -> None:
    low, high = axes.get_xlim()
    named_until = low
    for row in rows(section(record, "telemetry"), "throttled")[:_MOST_SPANS]:
        start, end = number(row.get("from_s")), number(row.get("to_s"))
        if start is None or start > high:
            continue
        end = high if end is None else end
        if end < low:
            continue
        axes.axvspan(max(start, low), min(end, high), facecolor=RED, alpha=0.13, linewidth=0, zorder=0)
        text = plain(f"{row.get('cause') or 'throttled'} {row.get('where') or ''}".strip(), 24)
        width = (high - low) * (len(text) + 1) / 125
        if is_labelled and start >= named_until and start + width < high:
            axes.annotate(
                text,
                (max(start, low), 1),
                (2, -11),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=10.5,
                color=RED,
            )
            named_until = start + width


def _paint_latency(axes: Axes, record: Mapping[str, Any]) -> None:
    timeline, threshold = section(record, "timeline"), number(section(record, "outliers").get("threshold_ms"))
    at, latency = over_time(timeline, "start_s", timeline.get("latency_ms"))
    known = np.isfinite(latency)
    at, latency = at[known], latency[known]
    is_plain = latency <= (np.inf if threshold is None else threshold)
    step = -(-int(is_plain.sum()) // MOST_DOTS) or 1
    dots(axes, at[is_plain][::step], latency[is_plain][::step], color=BLUE, linewidth=2, alpha=0.55)
    listed = _paint_outliers(axes, record, (at[~is_plain], latency[~is_plain]))
    axes.margins(y=0.12)
    every = np.concatenate((latency, listed))
    if every.min() > 0 and every.max() > 10 * np.median(every):
        axes.set_ylim(every.min() * 0.8, every.max() * 1.6)
        log_ticks(axes, "y")
    else:
        axes.set_ylim(bottom=0)
        plain_ticks(axes.yaxis)
    if threshold is not None:
        axes.axhline(threshold, color=RED, linewidth=0.9, linestyle="--")
        _end_labels(axes, [(f"outlier above {threshold:.3g}", threshold, RED)])


def _paint_outliers(axes: Axes, record: Mapping[str, Any], found: Pair) -> Any:
    """A marker for each outlier by its cause, the slowest first if there are too many; their latencies."""
    outliers, origin = section(record, "outliers"), section(record, "board", "origin")
    counts, by_cause = section(outliers, "by_cause"), _by_cause(outliers)
    for cause, points in by_cause.items():
        count = number(counts.get(cause)) or len(points)
        label = f"{'replayed ' if cause in OF_THE_BOARD and origin.get('replay_of') else ''}{plain(cause, 14)}"
        _paint_markers(axes, points, CAUSES.get(cause, UNLISTED), f"{label} {count:,.0f}")
    listed = {number(row.get("at_s")) for row in rows(outliers, "items")}
    rest = [point for point in zip(*(each.tolist() for each in found)) if point[0] not in listed]
    rest = sorted(rest, key=lambda point: -point[1])[:MOST_MARKERS]
    if rest:
        _paint_markers(axes, rest, UNLISTED, "cause not listed")
    if by_cause or rest:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1 + (_RIGHT - 8) / axes.bbox.width, 0.985),
            ncol=8,
            borderaxespad=0,
            columnspacing=1.2,
            handletextpad=0.1,
            handlelength=1.4,
            borderpad=0.3,
        )
    return np.array([latency for points in by_cause.values() for _, latency in points])


def _paint_markers(axes: Axes, points: List[Tuple[float, float]], mark: Tuple[str, str], label: str) -> None:
    axes.plot(
        *zip(*points),
        marker=mark[0],
        color=mark[1],
        label=label,
        markersize=5.5,
        markeredgewidth=1.1,
        markerfacecolor="none",
        linestyle="none",
    )


def _by_cause(outliers: Mapping[str, Any]) -> Dict[str, List[Tuple[float, float]]]:
    known = [(number(row.get("at_s")), number(row.get("latency_ms")), row) for row in rows(outliers, "items")]
    whole = [
        (at, latency, str(row.get("cause") or "unknown"))
        for at, latency, row in known
        if at is not None and latency is not None
    ]
    found: Dict[str, List[Tuple[float, float]]] = {}
    for at, latency, cause in sorted(whole, key=lambda each: -each[1])[:MOST_MARKERS]:
        found.setdefault(cause, []).append((at, latency))
    order = [*CAUSES, *sorted(set(found) - set(CAUSES))]
    return {cause: found[cause] for cause in order if cause in found}


Line = Tuple[str, Pair]
_LOADS = (("GPU", "gpu_load_pct"), ("CPU", "cpu_load_pct"))
_CLOCKS = (("GPU", "gpu_mhz"), ("CPU", "cpu_mhz"))


def power_lines(telemetry: Mapping[str, Any]) -> List[Line]:
    """Total power, and the rails apart from one that is itself the total, in mW."""
    total = over_time(telemetry, "at_s", telemetry.get("total_mw"))
    whole = [("total", total)] if has_values(total[1]) else []
    rails = named_series(telemetry, "rails_mw").items()
    return [*whole, *(rail for rail in rails if not _is_same(rail[1], total))]


def _is_same(one: Pair, other: Pair) -> bool:
    """Whether a rail is itself the total."""
    return one[1].shape == other[1].shape and bool(np.array_equal(one[1], other[1], equal_nan=True))


def zone_lines(telemetry: Mapping[str, Any]) -> List[Line]:
    """The zones that are read, the hottest first; constants are no reading."""
    constants = {str(name) for name in items(telemetry, "constants")}
    found = {name: pair for name, pair in named_series(telemetry, "zones_c").items() if name not in constants}
    return sorted(found.items(), key=lambda item: -float(np.nanmax(item[1][1])))


def _lines(telemetry: Mapping[str, Any], names: Tuple[Tuple[str, str], ...]) -> List[Line]:
    pairs = [(name, over_time(telemetry, "at_s", telemetry.get(key))) for name, key in names]
    return [(name, pair) for name, pair in pairs if has_values(pair[1])]


def _temperature_title(telemetry: Mapping[str, Any]) -> str:
    trip = _lowest_trip(telemetry)
    title = "Temperature, \u00b0C"
    if trip is None or _is_near(trip[1], zone_lines(telemetry)):
        return title
    return f"{title} \u2013 first trip point, {plain(trip[0], 24)} at {trip[1]:g} \u00b0C, is above what is drawn"


def _lowest_trip(telemetry: Mapping[str, Any]) -> Tuple[str, float] | None:
    trips = {str(name): number(value) for name, value in section(telemetry, "trips_c").items()}
    known = [(name, value) for name, value in trips.items() if value is not None]
    return min(known, key=lambda item: item[1]) if known else None


def _is_near(trip_c: float, lines: List[Line]) -> bool:
    return trip_c - max(float(np.nanmax(pair[1])) for _, pair in lines) <= _NEAR_TRIP_C


def _paint_power(axes: Axes, record: Mapping[str, Any]) -> None:
    lines = [(name, (at, values / 1000)) for name, (at, values) in power_lines(section(record, "telemetry"))]
    low = min(float(np.nanmin(pair[1])) for _, pair in lines)
    _paint_lines(axes, lines)
    axes.margins(y=0.15)
    axes.set_ylim(bottom=min(low * 1.1, 0))
    _label_lines(axes, lines)
    window = section(record, "energy", "window")
    start, end = number(window.get("from_s")), number(window.get("to_s"))
    if start is not None and end is not None and section(record, "energy", "gross_mj"):
        axes.plot(
            [start, end],
            [0.985, 0.985],
            transform=axes.get_xaxis_transform(),
            color=INK,
            linewidth=1,
            marker="|",
            markersize=6,
        )
        axes.annotate(
            "energy is taken over this span",
            (1, 1),
            (-2, 6),
            xycoords="axes fraction",
            ha="right",
            textcoords="offset points",
            fontsize=10.5,
            color=QUIET,
        )


def _paint_temperatures(axes: Axes, record: Mapping[str, Any]) -> None:
    telemetry = section(record, "telemetry")
    lines, trip = zone_lines(telemetry), _lowest_trip(telemetry)
    _paint_lines(axes, lines)
    if trip is not None and _is_near(trip[1], lines):
        axes.axhline(trip[1], color=RED, linewidth=1, linestyle="--")
        axes.margins(y=0.15)
        _label_lines(axes, lines, [(f"trip {plain(trip[0], 10)} {trip[1]:g}", trip[1], RED)])
    else:
        axes.margins(y=0.15)
        _label_lines(axes, lines)


def _paint_loads(axes: Axes, record: Mapping[str, Any]) -> None:
    lines = _lines(section(record, "telemetry"), _LOADS)
    _paint_lines(axes, lines)
    axes.set_ylim(0, 105)
    _label_lines(axes, lines, ticks=3)


def _paint_clocks(axes: Axes, record: Mapping[str, Any]) -> None:
    lines = _lines(section(record, "telemetry"), _CLOCKS)
    _paint_lines(axes, lines)
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)
    _label_lines(axes, lines, ticks=3)


def _paint_lines(axes: Axes, lines: List[Line]) -> None:
    for index, (_, pair) in enumerate(lines):
        colour, dashes = stroke(index)
        at, values = thinned(with_gaps(pair))
        lone = (
            np.isfinite(values)
            & ~np.isfinite(np.append(values[1:], np.nan))
            & ~np.isfinite(np.insert(values[:-1], 0, np.nan))
        )
        axes.plot(at, values, color=colour, linestyle=dashes)
        dots(axes, at[lone], values[lone], color=colour, linewidth=3)


def _label_lines(axes: Axes, lines: List[Line], more: Tuple[Any, ...] | List[Any] = (), ticks: int = 5) -> None:
    plain_ticks(axes.yaxis, ticks)
    ends = [
        (plain(name, 18), float(pair[1][np.isfinite(pair[1])][-1]), stroke(index)[0])
        for index, (name, pair) in enumerate(lines)
    ]
    _end_labels(axes, [*more, *ends])


def _end_labels(axes: Axes, labels: List[Tuple[str, float, str]]) -> None:
    """Names at the right ends of lines, moved apart; those without room are counted."""
    axes.get_ylim()  # the limits are found only now
    box = axes.bbox
    room = max(int(box.height // _LABEL) + 1, 1)
    shown = labels if len(labels) <= room else [*labels[: room - 1]]
    places = [float(axes.transData.transform((0, value))[1]) - box.y0 for _, value, _ in shown]
    if len(shown) < len(labels):
        shown = [*shown, (f"{len(labels) - len(shown)} more in the table", 0.0, QUIET)]
        places = [*places, 0.0]
    for (name, _, colour), y, place in zip(shown, spread(places, _LABEL, 0, box.height), places):
        at = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        axes.annotate(name, (1, y / box.height), (12, -4), fontsize=10.5, color=colour, **at)
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (1, place / box.height), (10, y - place), arrowprops=leader, **at)

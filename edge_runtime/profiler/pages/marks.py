"""How plots show numbers: text of ticks, labels that don't lie on each other, and fewer points where there are many."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import numpy as np

from edge_runtime.profiler.pages.canvas import OCHRE, PURPLE, QUIET, RED, SERIES, STROKES, Axes
from edge_runtime.profiler.pages.reading import Pair, Series, has_values

CAUSES = {  # marker, colour and whether it is filled: told apart by shape, without colour too
    "throttle": ("^", RED),
    "over-current": ("D", PURPLE),
    "clock ramp": (">", OCHRE),
    "gc": ("o", SERIES[0]),
    "other load": ("s", SERIES[2]),
    "queue": ("v", SERIES[5]),
    "unknown": ("x", QUIET),
}
UNLISTED = ("+", QUIET)

_BINS = 500
_LONG_GAP = 5.0  # median steps


def stroke(index: int) -> Tuple[str, Any]:
    """Colour and dashes of the line of this number; a pair comes back only after 24."""
    return SERIES[index % len(SERIES)], STROKES[(index + index // len(SERIES)) % len(STROKES)]


def tick_text(value: float, _: Any = None) -> str:
    """A number at a tick."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}".replace("-", "\u2212")


def plain_ticks(axis: Any, count: int = 5) -> None:
    """At most so many ticks on a linear `axis`, as plain numbers."""
    axis.get_major_locator().set_params(nbins=count)
    axis.set_major_formatter(tick_text)


def log_ticks(axes: Axes, name: str) -> None:
    """A logarithmic axis (`x` or `y`) with plain numbers and no marks between."""
    getattr(axes, f"set_{name}scale")("log")
    axis = getattr(axes, f"{name}axis")
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high < 60 * low else (1.0, 3.0) if high < 300 * low else (1.0,)
    axis.get_major_locator().set_params(subs=subs, numticks=12)
    axis.set_major_formatter(tick_text)
    axis.set_minor_formatter(lambda *_: "")


def spread(places: Sequence[float], gap: float, low: float, high: float) -> List[float]:
    """`places` moved as little as needed to be `gap` apart inside `low` to `high`; too many are packed evenly."""
    if not places:
        return []
    gap = min(gap, (high - low) / max(len(places) - 1, 1))
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved, end = [0.0] * len(places), low - gap
    for index in order:
        end = moved[index] = max(places[index], end + gap)
    start = high + gap
    for index in reversed(order):
        start = moved[index] = min(moved[index], start - gap)
    return moved


def with_gaps(pair: Pair) -> Pair:
    """A break (NaN) wherever a series is silent for long: nothing is drawn over what wasn't measured."""
    at, values = pair
    steps = np.diff(at)
    if steps.size < 2:
        return pair
    breaks = np.flatnonzero(steps > _LONG_GAP * max(float(np.median(steps)), 1e-9)) + 1
    middles = (at[breaks - 1] + at[breaks]) / 2
    return np.insert(at, breaks, middles), np.insert(values, breaks, np.nan)


def thinned(pair: Pair) -> Pair:
    """The lowest and highest value of each of some hundred spans, where there are more points than can be seen."""
    at, values = pair
    if at.size <= 3 * _BINS:
        return pair
    kept = [_extremes(values[part], int(part[0])) for part in np.array_split(np.arange(at.size), _BINS)]
    chosen = np.array([index for each in kept for index in each])
    return at[chosen], values[chosen]


def _extremes(values: Series, first: int) -> List[int]:
    if not has_values(values) or np.isnan(values).mean() > 0.5:
        return [first + int(np.argmax(np.isnan(values)))]
    return sorted({first + int(np.nanargmin(values)), first + int(np.nanargmax(values))})


def dots(axes: Axes, at: Series, values: Series, **style: Any) -> None:
    """Many small dots as one path: lines without length, with round ends."""
    x = np.column_stack((at, at, np.full_like(at, np.nan))).ravel()
    y = np.column_stack((values, values, np.full_like(at, np.nan))).ravel()
    axes.plot(x, y, solid_capstyle="round", **style)

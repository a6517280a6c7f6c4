"""The plot of what each layer takes."""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

import numpy as np

from edge_runtime.profiler.pages.canvas import INK, QUIET, SERIES, Canvas, NothingToPlotError
from edge_runtime.profiler.pages.marks import plain_ticks
from edge_runtime.profiler.pages.reading import amount, number, plain, rows, section

WIDTH = 960.0
SHOWN = 25
_ROW, _NAMES, _TEXT = 20.0, 330.0, 170.0
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "---")


def shown_layers(record: Mapping[str, Any]) -> Tuple[List[Mapping[str, Any]], List[Mapping[str, Any]]]:
    """The slowest layers, and the others."""
    timed = [row for row in rows(section(record, "layers"), "layers") if number(row.get("mean_ms")) is not None]
    timed.sort(key=lambda row: -(number(row["mean_ms"]) or 0))
    return (timed[:SHOWN], timed[SHOWN:]) if len(timed) > SHOWN + 1 else (timed, [])


def layers_size(record: Mapping[str, Any]) -> Tuple[float, float]:
    """Pixels that the bars need."""
    shown, others = shown_layers(record)
    return WIDTH, 56 + _ROW * (len(shown) + bool(others))


def paint_layers(canvas: Canvas, record: Mapping[str, Any]) -> None:
    """A bar for each of the slowest layers and one for all others, hatched by precision.

    Raises:
        NothingToPlotError: layers weren't timed.
    """
    shown, others = shown_layers(record)
    if not shown:
        raise NothingToPlotError("layers were not timed")
    axes = canvas.panel(_NAMES, 24, canvas.width - _NAMES - _TEXT, canvas.height - 52)
    axes.annotate("Mean time of a layer, ms", (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points")
    precisions = sorted({_precision(row) for row in shown})
    for place, row in enumerate(shown):
        index = precisions.index(_precision(row))
        mean = number(row["mean_ms"]) or 0.0
        axes.barh(
            -place,
            mean,
            height=0.62,
            facecolor=SERIES[index % len(SERIES)],
            linewidth=0,
            hatch=_HATCHES[index % len(_HATCHES)],
            edgecolor="white",
        )
        _say(
            axes,
            (mean, -place),
            " \u00b7 ".join(part for part in (amount(mean, "ms"), _share(row), _precision(row)) if part),
        )
    names = [plain(row.get("name"), 44) for row in shown]
    if others:
        mean, longest = sum(number(row["mean_ms"]) or 0.0 for row in others), number(shown[0]["mean_ms"]) or 1e-9
        axes.barh(-len(shown), min(mean, longest), height=0.62, facecolor="none", edgecolor=QUIET, linewidth=1)
        share = sum(number(row.get("share")) or 0.0 for row in others)
        cut = " (bar cut off)" if mean > longest else ""
        _say(axes, (min(mean, longest), -len(shown)), f"{amount(mean, 'ms')} \u00b7 {share:.1%}{cut}")
        names.append(f"{len(others):,} others together")
    axes.set_xlim(left=0)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_yticks(-np.arange(len(names)), names)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(visible=False, axis="y")
    plain_ticks(axes.xaxis, 6)


def _say(axes: Any, place: Tuple[float, float], text: str) -> None:
    axes.annotate(text, place, (5, -4), textcoords="offset points", fontsize=10.5, annotation_clip=False)


def _precision(row: Mapping[str, Any]) -> str:
    return plain(row.get("precision") or "", 12)


def _share(row: Mapping[str, Any]) -> str:
    share = number(row.get("share"))
    return "" if share is None else f"{share:.1%}"

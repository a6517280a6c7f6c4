"""The plot of where an inference's energy goes."""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

from edge_runtime.profiler.pages.canvas import BLUE, GREEN, INK, QUIET, Canvas, NothingToPlotError
from edge_runtime.profiler.pages.marks import plain_ticks
from edge_runtime.profiler.pages.reading import number, plain, section, with_error
from edge_runtime.profiler.replayed import marked

ENERGY_SIZE = (400.0, 170.0)

Bar = Tuple[str, float, float, "float | None", str]  # name, where it starts, how long it is, its error, colour


def why_no_energy(record: Mapping[str, Any]) -> str | None:
    """Why there is no figure of energy; None where there is one, be it the gross one alone."""
    energy = section(record, "energy")
    if number(section(energy, "gross_mj").get("value")) is not None:
        return None
    return plain(energy["refused"]) if energy.get("refused") else "energy was not measured"


def paint_energy(canvas: Canvas, record: Mapping[str, Any]) -> None:
    """What the board takes when idle during an inference, what the inference adds, and the whole.

    Raises:
        NothingToPlotError: there is no figure of energy.
    """
    why = why_no_energy(record)
    if why is not None:
        raise NothingToPlotError(why)
    bars = _bars(section(record, "energy"))
    axes = canvas.panel(74, 24, canvas.width - 84, canvas.height - 56)
    axes.annotate(
        marked("Energy of one inference, mJ", section(record, "board", "origin")),
        (0, 1),
        (-70, 14),
        xycoords="axes fraction",
        textcoords="offset points",
    )
    reach = max([*(start + length + (error or 0) for _, start, length, error, _ in bars), 1e-9])
    for place, (_, start, length, error, colour) in enumerate(bars):
        axes.barh(-place, length, left=start, height=0.5, color=colour)
        if error is not None:
            axes.errorbar([start + length], [-place], xerr=[error], color=INK, linewidth=1.1, capsize=3.5)
        end = max(start, start + length) + (error or 0)
        said = with_error(length, error, "mJ")
        axes.annotate(said, (end, -place), (7, -4), textcoords="offset points", fontsize=11)
    axes.set_xlim(min(0.0, *(start + min(length, 0) for _, start, length, _, _ in bars), 0.0), reach * 1.5)
    axes.set_ylim(-len(bars) + 0.4, 0.6)
    axes.set_yticks([-place for place in range(len(bars))], [bar[0] for bar in bars])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(visible=False, axis="y")
    plain_ticks(axes.xaxis, 4)


def _bars(energy: Mapping[str, Any]) -> List[Bar]:
    gross, net = section(energy, "gross_mj"), section(energy, "net_mj")
    whole, added = number(gross.get("value")) or 0.0, number(net.get("value"))
    errors = [_error(each.get("standard_error")) for each in (gross, net)]
    if added is None:
        return [("gross", 0.0, whole, errors[0], BLUE)]
    return [
        ("idle part", 0.0, whole - added, None, QUIET),
        ("net", whole - added, added, errors[1], GREEN),
        ("gross", 0.0, whole, errors[0], BLUE),
    ]


def _error(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and found >= 0 else None

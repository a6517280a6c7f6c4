"""A sweep as one HTML page that needs nothing else: the points, their frontier, and what is recommended."""

from __future__ import annotations

from functools import partial
from typing import Any, Iterator, Mapping, Tuple

from edge_runtime.profiler.pages.canvas import require_matplotlib
from edge_runtime.profiler.pages.document import banner, card, document, entries, facts, note, plot, table, text
from edge_runtime.profiler.pages.headline import replayed
from edge_runtime.profiler.pages.reading import amount, items, plain, rows, section
from edge_runtime.profiler.pareto_plot import PARETO_SIZE, measure_of, paint_pareto
from edge_runtime.profiler.replayed import marked

_HEADER = (
    "point",
    "precision",
    "batch",
    "power mode",
    "p50 ms",
    "p99 ms",
    "samples/s",
    "energy mJ",
    "quality",
    "verdict",
)


def sweep_html(record: Mapping[str, Any]) -> bytes:
    """The page of a record of schema `edge_runtime.sweep/1`; whatever is missing in it is said, not guessed.

    Raises:
        ConfigError: matplotlib isn't installed.
    """
    require_matplotlib()
    return document(f"Sweep of {plain(_name(record), 80)}", _body(record))


def _name(record: Mapping[str, Any]) -> str:
    return str(section(record, "target").get("model") or "an unnamed model")


def _body(record: Mapping[str, Any]) -> Iterator[str]:
    recommended = record.get("recommended")
    verdict = f"Recommended: {plain(recommended, 120)}" if recommended else "No point keeps the limits"
    board = section(record, "environment").get("board")
    yield f"<header>\n<h1>Sweep of {text(_name(record), 120)}</h1>\n<p>{text(verdict)}</p>"
    yield f"<p>{text(board)}</p>\n</header>" if board and board != "none" else "</header>"
    yield banner(
        "origin", [f"Power and energy on this page are {words}." for words in replayed(section(record, "origin"))]
    )
    yield "<main>"
    yield _frontier(record)
    yield _points(record)
    yield entries("Not measured", items(record, "not_measured"), is_wide=True)
    yield entries("Commands", items(record, "commands"), is_wide=True)
    yield "</main>\n<div class=columns>"
    for name in ("limits", "target", "environment", "origin"):
        found = facts(name.capitalize(), section(record, name))
        yield card(name.capitalize(), [found]) if found else ""
    yield "</div>"
    yield f"<footer>{text(record.get('schema'))}; this page loads nothing and works offline.</footer>"


def _frontier(record: Mapping[str, Any]) -> str:
    points = rows(record, "points")
    against = "energy" if measure_of(points) == "energy_mj" else "throughput"
    drawn = plot(
        partial(paint_pareto, points=points), PARETO_SIZE, "pareto", f"Latency against {against} of each point"
    )
    how = "Filled points on the line are the frontier: no other point is better in every respect. The table names all."
    unmeasured = "" if against == "energy" else " Energy was not measured."
    against = marked(against, section(record, "origin")) if against == "energy" else against
    return card(f"Latency against {against}", [drawn, note(how + unmeasured)], is_wide=True)


def _points(record: Mapping[str, Any]) -> str:
    lines = [_line(point) for point in rows(record, "points")]
    header = tuple(marked(name, section(record, "origin")) if name == "energy mJ" else name for name in _HEADER)
    return card("Points", [table("Every point of the sweep", header, lines)], is_wide=True) if lines else ""


def _line(point: Mapping[str, Any]) -> Tuple[str, ...]:
    words = [point.get(name) for name in ("label", "precision", "batch", "power_mode")]
    figures = [point.get(name) for name in ("p50_ms", "p99_ms", "samples_per_s", "energy_mj")]
    quality = amount(point.get("quality"), "", "\u2013")
    metric = plain(point.get("quality_metric") or "", 40)
    if point.get("refused"):
        verdict = f"refused: {plain(point['refused'])}"
    elif point.get("is_recommended"):
        verdict = "recommended"
    else:
        verdict = "frontier" if point.get("is_pareto") else ""
    return (
        *("\u2013" if word is None else plain(word) for word in words),
        *(amount(figure, "", "\u2013") for figure in figures),
        f"{quality} {metric}".strip(),
        verdict,
    )

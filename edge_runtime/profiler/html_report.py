"""A profile as one HTML page that needs nothing else: figures, plots, and the tables behind them."""

from __future__ import annotations

from functools import partial
from typing import Any, Iterator, Mapping

from edge_runtime.profiler.pages.canvas import require_matplotlib
from edge_runtime.profiler.pages.document import card, document, entries, note, plot, text
from edge_runtime.profiler.pages.energy_plot import ENERGY_SIZE, paint_energy
from edge_runtime.profiler.pages.headline import banners, header, tiles, title
from edge_runtime.profiler.pages.latency_plots import HISTOGRAM_SIZE, paint_histogram, paint_stages, stages_size
from edge_runtime.profiler.pages.layer_plot import SHOWN, layers_size, paint_layers
from edge_runtime.profiler.pages.reading import items, number, plain, rows, section
from edge_runtime.profiler.pages.tables import (
    energy_table,
    latency_table,
    layer_table,
    outlier_table,
    setting_tables,
    stage_table,
    telemetry_table,
)
from edge_runtime.profiler.pages.timeline_plot import MOST_DOTS, paint_timeline, timeline_size

_HOW_TO_READ = """\
An outlier is a call that took more than 1.5 times the median. Its marker tells the cause, found by looking at what \
the board, the garbage collector and the queue did during that call; unknown means that nothing was found.
A bound holds at 99 % confidence (MLPerf's early stopping): the true percentile is below it. Where n is too small for \
a percentile, none is given.
Look down from an outlier: power, temperature, load and clock share its time axis. Shaded spans are times in which the \
board was throttled. A gap in a line is a sample that is missing; it isn't zero.
Net energy is what an inference adds to the idle board; gross includes the idle part, and is what a battery gives.
Times of layers come from runs of their own, in which timing costs something: compare their shares, not their sum.\
"""


def html_report(record: Mapping[str, Any]) -> bytes:
    """The page of a record of schema `edge_runtime.profile/1`; whatever is missing in it is said, not guessed.

    Raises:
        ConfigError: matplotlib isn't installed.
    """
    require_matplotlib()
    return document(f"Profile of {plain(title(record), 80)}", _body(record))


def _body(record: Mapping[str, Any]) -> Iterator[str]:
    yield header(record)
    yield banners(record)
    yield tiles(record)
    yield "<main>"
    yield _timeline(record)
    yield _histogram(record)
    yield _stages(record)
    yield _energy(record)
    yield entries("Not measured", items(record, "not_measured"))
    yield _layers(record)
    yield entries("How to read it", _HOW_TO_READ.splitlines(), is_wide=True)
    yield "</main>\n<div class=columns>"
    yield from (card(name, [table]) for name, table in setting_tables(record) if table)
    yield "</div>"
    yield f"<footer>{text(record.get('schema'))}; this page loads nothing and works offline.</footer>"


def _timeline(record: Mapping[str, Any]) -> str:
    drawn = plot(
        partial(paint_timeline, record=record),
        timeline_size(record),
        "timeline",
        "Timeline: latency of each call with its outliers, over power, temperature, load and clock",
    )
    parts = [drawn, _timeline_note(record), outlier_table(record), telemetry_table(record)]
    return card("What happened when", parts, is_wide=True)


def _timeline_note(record: Mapping[str, Any]) -> str:
    timeline, outliers = section(record, "timeline"), section(record, "outliers")
    drawn, sentences = len(items(timeline, "start_s")), []
    if timeline.get("thinned") or drawn > MOST_DOTS:
        sentences.append("Of the calls that are no outliers only some are drawn.")
    n, listed = number(outliers.get("n")), len(rows(outliers, "items"))
    if n is not None and listed < n:
        sentences.append(f"{listed:,} of {n:,.0f} outliers are listed with their cause.")
    how = section(record, "telemetry").get("how")
    if how:
        sentences.append(f"Total power: {plain(how, 80)}.")
    return note(" ".join(sentences)) if sentences else ""


def _histogram(record: Mapping[str, Any]) -> str:
    drawn = plot(partial(paint_histogram, record=record), HISTOGRAM_SIZE, "histogram", "Histogram of latency")
    return card("How long calls take", [drawn, latency_table(record)])


def _stages(record: Mapping[str, Any]) -> str:
    drawn = plot(
        partial(paint_stages, record=record), stages_size(record), "stages", "Mean time of each stage of a call"
    )
    apart = [f"{plain(row.get('name'), 40)}: {plain(row['why'])}" for row in rows(record, "stages") if row.get("why")]
    return card(
        "Where a call spends its time",
        [drawn, note("Not told apart \u2013 " + "; ".join(apart) + ".") if apart else "", stage_table(record)],
    )


def _energy(record: Mapping[str, Any]) -> str:
    label = "Energy of one inference: idle part, net part and the whole"
    drawn = plot(partial(paint_energy, record=record), ENERGY_SIZE, "energy", label)
    return card("Energy of an inference", [drawn, energy_table(record)])


def _layers(record: Mapping[str, Any]) -> str:
    layers = section(record, "layers")
    drawn = plot(
        partial(paint_layers, record=record), layers_size(record), "layers", f"Mean time of the {SHOWN} slowest layers"
    )
    notes = [plain(each) for each in items(layers, "notes")]
    return card("Layers", [drawn, note("; ".join(notes)) if notes else "", layer_table(record)], is_wide=True)

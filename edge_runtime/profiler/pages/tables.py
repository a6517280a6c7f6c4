"""The tables of a report of a profile: the figures behind each plot, and what they were measured on."""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

import numpy as np

from edge_runtime.profiler.pages.document import details, facts, table
from edge_runtime.profiler.pages.reading import Pair, amount, items, number, over_time, plain, rows, section, series
from edge_runtime.profiler.pages.timeline_plot import power_lines, zone_lines

_LATENCIES = ("mean_ms", "min_ms", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
_UNKNOWN = "\u2013"


def latency_table(record: Mapping[str, Any]) -> str:
    """Summary and histogram of the latencies."""
    latency, histogram = section(record, "latency"), section(record, "histogram")
    bounds = {name: latency.get(name.replace("_ms", "_bound_ms")) for name in _LATENCIES}
    lines = [(name[:-3], amount(latency.get(name), "ms"), _figure(bounds[name], "ms")) for name in _LATENCIES]
    edges, counts = series(histogram.get("edges_ms")), series(histogram.get("counts"))
    bins = [
        (f"{low:.4g} to {high:.4g} ms", f"{count:,.0f}")
        for low, high, count in zip(edges, edges[1:], counts)
        if count > 0
    ]
    return details(
        "Figures",
        (
            table("Latency; bounds hold at 99 % confidence", ("", "measured", "bound"), lines),
            table("Calls by latency; empty bins are left out", ("bin", "calls"), bins),
        ),
    )


def stage_table(record: Mapping[str, Any]) -> str:
    """Every stage, those too that can't be told apart."""
    lines = [
        (
            row.get("name"),
            _figure(row.get("n")),
            *(_figure(row.get(key)) for key in ("mean_ms", "p50_ms", "p90_ms", "p99_ms")),
            row.get("why") or _share(row),
        )
        for row in rows(record, "stages")
    ]
    return details(
        "Figures", (table("Stages of a call, ms", ("stage", "n", "mean", "p50", "p90", "p99", "share"), lines),)
    )


def outlier_table(record: Mapping[str, Any]) -> str:
    """The listed outliers, the slowest first."""
    outliers = section(record, "outliers")
    listed = sorted(rows(outliers, "items"), key=lambda row: -(number(row.get("latency_ms")) or 0))
    lines = [
        (_figure(row.get("at_s"), "s"), _figure(row.get("latency_ms"), "ms"), row.get("cause"), row.get("detail") or "")
        for row in listed
    ]
    return details(
        "Outliers and their causes",
        (table("Outliers, the slowest first", ("at", "latency", "cause", "detail"), lines),),
    )


def telemetry_table(record: Mapping[str, Any]) -> str:
    """What each series was over the whole time, and when the board was throttled."""
    telemetry = section(record, "telemetry")
    constants = [plain(name) for name in items(telemetry, "constants")]
    lines = [
        *(_summary(f"power, {name}", "mW", pair) for name, pair in power_lines(telemetry)),
        *(_summary(f"zone {name}", "\u00b0C", pair) for name, pair in zone_lines(telemetry)),
        *_other_summaries(telemetry),
    ]
    spans = [
        (
            _figure(row.get("from_s"), "s"),
            _figure(row.get("to_s"), "s"),
            row.get("cause"),
            row.get("where") or "",
            row.get("detail") or "",
        )
        for row in rows(telemetry, "throttled")
    ]
    trips = section(telemetry, "trips_c")
    return details(
        "Power, temperature, clocks and load",
        (
            table(
                "Samples of the board; a missing sample is drawn as a gap",
                ("series", "lowest", "mean", "highest", "samples", "missing"),
                lines,
            ),
            table("Throttled", ("from", "to", "cause", "where", "detail"), spans),
            table(
                "Trip points",
                ("zone", "throttles at"),
                [(name, _figure(value, "\u00b0C")) for name, value in trips.items()],
            ),
            facts("Zones whose number is no reading", {"constants": constants}),
        ),
    )


def layer_table(record: Mapping[str, Any]) -> str:
    """Every layer in execution order."""
    layers = section(record, "layers")
    lines = [
        (
            row.get("name"),
            row.get("kind") or "",
            row.get("precision") or _UNKNOWN,
            *(_figure(row.get(key)) for key in ("mean_ms", "median_ms", "p90_ms")),
            _share(row),
            ", ".join(plain(node, 80) for node in items(row, "nodes")),
        )
        for row in rows(layers, "layers")
    ]
    header = ("layer", "kind", "precision", "mean ms", "median ms", "p90 ms", "share", "ONNX nodes")
    return details("All layers", (table("Layers in execution order", header, lines),))


def energy_table(record: Mapping[str, Any]) -> str:
    """What the energy figures rest on."""
    energy = {key: value for key, value in section(record, "energy").items() if key != "refused"}
    return details("Figures", (facts("Energy: what the figures rest on", energy),))


def setting_tables(record: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """Title and table of everything that the figures are true for."""
    board = dict(section(record, "board"))
    verdicts = [
        (each[0], each[1]) for each in items(board, "verdicts") if isinstance(each, (list, tuple)) and len(each) == 2
    ]
    board.pop("verdicts", None)
    return [
        ("Environment", facts("The machine that latency was measured on", section(record, "environment"))),
        (
            "Board",
            facts("The source of power, heat and clocks", board)
            + table("Sources that were tried", ("source", "verdict"), verdicts),
        ),
        (
            "Target, input and load",
            facts("What ran", {key: section(record, key) for key in ("target", "input", "load")}),
        ),
        ("Settings", facts("Settings of this profile", section(record, "settings"))),
    ]


def _other_summaries(telemetry: Mapping[str, Any]) -> List[Tuple[str, ...]]:
    named = (
        ("GPU load", "%", "gpu_load_pct"),
        ("CPU load", "%", "cpu_load_pct"),
        ("GPU clock", "MHz", "gpu_mhz"),
        ("CPU clock", "MHz", "cpu_mhz"),
    )
    found = [(name, unit, over_time(telemetry, "at_s", telemetry.get(key))) for name, unit, key in named]
    return [_summary(name, unit, pair) for name, unit, pair in found if pair[1].size]


def _summary(name: str, unit: str, pair: Pair) -> Tuple[str, ...]:
    known = pair[1][np.isfinite(pair[1])]
    if not known.size:
        return (name, *[_UNKNOWN] * 3, "0", f"{pair[1].size:,}")
    ends = (amount(float(each), unit) for each in (known.min(), known.mean(), known.max()))
    return (name, *ends, f"{known.size:,}", f"{pair[1].size - known.size:,}")


def _figure(value: Any, unit: str = "") -> str:
    return amount(value, unit, _UNKNOWN)


def _share(row: Mapping[str, Any]) -> str:
    share = number(row.get("share"))
    return _UNKNOWN if share is None else f"{share:.1%}"

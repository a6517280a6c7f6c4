"""Recorded tegrastats lines and whole recordings against what is known of each, counted by module.

    python benchmarks/tegrastats_corpus.py [FOLDER ...]

A folder has `expected.json` (and `expected_series.json`) beside its logs; without one named, it is the lines of this
repository and those of `EDGE_RUNTIME_TELEMETRY_DATA`. A recording is right if every figure is, and each of its lines
is a sample or known noise. Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import collections
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from rich.console import Console
from rich.table import Table

from edge_runtime.device.telemetry.sample_json import record_from_sample
from edge_runtime.device.telemetry.tegrastats.line import sample_from_line
from edge_runtime.device.telemetry.tegrastats.log import LogReading, read_log
from edge_runtime.device.telemetry.tegrastats.log_summary import LogSummary, Range
from edge_runtime.profiler.environment import read_environment

OWN = Path(__file__).resolve().parents[1] / "tests/data/tegrastats"
SHARED = Path(__file__).resolve().parents[2] / "shared/data/tegrastats"
ROUNDS = 5
# What describes a recording, and isn't read off it.
ABOUT = {"file", "module", "l4t", "jetpack", "power_mode", "source"}


def items_of(folder: Path, name: str) -> List[Dict[str, Any]]:
    """The items of one list of a folder; none where it hasn't got it."""
    path = folder / name
    return json.loads(path.read_text()) if path.is_file() else []


def is_line_right(folder: Path, item: Mapping[str, Any]) -> bool:
    """Whether a line gives what is expected; one that is cut or shortened may be refused, but not misread."""
    line = (folder / item["file"]).read_text().split("\n")[item["line"] - 1]
    sample = sample_from_line(line)
    record = None if sample is None else record_from_sample(sample)
    if item["kind"] in ("sample", "noise") or record is None:
        return record == item["expect"] or item["kind"] in ("truncated", "abridged")
    return all(record.get(key) == value for key, value in item["expect"].items())


def figures_of(reading: LogReading) -> Dict[str, Any]:
    """A recording's figures, in the schema of `expected_series.json`."""
    summary = LogSummary()
    for sample in reading.samples:
        summary.add(sample)
    ((how, rails),) = summary.total_kinds
    timeline = reading.timeline
    energy_j = summary.energy_j(timeline)
    figures = {
        "n_lines": reading.n_lines,
        "n_samples": len(reading.samples),
        "noise_lines": list(reading.noise_lines),
        "run_starts": list(reading.run_starts),
        "first_timestamp": summary.first_timestamp,
        "last_timestamp": summary.last_timestamp,
        "steps_s": {str(step): count for step, count in timeline.steps_s.items()} if timeline.is_printed else None,
        "gap_lines_over_2s": list(reading.gap_lines) if timeline.is_printed else None,
        "lost_before": list(reading.lost_before) or None,  # no recording has any, nor words that aren't understood
        "unknown": dict(reading.unknown) or None,
        "total_rails": list(rails),
        "total_how": how,
        "total_mw": _range(summary.total_mw, "mean", "min", "max", "first", "last"),
        "energy_j_trapezoid_steps_le_2s": None if energy_j is None else round(energy_j, 3),
        "gr3d_pct": _range(summary.gpu_load_pct, "mean", "max", "n"),
        "max_temp_c": summary.max_temp_c,
        "ram_used_mb": {**_range(summary.ram_used_mb, "min", "max"), **_range(summary.ram_total_mb, total="last")},
        "online_cpus": {str(count): n for count, n in summary.online_cpus.items()},
    }
    return {key: value for key, value in figures.items() if value is not None}


def _range(values: Range | None, *names: str, **renamed: str) -> Dict[str, Any]:
    sources = {**{name: name for name in names}, **renamed}
    return {name: round(getattr(values, source), 3) for name, source in sources.items()}


def wrong_figures(folder: Path, item: Mapping[str, Any]) -> Dict[str, Any]:
    """What a recording gives otherwise than expected; a thousandth of a joule is left to rounding."""
    with (folder / item["file"]).open() as lines:
        figures = figures_of(read_log(lines))
    energy_j = item.get("energy_j_trapezoid_steps_le_2s")
    if energy_j is not None and abs(figures["energy_j_trapezoid_steps_le_2s"] - energy_j) < 0.0011:
        figures["energy_j_trapezoid_steps_le_2s"] = energy_j
    expected = {key: value for key, value in item.items() if key not in ABOUT}
    return {key: figures.get(key) for key in {*expected, *figures} if figures.get(key) != expected.get(key)}


def counts_of(folder: Path) -> Dict[str, List[int]]:
    """By module: lines right and in all, recordings right and in all."""
    counts: Dict[str, List[int]] = collections.defaultdict(lambda: [0, 0, 0, 0])
    for item in items_of(folder, "expected.json"):
        count = counts[item["module"] or "(not of tegrastats)"]
        count[0] += is_line_right(folder, item)
        count[1] += 1
    for item in items_of(folder, "expected_series.json"):
        count = counts[item["module"]]
        count[2] += not wrong_figures(folder, item)
        count[3] += 1
    return dict(counts)


def lines_per_second(folder: Path) -> Tuple[int, float]:
    """How many lines a folder's logs have, and how many of them are read in a second: the best of some rounds."""
    logs = [*folder.glob("*.log"), *folder.glob("series/*.log")]
    lines = [line for path in logs for line in path.read_text().splitlines()]
    best = 0.0
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for line in lines:
            sample_from_line(line)
        best = max(best, len(lines) / (time.perf_counter() - begin))
    return len(lines), best


def _folders() -> Iterator[Path]:
    named = [Path(word) for word in sys.argv[1:]]
    yield from named or [OWN, Path(os.environ.get("EDGE_RUNTIME_TELEMETRY_DATA", SHARED))]


def main() -> int:
    """Prints a table for each folder, and the environment; 0 if all is right."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    are_right = True
    for folder in _folders():
        counts = counts_of(folder)
        if not counts:
            console.print(f"{folder}: no expected.json; not measured")
            continue
        table = Table("module", "lines right", "recordings right", title=str(folder), title_justify="left")
        rows = [*sorted(counts.items()), ("all", [sum(column) for column in zip(*counts.values())])]
        for module, (right, n, right_series, n_series) in rows:
            table.add_row(module, f"{right} of {n}", f"{right_series} of {n_series}" if n_series else "")
            are_right = are_right and (right, right_series) == (n, n_series)
        console.print(table)
        n, speed = lines_per_second(folder)
        console.print(f"{n:,} lines; {speed:,.0f} lines/s (best of {ROUNDS} rounds), {1e6 / speed:,.0f} µs a line\n")
    table = Table(title="environment", title_justify="left", show_header=False)
    for row in read_environment().rows():
        table.add_row(*row)
    console.print(table)
    return 0 if are_right else 1


if __name__ == "__main__":
    sys.exit(main())

"""`edge-runtime telemetry parse`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, List, Optional, Sequence, Tuple

import typer

from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.device.telemetry.tegrastats.line import sample_from_line
from edge_runtime.device.telemetry.tegrastats.log_lines import STANDARD_INPUT, check_log, lines_of
from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.device.telemetry.tegrastats.log import LogNotes
    from edge_runtime.device.telemetry.tegrastats.log_summary import LogSummary, Range
    from edge_runtime.device.telemetry.tegrastats.log_times import Timeline

_MOST_LISTED = 12


def command(
    files: List[Path] = typer.Argument(..., metavar="FILE", help="Logs of tegrastats; - is standard input."),
    is_json: bool = typer.Option(
        False, "--json", help="Print one JSON object for each line of input, null for one that isn't tegrastats'."
    ),
) -> None:
    """Read tegrastats logs; one without a sample in it is named on standard error."""
    configure_logging()
    output = Output(is_json)
    if sum(path == STANDARD_INPUT for path in files) > 1:
        raise UsageError("- is given twice; standard input can be read once")
    for path in files:
        check_log(path)
    read = _print_records if is_json else _print_summary
    for path in [path for path in files if not read(path, output)]:
        typer.echo(f"edge-runtime: {_name(path)}: no line of tegrastats in it", err=True)


def _print_records(path: Path, output: Output) -> bool:
    """Prints each line's record as it comes; whether there was a sample."""
    from edge_runtime.device.telemetry.sample_json import record_from_sample

    has_sample = False
    for line in lines_of(path):
        sample = sample_from_line(line)
        output.document(None if sample is None else record_from_sample(sample))
        has_sample = has_sample or sample is not None
    return has_sample


def _print_summary(path: Path, output: Output) -> bool:
    from edge_runtime.device.telemetry.module_hint import module_hint
    from edge_runtime.device.telemetry.tegrastats.log import LogNotes
    from edge_runtime.device.telemetry.tegrastats.log_summary import LogSummary

    notes, summary = LogNotes(), LogSummary()
    hints: Dict[str, None] = {}
    for line in lines_of(path):
        sample = notes.add(line)
        if sample is not None:
            summary.add(sample)
            hints[module_hint(sample) or "one that isn't known"] = None
    rows = [*_line_rows(notes), *(_sample_rows(notes, summary, tuple(hints)) if notes.n_samples else ())]
    output.table(f"telemetry parse: {_name(path)}", ("", ""), rows)
    return bool(notes.n_samples)


def _name(path: Path) -> str:
    return "standard input" if path == STANDARD_INPUT else str(path)


def _line_rows(notes: LogNotes) -> Iterator[Tuple[str, str]]:
    yield "lines", f"{notes.n_lines:,}, of these {notes.n_samples:,} samples"
    if notes.noise_lines:
        yield "not of tegrastats", f"{len(notes.noise_lines):,}: line {_listed(notes.noise_lines)}"
    if notes.unknown:
        counts = [f"{name} ({count})" for name, count in notes.unknown.most_common(_MOST_LISTED)]
        more = len(notes.unknown) - len(counts)
        yield "words not understood", ", ".join(counts) + (f" and {more} more" if more else "")


def _sample_rows(notes: LogNotes, summary: LogSummary, hints: Sequence[str]) -> Iterator[Tuple[str, str]]:
    timeline = notes.timeline()
    yield "module", f"perhaps {', '.join(hints)} (a guess by memory, cores, zones and rails)"
    if notes.run_starts[1:]:
        yield "runs of tegrastats", f"{len(notes.run_starts)}, from line {_listed(notes.run_starts)}"
    if notes.lost_before:
        yield "lines missing", f"before line {_listed(notes.lost_before)}, by the printed averages"
    yield from _time_rows(notes, summary, timeline)
    yield from _power_rows(summary, timeline)
    yield "GPU load", _range_text(summary.gpu_load_pct, "%")
    if summary.max_temp_c:
        zone, value = max(summary.max_temp_c.items(), key=lambda item: item[1])
        yield "hottest", f"{value:g} C at {zone}"
    else:
        yield "hottest", "unknown"
    clocks = (("GPU", summary.gpu_mhz), ("CPU", summary.cpu_mhz), ("EMC", summary.emc_mhz))
    yield "clocks", "; ".join(f"{name} {_bounds(values, 'MHz')}" for name, values in clocks if values) or "unknown"
    cores = ", ".join(f"{count} in {n:,} samples" for count, n in sorted(summary.online_cpus.items()))
    yield "CPUs online", cores or "unknown"
    if summary.ram_total_mb is not None:
        yield "RAM used", f"{_range_text(summary.ram_used_mb, 'MB')} of {_bounds(summary.ram_total_mb, 'MB')}"


def _time_rows(notes: LogNotes, summary: LogSummary, timeline: Timeline) -> Iterator[Tuple[str, str]]:
    if timeline.is_printed:
        yield "time", f"{summary.first_timestamp} to {summary.last_timestamp}, {timeline.duration_s:,.0f} s"
    else:
        yield "time", f"{timeline.duration_s:,.0f} s ({timeline.note})"
    if timeline.gaps:
        lines = [notes.sample_lines[index] for index in timeline.gaps]
        yield "gaps", f"{len(lines)}: before line {_listed(lines)}"


def _power_rows(summary: LogSummary, timeline: Timeline) -> Iterator[Tuple[str, str]]:
    if summary.total_mw is None:
        yield "total power", "unknown: no rail, or no rule that makes a total of these"
        return
    kinds = "; ".join(f"{how} {' + '.join(rails)}" for how, rails in summary.total_kinds)
    mixed = "mixed: " if len(summary.total_kinds) > 1 else ""
    missing = len(summary.totals_mw) - summary.total_mw.n
    without = f", none in {missing:,} samples" if missing else ""
    yield "total power", f"{_range_text(summary.total_mw, 'mW')} ({mixed}{kinds}){without}"
    energy_j = summary.energy_j(timeline)
    steps = " over the printed steps, gaps left out"
    yield "energy", "unknown: no stamps are printed" if energy_j is None else f"{energy_j:,.1f} J{steps}"


def _range_text(values: Optional[Range], unit: str) -> str:
    if values is None:
        return "unknown"
    return f"mean {values.mean:,.1f} {unit}, {values.min:,g} to {values.max:,g}"


def _bounds(values: Range, unit: str) -> str:
    return f"{values.min:,} to {values.max:,} {unit}" if values.min != values.max else f"{values.min:,} {unit}"


def _listed(lines: Sequence[int]) -> str:
    shown = ", ".join(str(line) for line in lines[:_MOST_LISTED])
    return shown + (f" and {len(lines) - _MOST_LISTED:,} more" if len(lines) > _MOST_LISTED else "")

"""The tables of a run."""

from __future__ import annotations

from typing import Callable, Iterable, List, Mapping, Sequence, Tuple

from rich.console import Console
from rich.table import Table

from serving.bars import FAIL, NOT_MEASURED, PASS, TRITONS, Verdict
from serving.latencies import Figure, Series, best, figure_of, ratio
from serving.places import TRITON_LABEL
from serving.results import Footprint, Results
from serving.servers import SERVERS
from serving.ways import GRPC, HTTP

_STYLES = {PASS: "green", FAIL: "bold red", NOT_MEASURED: "yellow"}
Row = Tuple[str, str]


def print_report(console: Console, results: Results, nets: Sequence[str], verdicts: Sequence[Verdict]) -> None:
    """Latency, throughput, footprint, what was skipped, and the bars."""
    console.print(_raw_table(results, nets))
    console.print(_latency_table(results, nets))
    console.print(_throughput_table(results, nets))
    console.print(_footprint_table(results))
    for what, reason in results.skipped.items():
        console.print(f"{NOT_MEASURED}: {what}: {reason}", highlight=False, markup=False)
    console.print(_bars_table(verdicts))


def foreign_load_text(results: Results) -> str:
    """How busy the machine was with other things, whenever a server was idle."""
    figure = figure_of(dict(enumerate(each.foreign_cores for each in results.footprints)))
    return NOT_MEASURED if figure is None else f"{text_of(figure, '.2f')} cores, seen while the servers were idle"


def text_of(figure: Figure | None, form: str = ",.0f") -> str:
    """A figure, with its spread if there was more than one round."""
    if figure is None:
        return NOT_MEASURED
    text = format(figure.median, form)
    if figure.rounds == 1:
        return text
    return f"{text} ({format(figure.low, form)}-{format(figure.high, form)})"


def _raw_table(results: Results, nets: Sequence[str]) -> Table:
    table = _table("The engine alone, one thread", ["net", "p50 us", "runs/s, all cores"])
    for net in nets:
        series = {
            index: cell.load.p50_us for index, cell in enumerate(each for each in results.raws if each.net == net)
        }
        table.add_row(net, text_of(figure_of(series), ",.1f"), text_of(figure_of(results.ceiling(net))))
    return table


def _latency_table(results: Results, nets: Sequence[str]) -> Table:
    title = f"One at a time: p50 over the engine's own in us; x: to the best of {TRITON_LABEL}; p99 in us; requests"
    table = _table(title, ["server, way", *nets])
    for server, way in _rows(results, 1):
        cells = []
        for net in nets:
            over = results.overhead_us(server, way, net)
            against = best([results.overhead_us("triton", each, net) for each in (HTTP, GRPC)], is_least=True)
            p99 = results.series(server, way, net, 1, lambda cell: cell.load.p99_us)
            n = sum(results.series(server, way, net, 1, lambda cell: cell.load.n).values())
            cells.append(_joined(over, [_times(over, against), f"p99 {text_of(_median_only(p99))}, n {n:,}"]))
        table.add_row(_label(server, way), *cells)
    return table


def _throughput_table(results: Results, nets: Sequence[str]) -> Table:
    title = f"16 at once: requests/s; x: to the best of {TRITON_LABEL}; share of the engine's on all cores; p99/p50"
    table = _table(title, ["server, way", *nets])
    for server, way in _rows(results, 16):
        cells = []
        for net in nets:
            per_s = results.per_s([server], [way], net)
            against = results.per_s(TRITONS, [HTTP, GRPC], net)
            share = figure_of(ratio(per_s, {} if SERVERS[server].is_engineless else results.ceiling(net)))
            tail = figure_of(results.tail(server, way, net))
            rest = [_times(per_s, against), f"{text_of(share, '.0%')} of the engine's" if share else ""]
            cells.append(_joined(per_s, [*rest, f"p99/p50 {text_of(tail, '.2f')}"]))
        table.add_row(_label(server, way), *cells)
    return table


def _footprint_table(results: Results) -> Table:
    header = ["server", "first right answer s", "PSS idle MB", "PSS after load MB", "idle cores", "processes"]
    table = _table(f"From start to end; x: to the best of {TRITON_LABEL}", header)
    for server in _servers(each.server for each in results.footprints):
        table.add_row(
            SERVERS[server].label,
            _footprint_cell(results, server, lambda it: it.start_s, ".2f"),
            _footprint_cell(results, server, lambda it: it.pss_idle_bytes / 1e6, ",.0f"),
            _footprint_cell(results, server, lambda it: it.pss_loaded_bytes / 1e6, ",.0f"),
            text_of(figure_of(results.footprint(server, lambda it: it.idle_cores)), ".4f"),
            text_of(_median_only(results.footprint(server, lambda it: float(it.processes)))),
        )
    return table


def _footprint_cell(results: Results, server: str, value: Callable[[Footprint], float], form: str) -> str:
    series = results.footprint(server, value)
    against = best([results.footprint(each, value) for each in TRITONS], is_least=True)
    return "\n".join([text_of(figure_of(series), form), _times(series, against)])


def _bars_table(verdicts: Sequence[Verdict]) -> Table:
    table = _table("Bars", ["what", "figure", "bar", "result"])
    for verdict in verdicts:
        result = f"{verdict.result}, stretch" if verdict.is_stretch_reached else verdict.result
        figure = text_of(verdict.figure, ".3g") if verdict.figure else NOT_MEASURED
        table.add_row(verdict.bar.name, figure, verdict.bar.text(), result, style=_STYLES[verdict.result])
    return table


def _rows(results: Results, concurrency: int) -> List[Row]:
    found = {(cell.server, cell.way): None for cell in results.cells if cell.concurrency == concurrency}
    order = list(SERVERS)
    return sorted(found, key=lambda row: order.index(row[0]))


def _servers(names: Iterable[str]) -> List[str]:
    return sorted(set(names), key=list(SERVERS).index)


def _label(server: str, way: str) -> str:
    floor = " (floor)" if SERVERS[server].is_floor else ""
    return f"{SERVERS[server].label}{floor}\n{way}"


def _times(series: Mapping[int, float], against: Mapping[int, float]) -> str:
    figure = figure_of(ratio(series, against))
    return f"x {text_of(figure, '.2f')}" if figure else "ratio not measured"


def _joined(series: Series, lines: Sequence[str]) -> str:
    if not series:
        return "-"
    return "\n".join([text_of(figure_of(series)), *(line for line in lines if line)])


def _median_only(series: Series) -> Figure | None:
    figure = figure_of(series)
    return None if figure is None else Figure(figure.median, figure.median, figure.median, 1)


def _table(title: str, header: Sequence[str]) -> Table:
    return Table(*header, title=title, title_justify="left")

"""`edge-runtime telemetry watch`."""

from __future__ import annotations

import math
import queue
from typing import TYPE_CHECKING, List, Optional

import typer

from edge_runtime.cli.flags import json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.printable import printable
from edge_runtime.device.telemetry.board_choice import DESCRIPTION
from edge_runtime.device.telemetry.throttle_signals import acting
from edge_runtime.errors import TelemetryError, UsageError

if TYPE_CHECKING:
    from edge_runtime.device.telemetry.board import OpenBoard
    from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample
    from edge_runtime.device.telemetry.sampler import Sampler
    from edge_runtime.device.telemetry.source import Origin

_POLL_S = 0.2
_LEAST_PATIENCE_S = 10.0
_INTERVALS_OF_PATIENCE = 20
_HISTORY = 16
_SHOWN_SIGNALS = 4


def command(
    board: str = typer.Option("auto", "--board", metavar="SOURCE", help=DESCRIPTION),
    interval_s: float = typer.Option(1.0, "--interval-s", help="Seconds from one sample to the next."),
    count: Optional[int] = typer.Option(None, "--count", min=1, help="End after so many samples."),
    duration_s: Optional[float] = typer.Option(None, "--duration-s", help="End after so many seconds."),
    is_json: bool = json_option(),
) -> None:
    """Print what the machine tells about its power, heat, clocks and load, a line a sample, until Ctrl-C.

    With --json each line is an object, `at_s` counted from the first; such lines are a recording, to be replayed.
    """
    from edge_runtime.device.telemetry.board import open_board
    from edge_runtime.device.telemetry.sampler import Sampler

    if duration_s is not None and not (math.isfinite(duration_s) and duration_s > 0):
        raise UsageError(f"--duration-s {duration_s}: expected seconds above 0")
    if not 0.001 <= interval_s <= 3600:
        raise UsageError(f"--interval-s {interval_s}: expected 0.001 to 3600")
    configure_logging("ERROR")  # alarms are said here
    output = Output(is_json)
    opened = open_board(board, interval_s)
    if opened.source is None:
        raise TelemetryError("nothing tells of this machine: " + _verdicts(opened))
    _say(f"{opened.source.origin.label}; {_verdicts(opened)}")
    arrived: queue.Queue[Stamped] = queue.Queue()
    with Sampler(opened.source, opened.interval_s, _HISTORY, on_alarm=_say, on_sample=arrived.put) as sampler:
        _print_all(sampler, arrived, output, (count, duration_s))


def _print_all(
    sampler: Sampler,
    arrived: queue.Queue[Stamped],
    output: Output,
    limits: tuple[Optional[int], Optional[float]],
) -> None:
    import time

    count, duration_s = limits
    begun = time.monotonic()
    patience_s = max(_LEAST_PATIENCE_S, _INTERVALS_OF_PATIENCE * sampler.status().interval_s)
    first_ns: Optional[int] = None
    heard, printed = begun, 0
    while (count is None or printed < count) and (duration_s is None or time.monotonic() - begun < duration_s):
        try:
            stamped = arrived.get(timeout=_POLL_S)
        except queue.Empty:
            alarm = sampler.status().alarm
            if alarm is not None and time.monotonic() - heard > patience_s:
                raise TelemetryError(f"no sample for {patience_s:g} s: {alarm}") from None
            continue
        first_ns = stamped.at_ns if first_ns is None else first_ns
        heard, printed = time.monotonic(), printed + 1
        _print(stamped.sample, (stamped.at_ns - first_ns) / 1e9, sampler.status().origin, output)


def _print(sample: TelemetrySample, at_s: float, origin: Origin, output: Output) -> None:
    from edge_runtime.device.telemetry.sample_json import record_from_sample

    if output.is_json:
        marks = {"replay_of": origin.replay_of, "made_up": origin.made_up}
        known = {name: mark for name, mark in marks.items() if mark is not None}
        output.document(
            {"at_s": round(at_s, 6), "source": origin.source, **known, "sample": record_from_sample(sample)}
        )
    else:
        output.say(f"{at_s:9.2f} s  {line_from_sample(sample)}")


def line_from_sample(sample: TelemetrySample) -> str:
    """What people look at first, of what is known."""
    parts: List[str] = []
    total = sample.total_power
    if total is not None:
        parts.append(f"{total.cur_mw / 1000:.2f} W ({'+'.join(total.rails)})")
    if sample.gr3d is not None:
        load, clocks = sample.gr3d.load_pct, sample.gr3d.freq_mhz
        figures = ([] if load is None else [f"{load:g} %"]) + ([] if not clocks else [f"{max(clocks):g} MHz"])
        parts.append(f"GPU {' at '.join(figures)}")
    loads = [cpu.load_pct for cpu in sample.cpus or () if cpu is not None and cpu.load_pct is not None]
    if loads:
        parts.append(f"CPU {sum(loads) / len(loads):.0f} % of {len(loads)}")
    hottest_c = sample.hottest_c
    if hottest_c is not None:
        zone = next(name for name, value in sample.temps_c.items() if value == hottest_c)
        parts.append(f"{zone} {hottest_c:.1f} °C")
    if sample.ram is not None:
        parts.append(f"RAM {sample.ram.used_mb}/{sample.ram.total_mb} MB")
    raised = [throttle.where for throttle in acting(sample)]
    if raised:
        more = f" and {len(raised) - _SHOWN_SIGNALS} more" if len(raised) > _SHOWN_SIGNALS else ""
        parts.append(f"raised: {', '.join(raised[:_SHOWN_SIGNALS])}{more}")
    return ", ".join(parts) or "nothing is known"


def _verdicts(opened: OpenBoard) -> str:
    return "; ".join(f"{name}: {why}" for name, why in opened.verdicts)


def _say(text: str) -> None:
    typer.echo(f"edge-runtime: {printable(text)}", err=True)

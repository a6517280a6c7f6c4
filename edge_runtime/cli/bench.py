"""`edge-runtime bench`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

import typer

from edge_runtime.cli.bench_gate import Gate, allow_option, check_option, gate_of, raise_if_failed, save_option, show
from edge_runtime.cli.credentials import credentials_from
from edge_runtime.cli.feeds import feeds_from_npz
from edge_runtime.cli.flags import engines_option, flag, given, json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.output_file import check_output_file, write_output_file
from edge_runtime.config import environment_layer, merged, validated
from edge_runtime.errors import UsageError
from edge_runtime.profiler.settings import BenchSettings, RegressionSettings

if TYPE_CHECKING:
    from edge_runtime.profiler.closed_loop import Progress
    from edge_runtime.profiler.report import BenchReport
    from edge_runtime.tensors import Feeds


_INPUT = "One array per input, under its name, as one feed (default: random)."
_URL = "Measure a server (http[s] or grpc[s]://HOST:PORT, unix:///PATH), not the plan in this process."


def _trace_option() -> Any:
    text = "Where to write the layers of every run, for chrome://tracing or Perfetto; needs --layers."
    return typer.Option(None, "--trace", metavar="T.json", help=text)


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="Name of the model."),
    url: Optional[str] = typer.Option(None, "--url", help=_URL),
    n: Optional[int] = flag(BenchSettings, "n", "-n", minimum=1),
    warm_up: Optional[int] = flag(BenchSettings, "warm_up", "--warm-up", minimum=0),
    concurrency: Optional[int] = flag(BenchSettings, "concurrency", "--concurrency", minimum=1),
    duration_s: Optional[float] = flag(BenchSettings, "duration_s", "--duration-s"),
    batch: Optional[int] = flag(BenchSettings, "batch", "--batch", minimum=1),
    seed: Optional[int] = flag(BenchSettings, "seed", "--seed", minimum=0),
    threads: Optional[int] = flag(BenchSettings, "threads", "--threads", minimum=1),
    layers: Optional[bool] = flag(BenchSettings, "layers", "--layers"),
    layer_runs: Optional[int] = flag(BenchSettings, "layer_runs", "--layer-runs", minimum=1),
    trace: Optional[Path] = _trace_option(),
    inputs: Optional[Path] = typer.Option(None, "--input", metavar="I.npz", help=_INPUT),
    repeats: Optional[int] = flag(BenchSettings, "repeats", "--repeats", minimum=1),
    save_baseline: Optional[Path] = save_option(),
    replace: bool = typer.Option(False, "--replace", help="With --save-baseline: the file may be there, and goes."),
    extend: bool = typer.Option(False, "--extend", help="With --save-baseline: add this run to the file's sessions."),
    check: Optional[Path] = check_option(),
    allow: List[str] = allow_option(),
    max_latency_pct: Optional[float] = flag(RegressionSettings, "max_latency_pct", "--max-latency-pct"),
    max_tail_pct: Optional[float] = flag(RegressionSettings, "max_tail_pct", "--max-tail-pct"),
    max_slowdown: Optional[float] = flag(RegressionSettings, "max_throughput_drop_pct", "--max-throughput-drop-pct"),
    max_drop: Optional[float] = flag(RegressionSettings, "max_quality_drop_pct", "--max-quality-drop-pct"),
    strict: Optional[bool] = flag(RegressionSettings, "strict", "--strict"),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Measure latency and throughput, in this process or against a server, and time per layer in this process.

    With --check exit status 1 if it is worse than the baseline. Power and heat need a board and are reported as not
    measured without one.
    """
    configure_logging()
    limits = given(
        max_latency_pct=max_latency_pct,
        max_tail_pct=max_tail_pct,
        max_throughput_drop_pct=max_slowdown,
        max_quality_drop_pct=max_drop,
        strict=strict,
    )
    gate = gate_of(save_baseline, check, {"replace": replace, "extend": extend}, allow, limits)
    flags = given(
        n=n,
        warm_up=warm_up,
        concurrency=concurrency,
        duration_s=duration_s,
        batch=batch,
        seed=seed,
        threads=threads,
        layers=layers,
        layer_runs=layer_runs,
        repeats=repeats,
    )
    _run(model, (url, trace, inputs, engines), gate, flags, Output(is_json))


def _run(
    model: str,
    where: Tuple[Optional[str], Optional[Path], Optional[Path], Path],
    gate: Gate,
    flags: Mapping[str, Any],
    output: Output,
) -> None:
    """`where` are the server, the trace, the file of inputs and the engine store."""
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.profiler.bench import bench_engine

    url, trace, inputs, engines = where
    variables = environment_layer(os.environ, ("bench",)).get("bench", {})
    settings = validated(BenchSettings, merged(merged(gate.defaults(), variables), flags), "[bench]")
    _check_layers(settings, url, trace)
    gate.check_settings(settings)
    feeds = None if inputs is None else feeds_from_npz(inputs)
    plan = PlanStore(engines).open(model) if url is None else None
    with output.progress() as progress:
        if url is not None:
            report = _of_server(url, model, settings, feeds, progress)
        else:
            assert plan is not None
            report = bench_engine(plan, settings, feeds, progress=progress)
    if trace is not None:
        write_output_file(trace, json.dumps(report.trace(), allow_nan=False).encode(), "--trace")
    outcome = gate.finish(report, None if plan is None else plan.manifest) if gate.is_on else {}
    _print(model, report, outcome, output)
    raise_if_failed(outcome.get("regression"))


def _of_server(
    url: str, model: str, settings: BenchSettings, feeds: Optional[Feeds], progress: Progress
) -> BenchReport:
    from edge_runtime.client.client import Client
    from edge_runtime.profiler.bench import bench_server

    credentials = credentials_from(os.environ)
    with Client(url, protocol=settings.protocol, timeout_s=settings.timeout_s, credentials=credentials) as client:
        return bench_server(client, model, settings, feeds, progress=progress)


def _print(model: str, report: BenchReport, outcome: Dict[str, Any], output: Output) -> None:
    from edge_runtime.profiler.layers import HEADER

    if output.is_json:
        found = outcome.get("regression")
        written = {} if found is None else {"regression": found.record()}
        output.document({**report.record(), **outcome, **written})
        return
    if report.layers is not None:
        output.table(f"layers of {model}, in execution order", HEADER, report.layers.rows())
        for note in report.layers.notes:
            output.say(note)
    output.table(f"bench {model}", ("", ""), report.rows())
    if outcome:
        show(outcome, output)


def _check_layers(settings: BenchSettings, url: Optional[str], trace: Optional[Path]) -> None:
    """Raises UsageError, before anything is measured, if layers or their trace can't be had."""
    if settings.layers and url is not None:
        raise UsageError("--layers with --url: a client can't see a server's layers; measure the plan in this process")
    if trace is None:
        return
    if not settings.layers:
        raise UsageError(f"--trace {trace}: nothing to write without the layers; add --layers")
    check_output_file(trace, "--trace")

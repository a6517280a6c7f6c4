"""`edge-runtime bench`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from edge_runtime.cli.credentials import credentials_from
from edge_runtime.cli.feeds import feeds_from_npz
from edge_runtime.cli.flags import engines_option, flag, given, json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.output_file import check_output_file, write_output_file
from edge_runtime.config import environment_layer, merged, validated
from edge_runtime.errors import UsageError
from edge_runtime.profiler.settings import BenchSettings

if TYPE_CHECKING:
    from edge_runtime.profiler.closed_loop import Progress
    from edge_runtime.profiler.report import BenchReport
    from edge_runtime.tensors import Feeds


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="Name of the model."),
    url: Optional[str] = typer.Option(
        None,
        "--url",
        help="Measure a server (http[s] or grpc[s]://HOST:PORT, unix:///PATH), not the plan in this process.",
    ),
    n: Optional[int] = flag(BenchSettings, "n", "-n", minimum=1),
    warm_up: Optional[int] = flag(BenchSettings, "warm_up", "--warm-up", minimum=0),
    concurrency: Optional[int] = flag(BenchSettings, "concurrency", "--concurrency", minimum=1),
    duration_s: Optional[float] = flag(BenchSettings, "duration_s", "--duration-s"),
    batch: Optional[int] = flag(BenchSettings, "batch", "--batch", minimum=1),
    seed: Optional[int] = flag(BenchSettings, "seed", "--seed", minimum=0),
    threads: Optional[int] = flag(BenchSettings, "threads", "--threads", minimum=1),
    layers: Optional[bool] = flag(BenchSettings, "layers", "--layers"),
    layer_runs: Optional[int] = flag(BenchSettings, "layer_runs", "--layer-runs", minimum=1),
    trace: Optional[Path] = typer.Option(
        None,
        "--trace",
        metavar="T.json",
        help="Where to write the layers of every run, for chrome://tracing or Perfetto; needs --layers.",
    ),
    inputs: Optional[Path] = typer.Option(
        None, "--input", metavar="I.npz", help="One array per input, under its name, as one feed (default: random)."
    ),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Measure latency and throughput, in this process or against a server, and time per layer in this process.

    Power and heat need a board and are reported as not measured without one.
    """
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.profiler.bench import bench_engine

    configure_logging()
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
    )
    given_settings = merged(environment_layer(os.environ, ("bench",)).get("bench", {}), flags)
    settings = validated(BenchSettings, given_settings, "[bench]")
    _check_layers(settings, url, trace)
    feeds = None if inputs is None else feeds_from_npz(inputs)
    output = Output(is_json)
    with output.progress() as progress:
        if url is not None:
            report = _of_server(url, model, settings, feeds, progress)
        else:
            report = bench_engine(PlanStore(engines).open(model), settings, feeds, progress=progress)
    if trace is not None:
        write_output_file(trace, json.dumps(report.trace(), allow_nan=False).encode(), "--trace")
    _print(model, report, output)


def _of_server(
    url: str, model: str, settings: BenchSettings, feeds: Optional[Feeds], progress: Progress
) -> BenchReport:
    from edge_runtime.client.client import Client
    from edge_runtime.profiler.bench import bench_server

    credentials = credentials_from(os.environ)
    with Client(url, protocol=settings.protocol, timeout_s=settings.timeout_s, credentials=credentials) as client:
        return bench_server(client, model, settings, feeds, progress=progress)


def _print(model: str, report: BenchReport, output: Output) -> None:
    from edge_runtime.profiler.layers import HEADER

    if output.is_json:
        output.document(report.record())
        return
    if report.layers is not None:
        output.table(f"layers of {model}, in execution order", HEADER, report.layers.rows())
        for note in report.layers.notes:
            output.say(note)
    output.table(f"bench {model}", ("", ""), report.rows())


def _check_layers(settings: BenchSettings, url: Optional[str], trace: Optional[Path]) -> None:
    """Raises UsageError, before anything is measured, if layers or their trace can't be had."""
    if settings.layers and url is not None:
        raise UsageError("--layers with --url: a client can't see a server's layers; measure the plan in this process")
    if trace is None:
        return
    if not settings.layers:
        raise UsageError(f"--trace {trace}: nothing to write without the layers; add --layers")
    check_output_file(trace, "--trace")

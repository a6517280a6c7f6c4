"""`edge-runtime bench`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import typer

from edge_runtime.cli.feeds import feeds_from_npz
from edge_runtime.cli.flags import engines_option, flag, given, json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.config import environment_layer, merged, validated
from edge_runtime.profiler.settings import BenchSettings


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="Name of the model."),
    url: Optional[str] = typer.Option(
        None,
        "--url",
        help="Measure a server, http://HOST:PORT or grpc://HOST:PORT, instead of the plan in this process.",
    ),
    n: Optional[int] = flag(BenchSettings, "n", "-n", minimum=1),
    warm_up: Optional[int] = flag(BenchSettings, "warm_up", "--warm-up", minimum=0),
    concurrency: Optional[int] = flag(BenchSettings, "concurrency", "--concurrency", minimum=1),
    duration_s: Optional[float] = flag(BenchSettings, "duration_s", "--duration-s"),
    batch: Optional[int] = flag(BenchSettings, "batch", "--batch", minimum=1),
    seed: Optional[int] = flag(BenchSettings, "seed", "--seed", minimum=0),
    threads: Optional[int] = flag(BenchSettings, "threads", "--threads", minimum=1),
    inputs: Optional[Path] = typer.Option(
        None, "--input", metavar="I.npz", help="One array per input, under its name, as one feed (default: random)."
    ),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Measure latency and throughput, in this process or against a server.

    Power and heat need a board and are reported as not measured without one.
    """
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.profiler.bench import bench_engine, bench_server

    configure_logging()
    flags = given(
        n=n, warm_up=warm_up, concurrency=concurrency, duration_s=duration_s, batch=batch, seed=seed, threads=threads
    )
    layers = merged(environment_layer(os.environ, ("bench",)).get("bench", {}), flags)
    settings = validated(BenchSettings, layers, "[bench]")
    feeds = None if inputs is None else feeds_from_npz(inputs)
    output = Output(is_json)
    with output.progress() as progress:
        if url is not None:
            report = bench_server(url, model, settings, feeds, progress=progress)
        else:
            report = bench_engine(PlanStore(engines).open(model), settings, feeds, progress=progress)
    if output.is_json:
        output.document(report.record())
    else:
        output.table(f"bench {model}", ("", ""), report.rows())

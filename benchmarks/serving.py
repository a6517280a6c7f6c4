"""What serving costs: the same inference in process, over HTTP and over gRPC, interleaved in one run.

    python benchmarks/serving.py [MODEL] [--engines DIR] [--budget-s 20]

MODEL (default text-direction) must have been built. Ratios are to the in-process call; the environment is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Callable, Iterator, Tuple

from rich.console import Console
from rich.table import Table

from edge_runtime.client.client import Client
from edge_runtime.engine.engine import Engine
from edge_runtime.engine.loading import EngineOptions, load
from edge_runtime.evaluation.latency import TimingOptions, interleaved
from edge_runtime.plan.store import PlanStore
from edge_runtime.profiler.environment import read_environment
from edge_runtime.profiler.feeds import profile_shapes, random_feeds
from edge_runtime.server.lifecycle import Bound, Stop, serve
from edge_runtime.server.settings import ServerSettings


def main() -> None:
    """Measures, and prints a table and the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="text-direction")
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    parser.add_argument("--budget-s", type=float, default=20.0)
    options = parser.parse_args()
    engine = load(PlanStore(options.engines).open(options.model), EngineOptions(slots=1, threads_per_run=1))
    feeds = random_feeds(engine.signature.inputs, profile_shapes(engine.signature, None), seed=0)
    with engine, serving(engine) as bound, Client(f"http://{bound.http}") as http, Client(
        f"grpc://{bound.grpc}"
    ) as grpc:
        calls: Tuple[Callable[[], object], ...] = (
            lambda: engine.infer(feeds),
            lambda: http.infer(options.model, feeds),
            lambda: grpc.infer(options.model, feeds),
        )
        timing = TimingOptions(budget_s=options.budget_s, max_rounds=5000, warm_up_rounds=50)
        comparison = interleaved(*calls, options=timing)
    table = Table("way", "n", "p50 ms", "p99 ms", "ratio to in process (95 % interval)")
    for way, summary, ratio in zip(("in process", "HTTP", "gRPC"), comparison.summaries, comparison.ratios):
        p99 = "n too small" if summary.p99_ms is None else f"{summary.p99_ms:.3f}"
        spread = f"{ratio.ratio:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
        table.add_row(way, f"{summary.n:,}", f"{summary.p50_ms:.3f}", p99, spread)
    console = Console()
    console.print(table)
    for label, text in read_environment().rows():
        console.print(f"{label}: {text}", highlight=False)


@contextlib.contextmanager
def serving(engine: Engine) -> Iterator[Bound]:
    """The engine behind both protocols, on a thread of this process."""
    bound: list[Bound] = []
    ready = threading.Event()
    handles: list[Tuple[asyncio.AbstractEventLoop, Stop]] = []

    def on_ready(addresses: Bound) -> None:
        bound.append(addresses)
        ready.set()

    async def until_stopped() -> None:
        stop = Stop(asyncio.Event(), asyncio.Event())
        handles.append((asyncio.get_running_loop(), stop))
        await serve([engine], ServerSettings(http="127.0.0.1:0", grpc="127.0.0.1:0"), on_ready, stop)

    thread = threading.Thread(target=asyncio.run, args=(until_stopped(),))
    thread.start()
    ready.wait(10)
    try:
        yield bound[0]
    finally:
        loop, stop = handles[0]
        loop.call_soon_threadsafe(stop.requested.set)
        thread.join(10)


if __name__ == "__main__":
    main()

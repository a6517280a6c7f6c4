"""The whole product on one model: build, serve, ask over HTTP and gRPC, compare every answer, print the table.

Exit status 0 only if every served answer has the in-process engine's class and differs from it by at most 1e-5.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import numpy as np
import tritonclient.grpc
import tritonclient.http
from rich.console import Console
from rich.progress import track
from rich.table import Table

import edge_runtime
from edge_runtime.builder.data import data_of
from edge_runtime.builder.recipe import load_recipe
from edge_runtime.builder.source import model_path
from edge_runtime.evaluation.latency import LatencySummary
from edge_runtime.graph.model import load_model
from edge_runtime.plan.store import PlanStore

ROOT = Path(__file__).resolve().parents[1]
MODEL = "text-direction"
ENGINES = Path(os.environ.get("EDGE_RUNTIME_ENGINES", "engines"))
LEAST_REQUESTS = 1000
TOLERANCE = 1e-5
COMMAND = [str(Path(sys.executable).with_name("edge-runtime"))]

console = Console()


@dataclass(frozen=True)
class Served:
    """One protocol's requests: latency, how many answers were wrong, and the largest difference."""

    protocol: str
    latency: LatencySummary
    wrong_class: int
    over_tolerance: int
    largest_difference: float


def main() -> int:
    """Runs the demo; 0 if every answer was right."""
    os.chdir(ROOT)
    status = subprocess.run([*COMMAND, "build", f"engines/{MODEL}.toml"], check=False).returncode
    if status:
        return status
    lines = held_out_lines()
    plan = PlanStore(ENGINES).open(MODEL)
    with edge_runtime.load(plan) as engine:
        input_name, output_name = engine.signature.inputs[0].name, engine.signature.outputs[0].name
        expected = [engine.infer({input_name: line})[output_name] for line, _ in lines]
    served = []
    with server() as (http, grpc):
        for protocol, ask in (("HTTP", http_client(http)), ("gRPC", grpc_client(grpc))):
            served.append(ask_round(protocol, ask, [line for line, _ in lines], expected))
    labels = np.array([label for _, label in lines])
    accuracy = float(np.mean([answer.argmax() == label for answer, label in zip(expected, labels)]))
    print_table(plan.manifest, len(lines), accuracy, served)
    return 0 if all(not (s.wrong_class or s.over_tolerance) for s in served) else 1


def held_out_lines() -> List[Tuple[Any, int]]:
    """The held-out lines of the recipe, with their labels."""
    recipe = load_recipe(Path("engines") / f"{MODEL}.toml")
    source = data_of(recipe, load_model(model_path(recipe)).inputs).held_out
    assert source is not None
    return [(next(iter(sample.feeds.values())), int(sample.label[0])) for sample in source]


@contextmanager
def server() -> Iterator[Tuple[str, str]]:
    """The addresses (HTTP, gRPC) of a server that is stopped at the end, and must stop cleanly."""
    command = [*COMMAND, "serve", MODEL, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the server ended with status {process.wait()} before it was ready")
        ready = json.loads(line)
        console.print(f"server ready: http {ready['http']}, grpc {ready['grpc']}")
        yield ready["http"], ready["grpc"]
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=30)
        process.stdout.close()
    if status:
        raise SystemExit(f"the server ended with status {status}")
    console.print("server stopped")


def http_client(address: str) -> Callable[[Any], Any]:
    """A request over HTTP with Triton's client, binary tensors both ways."""
    client = tritonclient.http.InferenceServerClient(address)
    return asker(client, tritonclient.http)


def grpc_client(address: str) -> Callable[[Any], Any]:
    """A request over gRPC with Triton's client."""
    client = tritonclient.grpc.InferenceServerClient(address)
    return asker(client, tritonclient.grpc)


def asker(client: Any, module: Any) -> Callable[[Any], Any]:
    """A function from a line to the answer of the model's only output."""
    metadata = client.get_model_metadata(MODEL)
    if not isinstance(metadata, dict):
        metadata = {"inputs": [{"name": metadata.inputs[0].name}], "outputs": [{"name": metadata.outputs[0].name}]}
    input_name, output_name = metadata["inputs"][0]["name"], metadata["outputs"][0]["name"]

    def ask(line: Any) -> Any:
        tensor = module.InferInput(input_name, list(line.shape), "FP32")
        tensor.set_data_from_numpy(line)
        return client.infer(MODEL, [tensor]).as_numpy(output_name)

    return ask


def ask_round(protocol: str, ask: Callable[[Any], Any], lines: List[Any], expected: List[Any]) -> Served:
    """Sends the lines round until there are enough requests, and compares every answer."""
    rounds = -(-LEAST_REQUESTS // len(lines))
    durations, wrong, over, largest = [], 0, 0, 0.0
    for line in lines[:50]:
        ask(line)
    for index in track(range(rounds * len(lines)), f"{protocol} requests", console=console):
        which = index % len(lines)
        start = time.perf_counter_ns()
        answer = ask(lines[which])
        durations.append(time.perf_counter_ns() - start)
        difference = float(np.abs(answer - expected[which]).max())
        largest = max(largest, difference)
        wrong += int(answer.argmax() != expected[which].argmax())
        over += int(not difference <= TOLERANCE)
    return Served(protocol, LatencySummary.from_durations(durations), wrong, over, largest)


def print_table(manifest: Any, lines: int, accuracy: float, served: List[Served]) -> None:
    """One table: what ran, how good it is, how fast it answered, and what wasn't measured."""
    candidates = {c.precision: c for c in manifest.candidates if c.verdict in ("chosen", "passed")}
    table = Table(title=f"{MODEL}, version {manifest.version}", title_justify="left", show_header=False)
    for row in (
        ("backend", f"{manifest.backend.name} {manifest.backend.version} on {manifest.device['cpu']}"),
        ("accuracy, float", accuracy_text(candidates["fp32"])),
        (f"accuracy, {manifest.precision}", accuracy_text(candidates[manifest.precision])),
        ("accuracy, served answers", f"{accuracy:.4f} over {lines} lines"),
        ("plan size, float", f"{candidates['fp32'].nbytes:,} bytes"),
        (f"plan size, {manifest.precision}", f"{manifest.plan.total_nbytes:,} bytes"),
    ):
        table.add_row(*row)
    for result in served:
        latency = result.latency
        table.add_section()
        table.add_row(f"{result.protocol} n", f"{latency.n:,}")
        table.add_row(
            f"{result.protocol} p50 / p90 / p99",
            f"{latency.p50_ms:.2f} / {latency.p90_ms:.2f} / {latency.p99_ms:.2f} ms",
        )
        table.add_row(f"{result.protocol} throughput", f"{latency.throughput_per_s:,.0f} requests/s, one at a time")
        table.add_row(
            f"{result.protocol} against in process",
            f"{result.wrong_class} other classes, {result.over_tolerance} over {TOLERANCE:g}, "
            f"largest difference {result.largest_difference:.1e}",
        )
    table.add_section()
    table.add_row("power, heat", "not measured: no board")
    console.print(table)


def accuracy_text(candidate: Any) -> str:
    """A candidate's metric with its interval."""
    metric = candidate.metric
    return f"{metric.value:.4f} (95 % interval {metric.low:.4f} to {metric.high:.4f}, n {metric.n})"


if __name__ == "__main__":
    sys.exit(main())

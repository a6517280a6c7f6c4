"""What a calibration takes against ONNX Runtime's own: wall time and peak memory, from the model's file to scales.

Each contestant is a process of its own, and they take turns. ONNX Runtime's is MinMax, the cheapest of its calibrators,
given one sample at a time; ours makes the tables of all four algorithms. Ratios are ours over theirs, of the medians.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
from calibration_contestant import CONTESTANTS
from rich.console import Console
from rich.table import Table

from edge_runtime.builder.data import data_of
from edge_runtime.builder.recipe import load_recipe
from edge_runtime.builder.source import model_path
from edge_runtime.graph.model import load_model
from edge_runtime.profiler.environment import read_environment

ROOT = Path(__file__).resolve().parents[1]
CHILD = Path(__file__).with_name("calibration_contestant.py")
RECIPES = {
    "cls": "engines/text-direction.toml",
    "det": "benchmarks/precision/det.toml",
    "rec": "benchmarks/precision/rec.toml",
    "magika": "benchmarks/precision/magika.toml",
    "minilm": "benchmarks/precision/minilm.toml",
}


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    tensors: int


def main() -> int:
    """Runs the comparison and prints its table."""
    options = arguments()
    scope = "all activations" if options.all_activations else "the tensors that get Q/DQ"
    table = Table(title=f"Calibration of {scope}, {options.rounds} rounds", title_justify="left")
    for column in ("model", "samples", "tensors", "seconds", "ratio", "CPU seconds", "ratio", "peak MiB", "ratio"):
        table.add_column(column)
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            samples = write_samples(name, Path(folder), options.samples)
            costs = measured(Path(folder), options)
        table.add_row(name, str(samples), *cells(costs))
    environment = Table(title="Environment", title_justify="left", show_header=False)
    for row in read_environment().rows():
        environment.add_row(*row)
    Console().print(table, environment)
    return 0


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(RECIPES), help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--samples", type=int, default=32, help="samples a model at most")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contestant")
    parser.add_argument("--all-activations", action="store_true", help="calibrate every float tensor")
    return parser.parse_args()


def write_samples(name: str, folder: Path, limit: int) -> int:
    """Writes what both contestants read: the model's path and shapes, all samples in one file, and each in its own."""
    recipe = load_recipe(ROOT / RECIPES[name])
    path = model_path(recipe)
    source = data_of(recipe, load_model(path).inputs).calibration
    assert source is not None
    feeds = [sample.feeds for sample in itertools.islice(source, limit)]
    for index, arrays in enumerate(feeds):
        np.savez(folder / f"{index:06}.npz", **arrays)
    np.savez(folder / "samples.npz", **{key: np.concatenate([arrays[key] for arrays in feeds]) for key in feeds[0]})
    tables = recipe.tables.model_dump(mode="json", by_alias=True, exclude_none=True)
    data = {"data": "samples.npz"}
    model = {"name": name, "path": str(path), "max_batch": tables["model"]["max_batch"]}
    content = {"model": model, "input": tables["input"], "calibration": data, "held_out": data}
    (folder / "recipe.json").write_text(json.dumps(content))
    return len(feeds)


def measured(folder: Path, options: argparse.Namespace) -> Dict[str, List[Cost]]:
    """What every run of each contestant took, after one that only leaves bytecode behind, as an installation does."""
    scope = "all" if options.all_activations else "quantised"
    costs: Dict[str, List[Cost]] = {contestant: [] for contestant in CONTESTANTS}
    for _ in range(options.rounds + 1):
        for contestant in CONTESTANTS:
            costs[contestant].append(cost_of([sys.executable, str(CHILD), contestant, str(folder), scope], folder))
    return {contestant: each[1:] for contestant, each in costs.items()}


def cost_of(command: List[str], folder: Path) -> Cost:
    """What one process took, which must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    answer = json.loads(text)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, answer["peak_mib"], answer["tensors"])


def cells(costs: Dict[str, List[Cost]]) -> Tuple[str, ...]:
    """A row of the table."""
    ours, theirs = (costs[contestant] for contestant in CONTESTANTS)
    found = [f"{ours[0].tensors} / {theirs[0].tensors}"]
    for figure, digits in (("seconds", 2), ("cpu_seconds", 2), ("peak_mib", 0)):
        mine, other = (statistics.median(getattr(cost, figure) for cost in each) for each in (ours, theirs))
        found += [f"{mine:.{digits}f} / {other:.{digits}f}", f"{mine / other:.2f}"]
    return tuple(found)


if __name__ == "__main__":
    sys.exit(main())

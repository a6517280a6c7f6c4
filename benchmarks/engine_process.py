"""What an engine in a process of its own costs, and how soon it is there again.

    python benchmarks/engine_process.py [--rounds 10] [--kills 20]

Two servers of the same models, one with `--engine-process`, are asked in turn over HTTP on one connection each, and so
are two engines without a server: medians and tails of all rounds, and the ratio of the medians. Memory is what all
processes of a server hold, shared pages by share (PSS). Then the engine's process is killed (SIGKILL and SIGSEGV in
turn) while requests come: how long until the one under way is answered with 503, and until the next right answer.
Exit status 1 if an answer is wrong, or a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple

import numpy as np
from onnx import helper
from rich.console import Console
from rich.table import Table

from edge_runtime.client.client import Client
from edge_runtime.engine.engine import Engine
from edge_runtime.engine.loading import EngineOptions, load
from edge_runtime.engine.process.backoff import Backoff
from edge_runtime.engine.process.keeper import KeeperOptions
from edge_runtime.engine.process.process_engine import ProcessEngine, load_in_process
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.plan.store import PlanStore
from edge_runtime.profiler.environment import read_environment
from edge_runtime.tensors import DType

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fakes.ended_processes import children_of
from fakes.stored_plans import plan_of_nodes

SIZES = {"row": (4,), "image": (3, 224, 224), "video": (3, 1080, 1920)}
RUNS = 200
MOST_TO_ERROR_S = 0.1
MOST_TO_ANSWER_S = 3.0

Times = Dict[Tuple[str, str], List[float]]


def main() -> None:
    """Measures, prints tables and the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help=f"of up to {RUNS} runs each")
    parser.add_argument("--kills", type=int, default=20, help="of the engine's process")
    options = parser.parse_args()
    console = Console(width=120)
    logging.disable(logging.ERROR)  # of replacements, which are meant
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        for name, size in SIZES.items():
            tensor = (DType.FP32, (1, *size))
            plan_of_nodes(store, [helper.make_node("Neg", ["x"], ["y"])], {"x": tensor}, {"y": tensor}, name)
        console.print(cost_table("an engine's run", engine_times(store, options.rounds)))
        times, memory = server_times(store, options.rounds)
        console.print(cost_table("a request over HTTP", times))
        for way, nbytes in memory.items():
            console.print(f"memory of a server of these models, {way}: {nbytes / 2**20:.0f} MiB", highlight=False)
        to_error, to_answer = replacements(store, options.kills)
    console.print(f"replaced {options.kills} times: {spread(to_error)} until the run under way failed, ", end="")
    console.print(f"{spread(to_answer)} until the next right answer")
    for label, text in read_environment().rows():
        console.print(f"{label}: {text}", highlight=False)
    is_good = max(to_error) < MOST_TO_ERROR_S and max(to_answer) < MOST_TO_ANSWER_S
    console.print(f"goals: failed within {MOST_TO_ERROR_S:g} s, answered within {MOST_TO_ANSWER_S:g} s: {is_good}")
    sys.exit(0 if is_good else 1)


def engine_times(store: Path, rounds: int) -> Times:
    """Microseconds of runs with their copies in, by model and way."""
    times: Times = {}
    for name, size in SIZES.items():
        plan = PlanStore(store).open(name)
        with load(plan) as here, load_in_process(plan) as apart:
            x = np.ones((1, *size), np.float32)
            ways = {"here": partial(once, here, x), "apart": partial(once, apart, x)}
            interleaved(name, ways, rounds, times)
    return times


def once(engine: Engine, x: Any) -> None:
    """One run, whose answer is looked at."""
    with engine.slot() as slot:
        np.copyto(slot.bind("x", x.shape), x)
        check(slot.run()["y"], x)


def asked(client: Client, model: str, x: Any) -> None:
    """One request, whose answer is looked at."""
    check(client.infer(model, {"x": x})["y"], x)


def check(y: Any, x: Any) -> None:
    """Ends the program if an answer is wrong, by its last element."""
    if y.shape != x.shape or y[(-1,) * y.ndim] != -x[(-1,) * x.ndim]:
        sys.exit(f"a wrong answer: {y} to {x}")


def interleaved(name: str, ways: Mapping[str, Callable[[], None]], rounds: int, times: Times) -> None:
    """Runs each way some times, in turn."""
    for run in ways.values():
        run()
    begun = time.perf_counter()
    for run in ways.values():
        run()
    count = max(5, min(RUNS, int(0.5 / (time.perf_counter() - begun))))
    for _ in range(rounds):
        for way, run in ways.items():
            for _ in range(count):
                start = time.perf_counter()
                run()
                times.setdefault((name, way), []).append((time.perf_counter() - start) * 1e6)


def server_times(store: Path, rounds: int) -> Tuple[Times, Dict[str, int]]:
    """Microseconds of requests by model and way, and bytes of memory by way."""
    times: Times = {}
    memory: Dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        clients = {}
        for way, flags in {"here": [], "apart": ["--engine-process"]}.items():
            pid, address = stack.enter_context(server(store, flags))
            clients[way] = stack.enter_context(Client(f"http://{address}"))
            memory[way] = sum(held_nbytes(each) for each in (pid, *children_of(pid)))
        for name, size in SIZES.items():
            x = np.ones((1, *size), np.float32)
            ways = {way: partial(asked, client, name, x) for way, client in clients.items()}
            interleaved(name, ways, rounds, times)
    return times, memory


@contextlib.contextmanager
def server(store: Path, flags: List[str]) -> Iterator[Tuple[int, str]]:
    """A server of the store: its process id and HTTP address."""
    command = [sys.executable, "-c", "from edge_runtime.cli.main import main; main()", "serve", "--engines", str(store)]
    limits = {"EDGE_RUNTIME_SERVER__SLOTS": "1", "EDGE_RUNTIME_SERVER__BOARD": "none"}
    addresses = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--json"]
    with subprocess.Popen(
        [*command, *addresses, *flags], stdout=subprocess.PIPE, env={**os.environ, **limits}
    ) as process:
        assert process.stdout is not None
        try:
            yield process.pid, json.loads(process.stdout.readline())["http"]
        finally:
            process.terminate()


def held_nbytes(pid: int) -> int:
    """What a process holds of memory, shared pages by share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def replacements(store: Path, kills: int) -> Tuple[List[float], List[float]]:
    """Seconds from each end of the process to the failure of the run under way, and to the next right answer."""
    to_error, to_answer = [], []
    options = KeeperOptions(backoff=lambda: Backoff(first_s=0.0))
    with load_in_process(PlanStore(store).open("image"), EngineOptions(slots=1), options) as engine:
        for number in range(kills):
            failed_s, answered_s = replaced(engine, (signal.SIGKILL, signal.SIGSEGV)[number % 2])
            to_error.append(failed_s)
            to_answer.append(answered_s)
    return to_error, to_answer


def replaced(engine: ProcessEngine, number: signal.Signals) -> Tuple[float, float]:
    """The two times, of one end."""
    x = np.ones((1, *SIZES["image"]), np.float32)
    failed: List[float] = []

    def fail() -> None:
        try:
            once(engine, x)
        except ServerUnavailableError:
            failed.append(time.perf_counter())

    once(engine, x)
    pid = engine.pid or 0
    os.kill(pid, signal.SIGSTOP)  # so that a run is under way for sure
    thread = threading.Thread(target=fail)
    thread.start()
    time.sleep(0.02)
    os.kill(pid, number)
    start = time.perf_counter()
    os.kill(pid, signal.SIGCONT)
    thread.join()
    while True:
        with contextlib.suppress(ServerUnavailableError):
            once(engine, x)
            return failed[0] - start, time.perf_counter() - start
        time.sleep(0.001)


def cost_table(what: str, times: Times) -> Table:
    """Both ways beside each other, a row for each model."""
    table = Table(title=f"Microseconds of {what}, in this process and apart", title_justify="left")
    for column in ("model", "bytes in", "n", "here p50", "p90", "p99", "apart p50", "p90", "p99", "more", "ratio"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, size in SIZES.items():
        here, apart = times[name, "here"], times[name, "apart"]
        cells = [f"{value:.0f}" for found in (here, apart) for value in np.percentile(found, [50, 90, 99])]
        more = statistics.median(apart) - statistics.median(here)
        ratio = statistics.median(apart) / statistics.median(here)
        table.add_row(name, f"{4 * int(np.prod(size)):,}", str(len(here)), *cells, f"{more:.0f}", f"{ratio:.2f}")
    return table


def spread(seconds: List[float]) -> str:
    """Median and largest, in milliseconds."""
    return f"{1e3 * statistics.median(seconds):.1f} ms (at most {1e3 * max(seconds):.1f})"


if __name__ == "__main__":
    main()

"""How often the regression gate cries wolf, and how often it finds what is there.

    python benchmarks/regression_gate.py [--engines FOLDER] [--model text-direction] [--sessions 24] [--threads 1]

A/A: the same plan is measured session after session on this machine, and each one is held against the ones before.
Whatever is found regressed is a false alarm. The same pairs are then judged with the later session's calls made 5, 10,
20 and 30 % longer (a made-up slowdown of real times). The simulation does the same on made-up sessions of a quiet
machine: 1 % between sessions and 1 % between repeats, and calls with autocorrelated noise of 5 %.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
from rich.console import Console
from rich.table import Table

from edge_runtime.evaluation.intervals import wilson_interval
from edge_runtime.plan.store import PlanStore
from edge_runtime.profiler.baseline import Baseline, SessionRecord, baseline_of, session_of
from edge_runtime.profiler.bench import bench_engine
from edge_runtime.profiler.environment import read_environment
from edge_runtime.profiler.regression import compare
from edge_runtime.profiler.repeats import Repeat
from edge_runtime.profiler.settings import BenchSettings, RegressionSettings

SLOWDOWNS = (1.0, 1.05, 1.1, 1.2, 1.3)
METRICS = ("p50_ms", "p99_ms", "calls_per_s")
REPEATS = 8


def slowed(session: SessionRecord, factor: float) -> SessionRecord:
    """The session as if each call had taken `factor` times as long."""
    repeats = [
        one.model_copy(
            update={
                "durations_ns": tuple(round(value * factor) for value in one.durations_ns),
                "elapsed_ns": round(one.elapsed_ns * factor),
            }
        )
        for one in session.repeats
    ]
    return session.model_copy(update={"repeats": tuple(repeats)})


def verdicts(
    template: Baseline, pairs: Sequence[Tuple[Sequence[SessionRecord], SessionRecord]], factor: float
) -> Dict[str, Counter[str]]:
    """How often each metric came to which verdict."""
    counts: Dict[str, Counter[str]] = {metric: Counter() for metric in METRICS}
    for then, now in pairs:
        found = compare(
            template.model_copy(update={"sessions": tuple(then)}),
            template.model_copy(update={"sessions": (slowed(now, factor),)}),
            RegressionSettings(),
            (),
            "baseline",
        )
        for one in found.verdicts:
            if one.metric in counts:
                counts[one.metric][one.verdict] += 1
    return counts


def show(
    title: str,
    template: Baseline,
    pairs: Sequence[Tuple[Sequence[SessionRecord], SessionRecord]],
    metrics: Sequence[str] = METRICS,
) -> None:
    """A table of verdicts by slowdown."""
    table = Table(title=f"{title}: {len(pairs)} checks", title_justify="left")
    for column in ("calls take", "metric", "regressed (95 %)", "inconclusive", "passed"):
        table.add_column(column)
    for factor in SLOWDOWNS:
        for metric, counts in verdicts(template, pairs, factor).items():
            if metric not in metrics:
                continue
            low, high = wilson_interval(counts["regressed"], len(pairs))
            share = f"{counts['regressed']} ({low:.0%}-{high:.0%})"
            table.add_row(f"x {factor}", metric, share, str(counts["inconclusive"]), str(counts["passed"]))
    Console(width=100).print(table)


def measured(arguments: argparse.Namespace) -> Tuple[Baseline, List[SessionRecord]]:
    """Sessions of the same plan, one after the other."""
    plan = PlanStore(arguments.engines).open(arguments.model)
    settings = BenchSettings(n=arguments.n, threads=arguments.threads, repeats=REPEATS)
    found = []
    for _ in range(arguments.sessions):
        found.append(baseline_of(bench_engine(plan, settings), plan.manifest))
        time.sleep(arguments.pause_s)
    return found[0], [one.sessions[0] for one in found]


def simulated(rng: np.random.Generator, calls: int = 125) -> SessionRecord:
    """A made-up session on a quiet machine."""
    of_session = rng.normal(0, 0.01)
    repeats = []
    for _ in range(REPEATS):
        noise = rng.normal(0, 0.05, calls)
        for index in range(1, calls):
            noise[index] = 0.9 * noise[index - 1] + np.sqrt(1 - 0.9**2) * noise[index]
        durations = 3e6 * np.exp(of_session + rng.normal(0, 0.01) + noise)
        yardstick = 50_000 * np.exp(np.abs(rng.normal(0, 0.02, calls)))
        repeats.append(Repeat(tuple(map(int, durations)), int(durations.sum()), tuple(map(int, yardstick))))
    return session_of(repeats)


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    parser.add_argument("--model", default="text-direction")
    parser.add_argument("--sessions", type=int, default=24)
    parser.add_argument("--pause-s", type=float, default=0.0, help="Between two sessions.")
    parser.add_argument("--threads", type=int)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=300)
    arguments = parser.parse_args()
    print(json.dumps(read_environment().record()))
    template, sessions = measured(arguments)
    medians = [np.median(np.concatenate([one.durations_ns for one in session.repeats])) for session in sessions]
    print(f"median of all calls between sessions: spread {np.log(medians).std(ddof=1):.1%}")
    alone = [([then], now) for then, now in zip(sessions, sessions[1:])]
    show("A/A here, a baseline of one session", template, alone)
    show("A/A here, a baseline of four sessions", template, [(sessions[:4], now) for now in sessions[4:]])
    rng = np.random.default_rng(0)
    made_up = [([simulated(rng)], simulated(rng)) for _ in range(arguments.trials)]
    show("simulation, a baseline of one session", template, made_up)


if __name__ == "__main__":
    main()

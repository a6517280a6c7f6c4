"""The same comparison in real time: runs of a real engine, on a thread of its own, by the clock."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
from deadline_mixes import Mix, Source
from deadline_policies import EarliestFirst, FirstCome
from real_accelerator import RealAccelerator
from virtual_accelerator import Trace

from edge_runtime.engine.loading import EngineOptions, load
from edge_runtime.plan.store import PlanStore
from edge_runtime.scheduling.scheduler import PATIENCE_NS, ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

ROWS = {"short": 1, "long": 6}  # the same net at these numbers of rows, as two models
LOADS = (0.5, 0.9, 1.5)
_RUNS = 64


def traces(plan: str, count: int, seed: int) -> Iterator[Tuple[str, float, Mix, Trace]]:
    """What each policy makes of each load: its name, the load, what was offered and what came of it."""
    with load(PlanStore(Path("engines")).open(plan), EngineOptions(slots=1, threads_per_run=1)) as engine:
        profile = engine.signature.profile.items()
        feeds = {
            model: {
                name: np.zeros((rows, *limits.optimum[1:]), engine.signature.input(name).dtype.numpy)
                for name, limits in profile
            }
            for model, rows in ROWS.items()
        }
        measured = {model: _timed(lambda model=model: engine.infer(feeds[model])) for model in ROWS}
        typical_ms = {model: statistics.median(times) / 1e6 for model, times in measured.items()}
        sources = tuple(Source(model, typical_ms[model], 0.5, (6, 20)) for model in ROWS)
        for share in LOADS:
            mix = Mix(sources, share, count, seed)
            policies: Dict[str, Any] = {
                "ours": _ours(measured),
                "EDF": EarliestFirst(dict.fromkeys(ROWS, 0)),
                "FCFS": FirstCome(dict.fromkeys(ROWS, 0)),
            }
            for policy, scheduler in policies.items():
                lane = RealAccelerator(scheduler, lambda dispatch: engine.infer(feeds[dispatch.model]))
                yield policy, share, mix, lane.run(mix.requests)


def _timed(run: Callable[[], object]) -> List[int]:
    """Nanoseconds of some runs."""
    run()
    times = []
    for _ in range(_RUNS):
        start_ns = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - start_ns)
    return times


def _ours(measured: Dict[str, List[int]]) -> Scheduler:
    times = ServiceTimes()
    made = Scheduler(times, 1, patience_ns=PATIENCE_NS)
    for model, durations in measured.items():
        made.register(ModelPolicy(model, 4, 256))
        for ns in durations:
            times.observe(model, 0, 1, ns)
    return made

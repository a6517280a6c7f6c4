"""Benchmarks of a plan in this process, and of a running server through our client."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

from edge_runtime.client.answers import input_specs
from edge_runtime.client.client import Client
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.loading import EngineOptions, load
from edge_runtime.engine.profiling import profile_layers
from edge_runtime.evaluation.latency import Clock, LatencySummary
from edge_runtime.plan.store import StoredPlan, open_plan
from edge_runtime.profiler.closed_loop import LoopLimits, Progress, closed_loop
from edge_runtime.profiler.environment import read_environment
from edge_runtime.profiler.feeds import profile_shapes, random_feeds, served_shapes
from edge_runtime.profiler.layers import LayerReport
from edge_runtime.profiler.repeats import Repeat, plain_repeat, watched_repeat
from edge_runtime.profiler.report import BenchReport, ColdStart, tensor_records
from edge_runtime.profiler.settings import BenchSettings, RunSettings
from edge_runtime.tensors import DYNAMIC, Feeds, Signature


def bench_engine(
    plan: str | os.PathLike[str] | StoredPlan,
    settings: BenchSettings,
    feeds: Feeds | None = None,
    *,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> BenchReport:
    """Load time, first inference and, after warm-up, latency of a plan in this process.

    Each of `concurrency` threads has a slot of the engine. `clock` counts nanoseconds. Of several repeats each loads
    the plan anew; the cold start is the first one's. If `settings` ask for layers, the plan is then loaded once more
    to time them, one run at a time on as many threads.

    Raises:
        ConfigError: the model doesn't take `settings.batch` samples.
        InvalidRequestError: `feeds` don't fit the model.
        PlanError: the plan can't be used.
        BackendError: the engine library failed.
    """
    environment = read_environment()
    options = cold_options(settings)
    cold: List[ColdStart] = []
    repeats: List[Repeat] = []
    for number in range(settings.repeats):
        start_ns = clock()
        stored = plan if isinstance(plan, StoredPlan) else open_plan(Path(plan))
        with load(stored, options) as engine:
            load_ms = (clock() - start_ns) / 1e6
            signature = engine.signature
            chosen = _feeds(signature, settings) if feeds is None else feeds
            engine.check(chosen)
            call = _call(engine, chosen)
            cold.append(ColdStart(load_ms, _elapsed_ms(call, clock)))
            repeats.append(_steady(call, settings, number, progress, clock))
    layers = timed_layers(stored, chosen, settings, options.resolved_threads, progress) if settings.layers else None
    return BenchReport(
        target=engine_target(engine.info, options),
        settings=settings,
        input_source=input_source(feeds, settings),
        inputs=tensor_records(chosen),
        samples_per_call=samples_per_call(chosen) if signature.max_batch_size else None,
        cold_start=cold[0],
        latency=_summary(repeats),
        environment=environment,
        layers=layers,
        repeats=tuple(repeats),
    )


def bench_server(
    client: Client,
    model: str,
    settings: BenchSettings,
    feeds: Feeds | None = None,
    *,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> BenchReport:
    """First request and, after warm-up, latency of a model on a running server, as a client sees it.

    Raises:
        ConfigError: without `feeds`, a dynamic axis besides the batch's; or a batch size without a batch axis.
        RemoteError: the server refused a request.
        ServerUnavailableError: it can't be reached, or is overloaded.
    """
    environment = read_environment()
    server, served = client.metadata(), client.metadata(model)
    specs = input_specs(served, model)
    chosen = feeds
    if chosen is None:
        chosen = random_feeds(specs, served_shapes(specs, settings.batch), settings.seed)
    first_ms = _elapsed_ms(lambda: client.infer(model, chosen), clock)
    repeats = [
        _steady(lambda: client.infer(model, chosen), settings, number, progress, clock)
        for number in range(settings.repeats)
    ]
    return BenchReport(
        target={
            "kind": "server",
            "model": model,
            "version": _versions(served),
            "platform": served.get("platform"),
            "server": " ".join(str(server[key]) for key in ("name", "version") if server.get(key)),
            "url": client.url,
        },
        settings=settings,
        input_source=input_source(feeds, settings),
        inputs=tensor_records(chosen),
        samples_per_call=samples_per_call(chosen) if all(spec.shape[:1] == (DYNAMIC,) for spec in specs) else None,
        cold_start=ColdStart(None, first_ms),
        latency=_summary(repeats),
        environment=environment,
        repeats=tuple(repeats),
    )


def cold_options(settings: RunSettings) -> EngineOptions:
    """A slot for each caller, none of which has run when the engine is handed out."""
    return EngineOptions(
        settings.concurrency,
        settings.threads,
        warm_up_runs=0,
        memory=settings.memory,
        graphs=settings.graphs,
        plugins=settings.plugins,
    )


def engine_target(info: EngineInfo, options: EngineOptions) -> Dict[str, Any]:
    """What is measured, of an engine in this process."""
    return {
        "kind": "engine",
        "model": info.name,
        "version": info.version,
        "precision": info.precision,
        "backend": info.backend,
        "device": info.device,
        "threads_per_run": options.resolved_threads,
    }


def timed_layers(
    plan: StoredPlan, feeds: Feeds, settings: RunSettings, threads: int, progress: Progress | None
) -> LayerReport:
    """The plan's layers, which is loaded anew for that."""
    if progress is not None:
        progress.stage("timing layers")
    return LayerReport(profile_layers(plan, feeds, ProfileOptions(settings.layer_runs, settings.warm_up, threads)))


def input_source(feeds: Feeds | None, settings: RunSettings) -> str:
    """Where the inputs came from."""
    return "given" if feeds is not None else f"random, seed {settings.seed}"


def samples_per_call(feeds: Feeds) -> int | None:
    """The size of the first axis of an input."""
    return next((value.shape[0] for value in feeds.values() if value.shape), None)


def _versions(metadata: Mapping[str, Any]) -> str | None:
    versions = metadata.get("versions")
    return ", ".join(map(str, versions)) or None if isinstance(versions, list) else None


def _elapsed_ms(call: Callable[[], object], clock: Clock) -> float:
    start_ns = clock()
    call()
    return (clock() - start_ns) / 1e6


def _feeds(signature: Signature, settings: BenchSettings) -> Feeds:
    return random_feeds(signature.inputs, profile_shapes(signature, settings.batch), settings.seed)


def _call(engine: Engine, feeds: Feeds) -> Callable[[], object]:
    return lambda: engine.infer(feeds)


def _steady(
    call: Callable[[], object], settings: BenchSettings, number: int, progress: Progress | None, clock: Clock
) -> Repeat:
    """One repeat after warm-up, which is cut short by `duration_s` too."""
    duration_s = None if settings.duration_s is None else settings.duration_s / settings.repeats
    n = -(-settings.n // settings.repeats)
    if settings.warm_up:
        if progress is not None:
            progress.stage("warm-up", settings.warm_up)
        closed_loop(call, LoopLimits(settings.warm_up, settings.concurrency, duration_s), progress, clock)
    if progress is not None:
        progress.stage("timing" if settings.repeats == 1 else f"timing, {number + 1} of {settings.repeats}", n)
    run = plain_repeat if settings.repeats == 1 else watched_repeat
    return run(call, LoopLimits(n, settings.concurrency, duration_s), progress, clock)


def _summary(repeats: Sequence[Repeat]) -> LatencySummary:
    durations = [duration for repeat in repeats for duration in repeat.durations_ns]
    return LatencySummary.from_durations(durations, sum(repeat.elapsed_ns for repeat in repeats))

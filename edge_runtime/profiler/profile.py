"""A profile of a plan in this process: latency by stage, and what the board did meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Sequence

from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.device.telemetry.throttling import ThrottleSpan, ThrottleState, ThrottleWatch, throttle_spans
from edge_runtime.engine.engine import EngineInfo
from edge_runtime.engine.loading import load
from edge_runtime.evaluation.latency import Clock, LatencySummary
from edge_runtime.plan.store import StoredPlan, open_plan
from edge_runtime.profiler.bench import cold_options, engine_target, input_source, samples_per_call, timed_layers
from edge_runtime.profiler.board import WatchedBoard
from edge_runtime.profiler.closed_loop import Progress
from edge_runtime.profiler.energy import energy_per_inference
from edge_runtime.profiler.energy_baseline import BaselineOptions, baseline_from
from edge_runtime.profiler.energy_options import EnergyOptions
from edge_runtime.profiler.energy_result import EnergyResult
from edge_runtime.profiler.environment import read_environment
from edge_runtime.profiler.evidence import Evidence
from edge_runtime.profiler.feeds import profile_shapes, random_feeds
from edge_runtime.profiler.outliers import Outliers, explained_outliers
from edge_runtime.profiler.phases import Phases, Timed
from edge_runtime.profiler.profile_report import ProfileReport
from edge_runtime.profiler.replayed import replayed_words
from edge_runtime.profiler.report import ColdStart, tensor_records
from edge_runtime.profiler.settings import ProfileSettings
from edge_runtime.profiler.staged_call import StagedCall
from edge_runtime.profiler.stages import END, START
from edge_runtime.tensors import Feeds


def profile(
    plan: str | os.PathLike[str] | StoredPlan,
    settings: ProfileSettings,
    feeds: Feeds | None = None,
    board: WatchedBoard | None = None,
    *,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> ProfileReport:
    """Idle power, a cold start, the warm-up, timed calls while the board is watched, and then its layers.

    `board` is watched already, on the same `clock`, and stays its owner's; without one, power, heat and clocks aren't
    measured.

    Raises:
        ConfigError: the model doesn't take `settings.batch` samples.
        InvalidRequestError: `feeds` don't fit the model.
        PlanError: the plan can't be used.
        BackendError: the engine library failed.
    """
    watched = board or WatchedBoard()
    environment = read_environment()
    options = cold_options(settings)
    start_ns = clock()
    stored = plan if isinstance(plan, StoredPlan) else open_plan(Path(plan))
    with load(stored, options) as engine:
        load_ms = (clock() - start_ns) / 1e6
        info, signature = engine.info, engine.signature
        chosen = feeds or random_feeds(signature.inputs, profile_shapes(signature, settings.batch), settings.seed)
        engine.check(chosen)
        phases = Phases(StagedCall(engine, chosen, clock), settings, watched, progress, clock)
        idle = phases.idle()
        cold_start = ColdStart(load_ms, phases.first_ms())
        warm_up = phases.warm_up()
        cost = phases.stamping_cost()
        timed = phases.timed()
    layers = timed_layers(stored, chosen, settings, options.resolved_threads, progress) if settings.layers else None
    spans = throttle_spans(timed.samples)
    return ProfileReport(
        target=engine_target(info, options),
        settings=settings,
        input_source=input_source(feeds, settings),
        inputs=tensor_records(chosen),
        samples_per_call=samples_per_call(chosen) if signature.max_batch_size else None,
        cold_start=cold_start,
        settling=warm_up,
        stamping=cost,
        timed=timed,
        latency=LatencySummary.from_durations(timed.load.calls.latency_ns, timed.load.elapsed_ns),
        outliers=_outliers(timed, spans, info),
        environment=environment,
        throttled=spans,
        throttle_state=_tightest_state(timed),
        energy=_energy(timed, idle, watched.interval_s),
        layers=layers,
    )


def _outliers(timed: Timed, spans: Sequence[ThrottleSpan], info: EngineInfo) -> Outliers:
    uses_gpu, words = not info.device.startswith("cpu"), replayed_words(timed.board.origin)
    evidence = Evidence(timed.samples, spans, timed.pauses, timed.cpu, uses_gpu, words)
    return explained_outliers(timed.load.calls, evidence)


def _tightest_state(timed: Timed) -> ThrottleState | None:
    """What was known of throttling when the headroom was least, else at the end; None without samples."""
    watch = ThrottleWatch()
    states = [watch.update(stamped) for stamped in timed.samples]
    known = [(state.headroom_c, index) for index, state in enumerate(states) if state.headroom_c is not None]
    return states[min(known)[1] if known else -1] if states else None


def _energy(timed: Timed, idle: Sequence[Stamped], interval_s: float) -> EnergyResult:
    return energy_per_inference(
        timed.samples,
        timed.load.calls.stamps[:, [START, END]],
        baseline_from(idle, BaselineOptions(interval_s=interval_s)),
        EnergyOptions(interval_s=interval_s),
    )

"""The points of a sweep: a plan at a batch size in a power mode, loaded, timed in turns with all others."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

from edge_runtime.engine.engine import Engine
from edge_runtime.engine.loading import EngineOptions, load
from edge_runtime.errors import ConfigError, EdgeRuntimeError
from edge_runtime.evaluation.latency import Clock, LatencySummary
from edge_runtime.plan.store import StoredPlan
from edge_runtime.profiler.closed_loop import LoopLimits, Progress, closed_loop
from edge_runtime.profiler.feeds import profile_shapes, random_feeds
from edge_runtime.profiler.quality import quality_of
from edge_runtime.provisioning.sweep_plans import SweptPlan
from edge_runtime.provisioning.sweep_settings import SweepSettings
from edge_runtime.tensors import Feeds, Signature


@dataclass
class Point:
    """One point; `refused` says why it has no figures. `batch` is None for a model without a batch axis."""

    precision: str
    batch: int | None
    power_mode: str | None
    plan: StoredPlan | None = None
    refused: str = ""
    durations_ns: List[int] = field(default_factory=list)
    energy_mj: float | None = None

    @property
    def label(self) -> str:
        """What tells it from the others."""
        parts = [self.precision, *([] if self.batch is None else [f"batch {self.batch}"])]
        return ", ".join([*parts, *([] if self.power_mode is None else [self.power_mode])])

    def refuse(self, why: str) -> None:
        """Drops its figures, for it can't be measured (to the end)."""
        self.refused, self.durations_ns, self.energy_mj = why, [], None

    def record(self) -> Dict[str, Any]:
        """As the sweep's record has it, before any judgement."""
        summary = LatencySummary.from_durations(self.durations_ns) if self.durations_ns else None
        quality, why = (None, "") if self.plan is None else quality_of(self.plan.manifest)
        return {
            "label": self.label,
            "precision": self.precision,
            "version": None if self.plan is None else self.plan.manifest.version,
            "batch": self.batch,
            "power_mode": self.power_mode,
            "n": len(self.durations_ns),
            "p50_ms": None if summary is None else summary.p50_ms,
            "p99_ms": None if summary is None else summary.p99_ms,
            "samples_per_s": None if summary is None else summary.throughput_per_s * (self.batch or 1),
            "energy_mj": self.energy_mj,
            "quality": None if quality is None else quality.value,
            "quality_metric": None if quality is None else quality.metric,
            "quality_better": None if quality is None else quality.better,
            "quality_unknown": why or None,
            "gate_failures": int(self.plan is not None and self.plan.manifest.forced),
            "refused": self.refused or None,
        }


def points_of(plans: Sequence[SweptPlan], settings: SweepSettings, power_mode: str | None) -> List[Point]:
    """Every batch size of every plan; those that can't be are refused, and say why."""
    found = []
    for one in plans:
        if one.plan is None:
            found.append(Point(one.precision, None, power_mode, refused=one.refused))
            continue
        signature = one.plan.manifest.signature
        for batch in settings.batches or _usual_batches(signature):
            point = Point(one.precision, batch, power_mode, one.plan)
            try:
                profile_shapes(signature, batch)
            except ConfigError as error:
                point = replace(point, refused=str(error))
            found.append(point)
    return found


def _usual_batches(signature: Signature) -> Tuple[int | None, ...]:
    """Powers of two from the plan's fewest samples to its most, which are in it."""
    most = signature.max_batch_size
    if not most:
        return (None,)
    fewest = max(limits.minimum[0] for limits in signature.profile.values())
    return tuple(sorted({fewest, most, *(1 << power for power in range(16) if fewest < 1 << power < most)}))


class LoadedPoints:
    """The engines of all points' plans, each loaded once; `calls` has one inference for each point that can run."""

    def __init__(self, settings: SweepSettings) -> None:
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._engines: Dict[str, Engine] = {}
        self._problems: Dict[str, str] = {}

    def close(self) -> None:
        """Unloads all engines."""
        self._stack.close()

    def call(self, point: Point) -> Callable[[], object] | None:
        """One inference of the point; None, and it is refused, if its plan can't be loaded or run."""
        assert point.plan is not None
        key = str(point.plan.folder)
        if key not in self._engines and key not in self._problems:
            try:
                options = EngineOptions(1, self._settings.threads, warm_up_runs=0)
                self._engines[key] = self._stack.enter_context(load(point.plan, options))
            except EdgeRuntimeError as error:
                self._problems[key] = f"can't be loaded beside the others: {error}"
        if key in self._problems:
            point.refuse(self._problems[key])
            return None
        engine = self._engines[key]
        shapes = profile_shapes(engine.signature, point.batch)
        call = _inference(engine, random_feeds(engine.signature.inputs, shapes, self._settings.seed))
        try:
            call()
        except EdgeRuntimeError as error:
            point.refuse(f"doesn't run: {error}")
            return None
        return call


def _inference(engine: Engine, feeds: Feeds) -> Callable[[], object]:
    return lambda: engine.infer(feeds)


@contextlib.contextmanager
def loaded_points(settings: SweepSettings) -> Iterator[LoadedPoints]:
    """Engines for the length of the block."""
    loaded = LoadedPoints(settings)
    try:
        yield loaded
    finally:
        loaded.close()


Work = Tuple[Point, Callable[[], object]]


def measure(work: Sequence[Work], rounds: int, settings: SweepSettings, progress: Progress, clock: Clock) -> None:
    """Times all points in turns, forward and backward by turns, so that drift hits all alike.

    Each turn of a point is a share of its calls in one go, after one that isn't counted and finds its plan cold.
    """
    n, budget_s = -(-settings.n // settings.rounds), settings.budget_s / settings.rounds
    for point, call in work:
        if not point.durations_ns and settings.warm_up:
            closed_loop(call, LoopLimits(settings.warm_up, 1, budget_s), None, clock)
    progress.stage(f"timing {len(work)} points", rounds * len(work))
    for number in range(rounds):
        for point, call in work if number % 2 == 0 else reversed(work):
            call()
            point.durations_ns += closed_loop(call, LoopLimits(n, 1, budget_s), None, clock).durations_ns
            progress.advance()

"""A model in every precision, batch size and power mode: latency, throughput, energy and quality, and which to take."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, Callable, ContextManager, Dict, Iterable, List, Optional, Protocol, Sequence, Tuple

from edge_runtime.device.power_mode import PowerMode
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation.latency import Clock
from edge_runtime.profiler.closed_loop import Progress
from edge_runtime.profiler.environment import read_environment
from edge_runtime.profiler.replayed import energy_words
from edge_runtime.provisioning.pareto import choose, frontier_of
from edge_runtime.provisioning.sweep_modes import Modes
from edge_runtime.provisioning.sweep_plans import SweptPlan
from edge_runtime.provisioning.sweep_points import LoadedPoints, Point, Work, loaded_points, measure, points_of
from edge_runtime.provisioning.sweep_settings import SweepSettings, columns_of

SCHEMA = "edge_runtime.sweep/1"
_LIMITS = ("objective", "max_latency_ms", "max_energy_mj", "min_quality", "min_throughput")

EnergyProbe = Callable[[Callable[[], object]], Tuple[Optional[float], str]]
"""Runs a call for as long as it needs: the millijoules of one, or None and why they can't be had."""


class ModeSetter(Protocol):
    """What sets power modes; `NvpModel` does."""

    def set(self, mode: PowerMode) -> None:
        """Sets a mode, or raises ConfigError."""

    def restored(self, mode: PowerMode) -> ContextManager[None]:
        """Sets a mode when the block ends."""


@dataclass(frozen=True)
class SweepTools:
    """What a sweep works with. Without `energy`, `why_no_energy` is said; `origin` is that of the power's samples."""

    progress: Progress
    setter: ModeSetter
    energy: EnergyProbe | None = None
    why_no_energy: str = ""
    origin: Dict[str, Any] = field(default_factory=dict)
    clock: Clock = time.perf_counter_ns


def sweep(
    model: str, plans: Sequence[SweptPlan], modes: Modes, settings: SweepSettings, tools: SweepTools
) -> Dict[str, Any]:
    """Measures every point and judges them; the record is of schema `edge_runtime.sweep/1`.

    The power mode that holds now holds again at the end.

    Raises:
        ConfigError: that failed; or energy is what the choice is by, and it can't be measured.
    """
    if tools.energy is None and (settings.max_energy_mj or settings.objective == "energy"):
        raise ConfigError(f"energy can't be measured ({tools.why_no_energy}); choose by latency or throughput")
    now = None if modes.before is None else modes.before.name
    visited: List[PowerMode | None] = [*modes.visited] or [None]
    points = {mode: points_of(plans, settings, now if mode is None else mode.name) for mode in visited}
    notes: List[str] = list(modes.not_measured)
    with contextlib.ExitStack() as stack:
        if modes.visited and modes.before is not None:
            stack.enter_context(tools.setter.restored(modes.before))
        loaded = stack.enter_context(loaded_points(settings))
        for mode, rounds in _turns(visited, settings.rounds):
            _visit(mode, points[mode], rounds, loaded, settings, tools)
        notes += _energies(visited, points, loaded, tools)
    rows = [point.record() for mode in visited for point in points[mode]]
    return _judged(model, plans, rows, settings, (modes.commands, notes, tools.origin))


def _turns(visited: Sequence[PowerMode | None], rounds: int) -> Iterable[Tuple[PowerMode | None, int]]:
    """Each mode twice, the second time backward, so that a board that warms up doesn't favour the first ones."""
    if len(visited) == 1:
        return [(visited[0], rounds)]
    first = -(-rounds // 2)
    return [*((mode, first) for mode in visited), *((mode, rounds - first) for mode in reversed(visited))]


def _visit(
    mode: PowerMode | None,
    points: Sequence[Point],
    rounds: int,
    loaded: LoadedPoints,
    settings: SweepSettings,
    tools: SweepTools,
) -> None:
    able = [point for point in points if not point.refused]
    if not able or not _is_set(mode, able, tools):
        return
    work: List[Work] = []
    for point in able:
        call = loaded.call(point)
        if call is not None:
            work.append((point, call))
    measure(work, rounds, settings, tools.progress, tools.clock)


def _is_set(mode: PowerMode | None, points: Sequence[Point], tools: SweepTools) -> bool:
    if mode is None:
        return True
    tools.progress.stage(f"setting power mode {mode.name}")
    try:
        tools.setter.set(mode)
    except ConfigError as error:
        for point in points:
            point.refuse(str(error))
        return False
    return True


def _energies(
    visited: Sequence[PowerMode | None],
    points: Dict[PowerMode | None, List[Point]],
    loaded: LoadedPoints,
    tools: SweepTools,
) -> List[str]:
    """Measures the energy of every point that ran, a sample's share of its call; gives why there is none."""
    if tools.energy is None:
        return [f"energy: {tools.why_no_energy}"]
    why: Dict[str, None] = {}
    for mode in visited:
        able = [point for point in points[mode] if not point.refused]
        if not able or not _is_set(mode, able, tools):
            continue
        tools.progress.stage("measuring energy", len(able))
        for point in able:
            call = loaded.call(point)
            energy_mj, reason = (None, "") if call is None else tools.energy(call)
            point.energy_mj = None if energy_mj is None else energy_mj / (point.batch or 1)
            if reason:
                why[f"energy of {point.label}: {reason}"] = None
            tools.progress.advance()
    words = energy_words(tools.origin)
    return [*([f"energy: {words} ({tools.origin['label']})"] if words else []), *why]


def _judged(
    model: str,
    plans: Sequence[SweptPlan],
    rows: List[Dict[str, Any]],
    settings: SweepSettings,
    said: Tuple[Sequence[str], Sequence[str], Dict[str, Any]],
) -> Dict[str, Any]:
    commands, notes, origin = said
    measured = [row for row in rows if row["refused"] is None]
    is_more = next((row["quality_better"] != "lower" for row in rows if row["quality"] is not None), True)
    metrics = {row["quality_metric"] for row in measured if row["quality"] is not None}
    notes = [*notes, *sorted({f"quality: {row['quality_unknown']}" for row in rows if row["quality_unknown"]})]
    if len(metrics) > 1:
        notes.append(f"quality: plans were scored by {', '.join(sorted(metrics))}, which can't be compared")
        for row in rows:
            row["quality"] = None
    choice = choose(measured, settings.bounds(is_more), settings.order(is_more))
    on_it = frontier_of(measured, columns_of(is_more), choice.able)
    for index, row in enumerate(measured):
        row.update(is_pareto=on_it[index], is_recommended=index == choice.index, why_not=choice.why_not.get(index))
    for row in rows:
        if row["refused"] is not None:
            row.update(is_pareto=False, is_recommended=False, why_not="refused")
    limits = settings.model_dump(mode="json")
    manifest = next((one.plan.manifest for one in plans if one.plan is not None), None)
    backend = None if manifest is None else f"{manifest.backend.name} {manifest.backend.version}"
    return {
        "schema": SCHEMA,
        "target": {
            "model": model,
            "backend": backend,
            "device": None if manifest is None else manifest.backend.device,
            "versions": {one.precision: one.plan.manifest.version for one in plans if one.plan is not None},
        },
        "settings": limits,
        "points": rows,
        "limits": {key: limits[key] for key in _LIMITS},
        "recommended": None if choice.index is None else measured[choice.index]["label"],
        "environment": read_environment().record(),
        "origin": origin,
        "not_measured": notes,
        "commands": list(commands),
    }

"""How much each group of nodes hurts when it alone is quantised, measured at the outputs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.mixed import GroupError
from edge_runtime.engine.loading import EngineOptions, engine_from_files
from edge_runtime.graph.groups import Group
from edge_runtime.graph.switches import with_switches
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensors import Feeds, ShapeRange, Signature

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class SensitivityOptions:
    """Samples are taken until `budget_s` is spent or `max_samples` were, one at least."""

    budget_s: float = 30.0
    max_samples: int = 16
    clock: Callable[[], float] = time.monotonic


class _Noise:
    """Energy of outputs and of their errors, summed over samples."""

    def __init__(self) -> None:
        self._signal: Dict[str, float] = {}
        self._error: Dict[str, float] = {}

    def add(self, outputs: Outputs, reference: Outputs) -> None:
        for name, want in reference.items():
            got = outputs[name]
            if want.dtype.kind == "f":
                signal, error = want.astype(np.float64), got.astype(np.float64) - want
            else:  # of integers and truth values only whether they are equal counts
                signal, error = np.ones(want.shape), (got != want).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                self._signal[name] = self._signal.get(name, 0.0) + float(np.square(signal).sum())
                self._error[name] = self._error.get(name, 0.0) + float(np.square(error).sum())

    def worst(self) -> float:
        """Error over signal of the output where that is largest; infinite where it isn't a number."""
        ratios = [_ratio(self._error[name], self._signal[name]) for name in self._signal]
        return max(ratios, default=0.0)


def _ratio(error: float, signal: float) -> float:
    if error == 0:
        return 0.0
    ratio = error / signal if signal else math.inf
    return ratio if math.isfinite(ratio) else math.inf


def group_errors(
    model: FloatModel,
    scales: Mapping[str, float],
    groups: Sequence[Group],
    samples: Iterable[Feeds],
    options: SensitivityOptions | None = None,
) -> List[GroupError]:
    """The error of each of `groups` over the first of `samples`; the work (`macs`) is left at 0.

    One graph holds every group twice, in float and in simulated INT8, and an input of switches chooses.
    """
    limits = options or SensitivityOptions()
    switched = with_switches(model.graph, scales, groups)
    profile = {**model.profile, switched.switch: ShapeRange.fixed((len(groups),))}
    signature = Signature(switched.model.inputs, switched.model.outputs, profile)
    noises = [_Noise() for _ in groups]
    end = limits.clock() + limits.budget_s
    plan = PlanFiles(switched.model.to_files())
    with engine_from_files(plan, model.info, signature, EngineOptions(warm_up_runs=0)) as engine:
        for count, feeds in enumerate(samples):
            if count and (count >= limits.max_samples or limits.clock() > end):
                break
            off = np.zeros(len(groups), np.bool_)
            reference = engine.infer({**feeds, switched.switch: off})
            for index, noise in enumerate(noises):
                on = off.copy()
                on[index] = True
                noise.add(engine.infer({**feeds, switched.switch: on}), reference)
    return [
        GroupError(group.name, group.kind, frozenset(group.nodes), noise.worst(), 0.0)
        for group, noise in zip(groups, noises)
    ]

"""The candidates of a build: one ONNX a precision, ready for the backend."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np

from edge_runtime.builder.data import BuildData, fitting_batches
from edge_runtime.builder.key import digest_of
from edge_runtime.builder.progress import Progress
from edge_runtime.builder.recipe import Recipe
from edge_runtime.calibration.collect import collect, table_from_histograms
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_bytes
from edge_runtime.errors import CalibrationError, ConfigError, ModelError, UnsupportedModelError
from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.outputs import with_extra_outputs
from edge_runtime.graph.quantize import fold_weights, insert_qdq, quantizable
from edge_runtime.tensors import Feeds, ShapeRange, Signature

NARROWING = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class FloatModel:
    """The model that all candidates are made from: its graph, what it takes, and whose it is."""

    graph: OnnxModel
    profile: Mapping[str, ShapeRange]
    info: EngineInfo

    def info_of(self, precision: str) -> EngineInfo:
        """What an engine of a candidate is."""
        return replace(self.info, precision=precision)

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and profile."""
        return Signature(self.graph.inputs, self.graph.outputs, self.profile)


@dataclass(frozen=True)
class Candidate:
    """One precision's plan bytes, or why there are none."""

    precision: str
    plan: bytes | None
    problem: str = ""


@dataclass(frozen=True)
class CandidateInputs:
    """What candidates are made with; `calibration_key` identifies the calibration samples by all that they hold."""

    recipe: Recipe
    data: BuildData
    calibration_key: Any
    calib_cache: Path
    progress: Progress


def make_candidates(model: FloatModel, given: CandidateInputs) -> tuple[list[Candidate], CalibrationTable | None]:
    """The float candidate, then those that the policy asks for; and the table that INT8 was made with.

    Raises:
        EdgeRuntimeError: a precision that was asked for by name can't be made.
    """
    policy = given.recipe.tables.precision.policy
    wanted = NARROWING if policy == "auto" else dict.fromkeys(("fp32", policy))
    made = [_made(precision, model, given, is_optional=policy == "auto") for precision in wanted]
    return [candidate for candidate, _ in made], made[-1][1]


def _made(
    precision: str, model: FloatModel, given: CandidateInputs, is_optional: bool
) -> tuple[Candidate, CalibrationTable | None]:
    table: CalibrationTable | None = None
    try:
        graph = model.graph
        if precision == "fp16":
            graph = to_fp16(model.graph)
        elif precision == "int8":
            table = calibration_table(model, given)
            graph = _quantised(model.graph, table, given.recipe.tables.precision.keep_float)
        is_same = precision != "fp32" and graph.serialize() == model.graph.serialize()
        if is_same and (is_optional or precision == "int8"):
            raise UnsupportedModelError(f"{model.graph.name}: nothing in it can be {precision}; build it as fp32")
        return Candidate(precision, graph.serialize()), table
    except (ConfigError, CalibrationError, ModelError) as error:
        if not is_optional:
            raise
        return Candidate(precision, None, str(error)), None


def _quantised(graph: OnnxModel, table: CalibrationTable, keep_float: list[str]) -> OnnxModel:
    return fold_weights(insert_qdq(graph, table.scales, frozenset(keep_float)))


def calibration_table(model: FloatModel, given: CandidateInputs) -> CalibrationTable:
    """Scales for what gets quantised: from the cache if model, data and settings are the same, else calibrated.

    Raises:
        ConfigError: there is no calibration data.
        UnsupportedModelError: the model has nothing to quantise.
        CalibrationError: activations are NaN, infinite or never seen.
    """
    tensors = quantizable(model.graph)
    if not tensors:
        raise UnsupportedModelError(
            f"{model.graph.name}: no float Conv, Gemm, MatMul or ConvTranspose, so INT8 would change nothing; "
            "build it as fp32 or fp16"
        )
    source = given.data.calibration
    if source is None:
        raise ConfigError(
            f"model {given.recipe.name!r}: int8 needs calibration data; give --calibration C.npz or [calibration] data"
        )
    settings = given.recipe.tables.calibration
    key = digest_of([_digest(model), given.calibration_key, settings.algorithm, settings.max_clipped, list(tensors)])
    path = given.calib_cache / given.recipe.name / f"{key[:32]}.cache"
    if path.exists():
        with contextlib.suppress(CalibrationError):
            table = CalibrationTable.read(path)
            if set(table.scales) == set(tensors) and all(scale > 0 for scale in table.scales.values()):
                given.progress.note(f"calibration table re-used: {path}")
                return table
        given.progress.note(f"calibration table {path} is damaged; calibrating again")
    table = _calibrated(model, given, tensors)
    table.write(path)
    return table


def _digest(model: FloatModel) -> str:
    shapes = {name: str(limits) for name, limits in model.profile.items()}
    return digest_of([hashlib.sha256(model.graph.serialize()).hexdigest(), shapes])


def _calibrated(model: FloatModel, given: CandidateInputs, tensors: tuple[str, ...]) -> CalibrationTable:
    source, settings = given.data.calibration, given.recipe.tables.calibration
    assert source is not None
    inputs = {spec.name for spec in model.graph.inputs}
    graph = with_extra_outputs(model.graph, [name for name in tensors if name not in inputs])
    signature = Signature(graph.inputs, graph.outputs, model.profile)
    batches = fitting_batches(source, signature, settings.batch_size, "calibration")
    total = source.count()
    given.progress.stage("calibrating", total)

    def run(feeds: Feeds) -> Dict[str, Any]:
        outputs = _run(engine, feeds)
        rows = min((len(value) for value in feeds.values() if value.ndim), default=1)
        given.progress.advance(rows if signature.max_batch_size else 1)
        return {**outputs, **feeds}

    with engine_from_bytes(graph.serialize(), model.info, signature, EngineOptions(warm_up_runs=0)) as engine:
        histograms = collect(run, batches, tensors)
    return table_from_histograms(histograms, settings.max_clipped)


def _run(engine: Engine, feeds: Feeds) -> Dict[str, Any]:
    """Outputs that hold until the engine, whose only user we are, runs again."""
    with engine.slot() as slot:
        for name, value in feeds.items():
            np.copyto(slot.bind(name, value.shape), value)
        return slot.run()

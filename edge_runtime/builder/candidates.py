"""The candidates of a build: ways to run the model, each a graph that is made when it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, FrozenSet, Mapping

from edge_runtime.builder.data import BuildData
from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.progress import Progress
from edge_runtime.builder.recipe import PrecisionTable, Recipe
from edge_runtime.calibration.sample import SampleSource
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.fp16 import FloatIO, to_fp16
from edge_runtime.graph.macs import quantised_nodes
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.quantize import fold_weights, insert_qdq
from edge_runtime.tensors import DType

MIXED = "int8 mixed"


@dataclass(frozen=True)
class CandidateInputs:
    """What candidates are made with.

    `calibration_key` identifies the calibration samples by all that they hold; `calib_cache` is the folder of
    histograms and tables. `int8_problem` says why the target can't run INT8, `data_problem` why the data can't be
    calibrated on; "" if they can. `is_final` says whether what is tried here is what is published; if not, the INT8
    that is best here is built for another backend, and FP16 is tried only there. `scales_all` says whether every
    activation gets a scale, and `on_device` calibrates on the GPU, where that can be.
    """

    recipe: Recipe
    data: BuildData
    calibration_key: Any
    calib_cache: Path
    progress: Progress
    int8_problem: str = ""
    data_problem: str = ""
    is_final: bool = True
    scales_all: bool = False
    on_device: Callable[[SampleSource], CalibrationTable] | None = None

    @property
    def precision(self) -> PrecisionTable:
        """`[precision]` of the recipe."""
        return self.recipe.tables.precision


@dataclass(frozen=True)
class Candidate:
    """One way to run the model: `name` says which, `make` makes its graph.

    INT8 has a calibrator, its table, and the nodes that stay in float. `ranges` are the largest |x| of tensors, where
    FP16 must not overflow.
    """

    name: str
    precision: str
    make: Callable[[], OnnxModel]
    calibrator: str | None = None
    table: CalibrationTable | None = None
    excluded: FrozenSet[str] = frozenset()
    ranges: Mapping[str, float] | None = None


@dataclass(frozen=True)
class CandidateMaker:
    """Makes candidates of one model; `ranges` are the largest |x| of its tensors, where FP16 must not overflow."""

    model: FloatModel
    precision: PrecisionTable
    ranges: Mapping[str, float] | None

    def fp16(self) -> Candidate:
        """The model in FP16."""

        def make() -> OnnxModel:
            return in_half(self.model.single.graph, self.ranges, self.precision.io)

        return Candidate("fp16", "fp16", make, ranges=self.ranges)

    def int8(self, calibrator: str, table: CalibrationTable, kept: FrozenSet[str] = frozenset()) -> Candidate:
        """The model in INT8 by one calibrator's table, but for what the recipe keeps in float and `kept`."""
        excluded = kept | frozenset(self.precision.keep_float)

        def make() -> OnnxModel:
            graph = fold_weights(insert_qdq(self.model.single.graph, table.scales, excluded))
            if not quantised_nodes(graph):
                raise UnsupportedModelError(
                    f"{graph.name}: nothing in it can be int8 with these scales and [precision] keep_float; "
                    "build it as fp32 or fp16"
                )
            return self._half(graph) if self.precision.rest == "fp16" else graph

        name = MIXED if kept else f"int8 {calibrator}"
        return Candidate(name, "int8", make, calibrator, table, excluded, self.ranges)

    def _half(self, graph: OnnxModel) -> OnnxModel:
        return to_fp16(graph, ranges=self.ranges, io=self.precision.io)


def in_half(model: OnnxModel, ranges: Mapping[str, float] | None, io: FloatIO) -> OnnxModel:
    """The model in FP16.

    Raises:
        UnsupportedModelError: nothing in it can be.
    """
    graph = to_fp16(model, ranges=ranges, io=io)
    is_half = any(spec.dtype is DType.FP16 for spec in (*graph.inputs, *graph.outputs))
    if graph is model and not is_half:
        raise UnsupportedModelError(f"{graph.name}: nothing in it can be fp16; build it as fp32")
    return graph

"""What TensorRT parses for a candidate: the graph, the names that are held to float, and the calibration cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping, Sequence, Tuple

from edge_runtime.builder.candidates import Candidate, in_half
from edge_runtime.builder.recipe import PrecisionTable
from edge_runtime.builder.tensorrt.form import IMPLICIT, STRONG, Form
from edge_runtime.errors import CalibrationError
from edge_runtime.graph.fp16 import float32_nodes, to_fp16
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.quantize import insert_qdq
from edge_runtime.graph.split import split
from edge_runtime.tensors import ShapeRange


@dataclass(frozen=True)
class NetworkInputs:
    """A candidate for TensorRT: its graph, and with flags the nodes held to a type and the scales."""

    graph: OnnxModel
    float_layers: Tuple[str, ...] = ()
    half_layers: Tuple[str, ...] = ()
    calibration_cache: str = ""


def network_inputs(candidate: Candidate, form: Form, single: OnnxModel, precision: PrecisionTable) -> NetworkInputs:
    """What TensorRT parses for a candidate in a form; `single` is the model in float32.

    Q/DQ nodes go around weights in float32, as every TensorRT reads them.

    Raises:
        CalibrationError: INT8 without scales.
        UnsupportedModelError: nothing in it can be of that precision.
    """
    if candidate.precision == "fp32":
        return NetworkInputs(single)
    if candidate.precision == "fp16":
        if form.is_typed:
            return NetworkInputs(in_half(single, candidate.ranges, precision.io))
        return NetworkInputs(single, float_layers=float32_nodes(single, candidate.ranges))
    if candidate.table is None:
        raise CalibrationError(f"{candidate.name}: INT8 needs scales; give calibration data or a table")
    is_half = precision.rest == "fp16"
    if form.has_qdq:
        graph = insert_qdq(single, candidate.table.scales, candidate.excluded)
        if form.name == STRONG and is_half:
            graph = to_fp16(graph, ranges=candidate.ranges, io=precision.io)
        return NetworkInputs(graph)
    assert form.name == IMPLICIT
    kept = tuple(name for name in sorted(candidate.excluded) if name in single.node_names)
    cache = candidate.table.to_cache_text()
    return NetworkInputs(single, () if is_half else kept, kept if is_half else (), cache)


Profile = Mapping[str, ShapeRange]


def network_parts(
    given: NetworkInputs, cuts: Sequence[str], profile: Profile
) -> Tuple[Tuple[NetworkInputs, Profile], ...]:
    """What TensorRT parses for each part of a candidate, with the shapes that the part takes; one part without cuts.

    Scales are found by tensor name, so every part gets those of all.

    Raises:
        EdgeRuntimeError: it can't be cut there.
    """
    if not cuts:
        return ((given, profile),)
    return tuple(
        (
            replace(
                given,
                graph=part.model,
                float_layers=tuple(name for name in given.float_layers if name in part.model.node_names),
                half_layers=tuple(name for name in given.half_layers if name in part.model.node_names),
            ),
            part.profile,
        )
        for part in split(given.graph, cuts, profile)
    )

"""A model as every ONNX Runtime and TensorRT that we meet can read it."""

from __future__ import annotations

from typing import Set

import onnx

from edge_runtime.graph.affine import fold_affine
from edge_runtime.graph.check import run_checker
from edge_runtime.graph.folding import fold_constants
from edge_runtime.graph.inference import refresh_outputs
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.opset import at_lowest_opset
from edge_runtime.graph.topology import FreeNames, all_nodes, drop_unused_initializers


def portable(model: OnnxModel) -> OnnxModel:
    """The same model at the lowest opset from 13 up and an old IR version, with its weights as initializers.

    What no input decides is computed, and channelwise arithmetic goes into convolutions. The tensors and nodes that
    stay keep their names; nodes without one, or with one that another has too, get a new one.

    Raises:
        UnsupportedModelError: an operator of an old opset has no counterpart in opset 13.
    """
    proto = at_lowest_opset(model.copied_proto(), model.name)
    fold_constants(proto)
    proto = at_lowest_opset(proto, model.name)  # what needed a later one may be gone
    fold_affine(proto.graph)
    drop_unused_initializers(proto.graph)
    _name_nodes(proto.graph)
    refresh_outputs(proto, model.name)
    run_checker(proto, model.name)
    return model.with_proto(proto)


def _name_nodes(graph: onnx.GraphProto) -> None:
    free = FreeNames(graph)
    seen: Set[str] = set()
    for node in all_nodes(graph):
        if not node.name or node.name in seen:
            node.name = free.take(node.name or node.op_type)
        seen.add(node.name)

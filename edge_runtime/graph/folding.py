"""What a graph computes from constants and fixed shapes alone, computed once."""

from __future__ import annotations

from collections import Counter, deque
from typing import Deque, Dict, Iterable, List, Sequence

import numpy as np
import onnx
import onnx.numpy_helper

from edge_runtime.graph.axes import dims_of, set_shape
from edge_runtime.graph.branches import BranchInliner
from edge_runtime.graph.check import opset_of
from edge_runtime.graph.inference import Types
from edge_runtime.graph.reference import evaluated, is_evaluable, nbytes_of, output_types, type_of
from edge_runtime.graph.sizes import SizeTensors
from edge_runtime.graph.source import LARGEST_TENSOR_NBYTES, all_tensors, tensor_nbytes
from edge_runtime.graph.topology import (
    all_graphs,
    attribute_values,
    names_captured,
    names_read,
    node_graphs,
)
from edge_runtime.tensors import element_count

_SMALL_NBYTES = 1 << 20  # so large a constant may be whatever it is made from,
_GROWTH = 2  # and so many times as large as what it is made from (FP16 to float32)
_ROOM_NBYTES = 1 << 24  # that all made constants may take at a time beyond as much as the model's own
_WORK_NBYTES = 1 << 30  # that are read and written in all, beyond
_WORK_PASSES = 8  # times the model's own constants
_PRODUCTS = ("Gemm", "MatMul")


def fold_constants(proto: onnx.ModelProto) -> None:
    """Compute in the main graph what no input decides, and drop the nodes that nothing reads then.

    Nodes that read only constants become initializers under the names of their outputs, so do Shape and Size of tensors
    of known sizes, and an If of known condition becomes its branch. Graph outputs stay outputs of nodes. Left alone is
    what is random or quantises, what ONNX computes otherwise than ONNX Runtime or with a warning, and a result of over
    1 MiB and over twice the bytes of its inputs. All results together take at most 16 MiB more than the model, and the
    work on them is bounded likewise. Shapes declared inside the graph decide nothing and are dropped.
    """
    forget_claims(proto.graph)
    _Folding(proto).run()
    drop_dead_nodes(proto.graph)


def drop_dead_nodes(graph: onnx.GraphProto) -> None:
    """Remove the nodes of the main graph whose outputs nothing reads."""
    wanted = {value.name for value in graph.output}
    kept: List[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            wanted.update(node.input)
            wanted |= names_read(node_graphs(node))
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def forget_claims(graph: onnx.GraphProto) -> None:
    """Drop what is declared of tensors inside a graph, but for types and ranks of what a Loop or Scan hands on."""
    for each in all_graphs(graph):
        del each.value_info[:]
        for node in each.node:
            for value in (value for inner in node_graphs(node) for value in (*inner.input, *inner.output)):
                if node.op_type == "If":
                    value.ClearField("type")
                elif value.type.tensor_type.HasField("shape"):
                    set_shape(value, [None] * len(dims_of(value)))


class _Folding:
    """One walk over a main graph, in order, and what is known of its tensors so far."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._graph = proto.graph
        self._opset = opset_of(proto)
        self._inliner = BranchInliner(self._graph)
        self._known = {tensor.name: tensor for tensor in self._graph.initializer}
        self._types: Types = {name: type_of(tensor) for name, tensor in self._known.items()}
        self._types.update((value.name, value.type) for value in self._graph.input)
        self._made: Dict[str, onnx.TensorProto] = {}
        self._sizes = SizeTensors(self._opset)
        self._renamed: Dict[str, str] = {}
        self._given_out = {value.name for value in self._graph.output}
        self._pinned = self._given_out | names_captured(self._graph)
        self._uses = Counter(name for node in self._graph.node for name in node.input)
        nbytes = sum(map(_nbytes, all_tensors(proto)))
        self._room_nbytes = nbytes + _ROOM_NBYTES
        self._work_nbytes = nbytes * _WORK_PASSES + _WORK_NBYTES

    def run(self) -> None:
        """Rewrite the graph."""
        waiting: Deque[onnx.NodeProto] = deque(self._graph.node)
        kept: List[onnx.NodeProto] = []
        while waiting:
            node = waiting.popleft()
            node.input[:] = [self._renamed.get(name, name) for name in node.input]
            if node.op_type == "If" and self._is_decided(node.input[0]):
                waiting.extendleft(reversed(self._branch(node)))
            elif not self._is_folded(node):
                kept.append(node)
        del self._graph.node[:]
        self._graph.node.extend(kept)
        self._graph.initializer.extend(self._made.values())

    def _is_decided(self, condition: str) -> bool:
        tensor = self._known.get(condition)
        return tensor is not None and tensor.data_type == onnx.TensorProto.BOOL and element_count(tensor.dims) == 1

    def _branch(self, node: onnx.NodeProto) -> List[onnx.NodeProto]:
        is_true = bool(onnx.numpy_helper.to_array(self._known[node.input[0]]).item())
        nodes, initializers = self._inliner.inlined(node, is_true)
        self._uses.update(name for each in nodes for name in each.input)
        self._pinned |= names_read(inner for each in nodes for inner in node_graphs(each))
        self._note(initializers)
        self._keep(initializers)
        return nodes

    def _is_folded(self, node: onnx.NodeProto) -> bool:
        """Whether a node isn't needed any more; what is known of its outputs is noted."""
        if node.op_type == "Identity" and node.input[0] in self._known and node.output[0] not in self._pinned:
            self._renamed[node.output[0]] = node.input[0]
            self._uses[node.input[0]] += self._uses[node.output[0]] - 1
            return True
        tensors = self._constants(node)
        if tensors is None:
            self._types.update(output_types(node, self._opset, self._types, self._known))
            return False
        self._note(tensors)
        if not self._given_out.isdisjoint(node.output):
            return False
        self._keep(tensors)
        self._release(node.input)
        return True

    def _note(self, tensors: Sequence[onnx.TensorProto]) -> None:
        for tensor in tensors:
            self._known[tensor.name] = tensor
            self._types[tensor.name] = type_of(tensor)

    def _keep(self, tensors: Sequence[onnx.TensorProto]) -> None:
        for tensor in tensors:
            self._made[tensor.name] = tensor
            self._room_nbytes -= _nbytes(tensor)

    def _release(self, names: Iterable[str]) -> None:
        """Forget made constants that only folded nodes have read."""
        for name in names:
            self._uses[name] -= 1
            if not self._uses[name] and name in self._made and name not in self._pinned:
                self._room_nbytes += _nbytes(self._made.pop(name))
                del self._known[name]

    def _constants(self, node: onnx.NodeProto) -> List[onnx.TensorProto] | None:
        """The outputs of a node, if they are constant."""
        if node.op_type == "Constant":
            constant = _written_constant(node)
            return None if constant is None else [constant]
        sizes = self._sizes.follow(node, self._types, self._known)
        values = None if sizes is None else [sizes]
        if sizes is None and is_evaluable(node, self._known):
            types = output_types(node, self._opset, self._types, self._known)
            if self._is_affordable(node, types):
                values = evaluated(node, self._opset, self._known, types)
        if values is None:
            return None
        return list(map(onnx.numpy_helper.from_array, values, filter(None, node.output)))

    def _is_affordable(self, node: onnx.NodeProto, types: Types) -> bool:
        made = [nbytes_of(types.get(name)) for name in node.output if name]
        read = [nbytes_of(self._types[name]) for name in set(node.input) if name]
        made_nbytes, read_nbytes = (sum(nbytes or 0 for nbytes in each) for each in (made, read))
        passes = max(self._known[node.input[0]].dims, default=1) if node.op_type in _PRODUCTS else 1
        work_nbytes = (made_nbytes + read_nbytes) * passes
        limit = min(self._room_nbytes, LARGEST_TENSOR_NBYTES, max(_SMALL_NBYTES, _GROWTH * read_nbytes))
        if None in made or made_nbytes > limit or work_nbytes > self._work_nbytes:
            return False
        self._work_nbytes -= work_nbytes
        return True


def _nbytes(tensor: onnx.TensorProto) -> int:
    return tensor_nbytes(tensor) or 0


def _written_constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a Constant node, however it is written; None for text."""
    settings = attribute_values(node)
    tensor = onnx.TensorProto()
    if "value" in settings:
        tensor.CopyFrom(settings["value"])
    elif "value_float" in settings or "value_floats" in settings:
        values = settings.get("value_float", settings.get("value_floats"))
        tensor = onnx.numpy_helper.from_array(np.array(values, np.float32))
    elif "value_int" in settings or "value_ints" in settings:
        tensor = onnx.numpy_helper.from_array(np.array(settings.get("value_int", settings.get("value_ints")), np.int64))
    else:
        return None
    tensor.name = node.output[0]
    return tensor

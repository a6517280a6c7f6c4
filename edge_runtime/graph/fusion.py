"""Which nodes of a model each node of an optimised graph computes.

An optimiser fuses nodes, changes layouts and renames some of what is between them. The tensors that are left in both
graphs say the rest: a node computes what lies in the model between the tensors that it reads and those that it writes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Dict, Iterable, List, Set, Tuple

import onnx

from edge_runtime.graph.source import parsed
from edge_runtime.graph.topology import names_read, node_graphs

_LAYOUT_DOMAIN = "com.microsoft.nchwc"
_LAYOUT_SUFFIX = "_nchwc"  # after the name of the tensor that the node wrote before
_INSERTED = ("Transpose", "Cast", "Identity", "Reshape", "QuantizeLinear", "DequantizeLinear")
_INLINED = "_inlfunc_"  # before the tensors inside an operator that is run as several
_CAST = "InsertedPrecisionFreeCast_"  # before the name of a tensor that is in float32 now
_ADDITION = re.compile(r"/\w+Fusion/|/duplicated|_token_\d+$")


@dataclass(frozen=True)
class ExecutedNode:
    """A node of an optimised graph (`name` may be empty), and the names of the model's nodes that it computes.

    One without `nodes` was inserted, to change a layout or a type.
    """

    name: str
    kind: str
    nodes: Tuple[str, ...]


def fused_nodes(original: bytes, executed: bytes) -> Tuple[ExecutedNode, ...]:
    """The nodes of the `executed` ONNX in its order, with what each computes of the `original` one.

    What the optimiser computed beforehand is in none of them; what it computes twice, or for two readers, in several.
    A node of the model without a name goes by `node_of_` and its first output, as in TensorRT.

    Raises:
        ModelError: one of the two isn't an ONNX model.
    """
    model = _Model(parsed(original, "the plan").graph)
    graph = parsed(executed, "the optimised graph").graph
    inserted = [_is_inserted(node, model) for node in graph.node]
    same = _Aliases(model, graph, inserted)
    stops = set(same.all_of(_tensors(graph)))
    found: List[Set[int]] = []
    inside: Dict[str, Set[int]] = defaultdict(set)  # what is computed by the readers of a tensor that the model hasn't
    for node, is_inserted in zip(reversed(graph.node), reversed(inserted)):
        within = {each for name in node.output for each in inside[name]}
        nodes: Set[int] = set()
        if not is_inserted:
            nodes = model.between(stops, same.all_of(node.output)) | model.named(node) or within
        for name in node.input:
            if not same.all_of([name]):
                inside[name] |= nodes or within
        found.append(nodes)
    return tuple(
        ExecutedNode(node.name, node.op_type, model.labels(nodes)) for node, nodes in zip(graph.node, reversed(found))
    )


class _Model:
    """The model that was optimised: its nodes by number, and which of them makes a tensor."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.tensors = _tensors(graph)
        self._maker = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self._by_name = {node.name: index for index, node in enumerate(self.nodes) if node.name}

    def between(self, stops: Set[str], starts: Iterable[str]) -> Set[int]:
        """The nodes that make `starts` from tensors among `stops`."""
        found: Set[int] = set()
        waiting = list(starts)
        while waiting:
            index = self._maker.get(waiting.pop())
            if index is None or index in found or self.nodes[index].op_type == "Constant":
                continue
            found.add(index)
            waiting.extend(name for name in _reads(self.nodes[index]) if name not in stops)
        return found

    def named(self, node: onnx.NodeProto) -> Set[int]:
        """The node that an optimised one has its name from."""
        index = self._by_name.get(node.name, self._by_name.get(_ADDITION.sub("", node.name)))
        return set() if index is None else {index}

    def labels(self, indices: Set[int]) -> Tuple[str, ...]:
        """Names of nodes, in the model's order."""
        return tuple(
            self.nodes[index].name or f"node_of_{next(filter(None, self.nodes[index].output), '')}"
            for index in sorted(indices)
        )


class _Aliases:
    """Which tensors of both graphs hold the same values, maybe in another layout or type: sets that are joined."""

    def __init__(self, model: _Model, graph: onnx.GraphProto, inserted: List[bool]) -> None:
        self._model = model
        self._parents: Dict[str, str] = {}
        self._members: Dict[str, List[str]] = {}
        for node, is_inserted in zip(graph.node, inserted):
            if is_inserted:
                self._join(node.input[0], node.output[0])
            elif node.domain == _LAYOUT_DOMAIN and node.name.endswith(_LAYOUT_SUFFIX):
                self._join_new(node.output[:1], [_uncast(node.name[: -len(_LAYOUT_SUFFIX)])])
            for index in model.named(node):
                before = model.nodes[index]
                if before.op_type == node.op_type:
                    self._join_new(node.input, before.input)
                if before.op_type == node.op_type or before.name != node.name:
                    self._join_new(node.output, before.output)
        for name in _tensors(graph):
            self._join_new([name], [_uncast(name)])
        for name in (*model.tensors, *_tensors(graph)):
            self._members.setdefault(self._root(name), [])
        for name in model.tensors:
            self._members[self._root(name)].append(name)

    def all_of(self, names: Iterable[str]) -> List[str]:
        """The model's tensors that hold what tensors of either graph hold."""
        return [each for name in names if name for each in self._members.get(self._root(name), ())]

    def _join_new(self, names: Iterable[str], originals: Iterable[str]) -> None:
        """Joins those that the optimiser named with those that they replaced."""
        for name, original in zip(names, originals):
            if name and name not in self._model.tensors and original in self._model.tensors:
                self._join(name, original)

    def _join(self, one: str, other: str) -> None:
        self._parents[self._root(one)] = self._root(other)

    def _root(self, name: str) -> str:
        while self._parents.get(name, name) != name:
            name = self._parents[name]
        return name


def _is_inserted(node: onnx.NodeProto, model: _Model) -> bool:
    """Whether a node only changes layout or type, and stems from none of the model."""
    if node.domain == _LAYOUT_DOMAIN and node.op_type in ("ReorderInput", "ReorderOutput"):
        return True
    ends = (node.input[0], node.output[0]) if node.input else ()
    if node.op_type not in _INSERTED or model.named(node) or any(_uncast(end).startswith(_INLINED) for end in ends):
        return False
    return not model.tensors.issuperset(ends)


def _uncast(name: str) -> str:
    return name[len(_CAST) :] if name.startswith(_CAST) else name


def _tensors(graph: onnx.GraphProto) -> Set[str]:
    """The names of all tensors of a graph itself."""
    names = {value.name for value in (*graph.input, *graph.initializer)}
    return names | {name for node in graph.node for name in node.output if name}


def _reads(node: onnx.NodeProto) -> Set[str]:
    """What a node reads, its subgraphs included."""
    return {*node.input, *names_read(node_graphs(node))}

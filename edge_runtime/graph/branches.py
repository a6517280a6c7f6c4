"""An If of known condition, replaced by the branch that it takes."""

from __future__ import annotations

from collections import Counter
from typing import List, Mapping, Tuple

import onnx
import onnx.helper

from edge_runtime.graph.topology import FreeNames, all_graphs, attribute_values

Inlined = Tuple[List[onnx.NodeProto], List[onnx.TensorProto]]


class BranchInliner:
    """Moves branches of Ifs into the main graph.

    Their tensors keep their names where no other tensor of the model, as it was first, has the same.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._free = FreeNames(graph)
        self._makers = Counter(name for each in all_graphs(graph) for name in _made_in(each))

    def inlined(self, node: onnx.NodeProto, is_true: bool) -> Inlined:
        """The nodes and initializers that do what the If `node` does when its condition `is_true`."""
        branch: onnx.GraphProto = attribute_values(node)["then_branch" if is_true else "else_branch"]
        made = dict.fromkeys(name for each in all_graphs(branch) for name in _made_in(each))
        new = {name: name if self._makers[name] == 1 else self._free.take(name) for name in made}
        computed = {name for each in branch.node for name in each.output}
        copies: List[Tuple[str, str]] = []
        for inner, outer in zip((value.name for value in branch.output), node.output):
            if inner in computed and outer:
                computed.discard(inner)
                new[inner] = outer
            elif outer:
                copies.append((inner, outer))
        _rename(branch, new)
        nodes = list(branch.node)
        for inner, outer in copies:
            nodes.append(onnx.helper.make_node("Identity", [new.get(inner, inner)], [outer], node.name))
        return nodes, list(branch.initializer)


def _made_in(graph: onnx.GraphProto) -> List[str]:
    """The tensors that a graph has of its own."""
    makers = (*graph.input, *graph.initializer)
    return [value.name for value in makers] + [name for node in graph.node for name in node.output if name]


def _rename(graph: onnx.GraphProto, new: Mapping[str, str]) -> None:
    for each in all_graphs(graph):
        for value in (*each.input, *each.output, *each.initializer):
            value.name = new.get(value.name, value.name)
        for node in each.node:
            node.input[:] = [new.get(name, name) for name in node.input]
            node.output[:] = [new.get(name, name) for name in node.output]

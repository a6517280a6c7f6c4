"""How the nodes of a graph hang together: subgraphs, constants, readers, and names that are still free."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Dict, Iterable, Iterator, List, Set

import onnx
import onnx.helper


def node_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs that a node holds itself (the branches of an If, the body of a Loop)."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every graph inside it, outermost first."""
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        for node in current.node:
            waiting.extend(node_graphs(node))


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of every graph inside it."""
    for each in all_graphs(graph):
        yield from each.node


def names_read(graphs: Iterable[onnx.GraphProto]) -> Set[str]:
    """The tensors that nodes of these graphs (and those inside) read, or that they give out."""
    names: Set[str] = set()
    for graph in graphs:
        for each in all_graphs(graph):
            names.update(output.name for output in each.output)
            for node in each.node:
                names.update(node.input)
    return names


def names_captured(graph: onnx.GraphProto) -> Set[str]:
    """The tensors that subgraphs of `graph` may read from it."""
    return names_read(inner for node in graph.node for inner in node_graphs(node))


def readers(graph: onnx.GraphProto) -> Dict[str, List[onnx.NodeProto]]:
    """For each tensor the nodes of `graph` itself that read it."""
    found: Dict[str, List[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            found[name].append(node)
    return found


def producers(graph: onnx.GraphProto) -> Dict[str, onnx.NodeProto]:
    """For each tensor that a node of `graph` itself makes, this node."""
    return {name: node for node in graph.node for name in node.output if name}


def constants(graph: onnx.GraphProto) -> Dict[str, onnx.TensorProto]:
    """The tensors of known value: initializers and `Constant` nodes that hold a tensor."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = attribute.t
    return found


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Remove the initializers that nothing in `graph` or inside it reads."""
    used = names_read([graph])
    for index in reversed(range(len(graph.initializer))):  # one by one: those that stay aren't copied
        if graph.initializer[index].name not in used:
            del graph.initializer[index]


def attribute_values(node: onnx.NodeProto) -> Dict[str, Any]:
    """The attributes of a node as Python values (text as bytes)."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


class FreeNames:
    """Hands out names that no tensor or node of a graph has yet."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken: Set[str] = set()
        self._numbers: Dict[str, int] = {}
        for each in all_graphs(graph):
            self._taken.update(value.name for value in (*each.input, *each.output, *each.initializer))
            for node in each.node:
                self._taken.update((node.name, *node.input, *node.output))

    def take(self, wish: str) -> str:
        """`wish`, or `wish` with the first number that makes it new."""
        name, number = wish, self._numbers.get(wish, 1)
        while name in self._taken:
            number += 1
            name = f"{wish}_{number}"
        self._numbers[wish] = number
        self._taken.add(name)
        return name

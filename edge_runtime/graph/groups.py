"""The parts of a network that go to int8, or stay float, together."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Dict, Iterable, List, Sequence, Set, Tuple

import onnx

from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.rules import Site, plan_sites
from edge_runtime.graph.topology import attribute_values, constants, node_graphs, producers, readers

# What mixes tensors by weights or multiplies matrices. All else is light: it only carries on what these made.
_HEAVY = frozenset("Attention Conv ConvTranspose DeformConv Einsum GRU Gemm LSTM MatMul RNN".split())
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_BLIND = frozenset({"Shape", "Size"})  # they don't see values


@dataclass(frozen=True)
class Group:
    """The names of nodes that `insert_qdq` excludes together, in the graph's order; `name` is the first of them."""

    name: str
    kind: str
    nodes: Tuple[str, ...]


def groups(model: OnnxModel) -> Tuple[Group, ...]:
    """The nodes that `insert_qdq` quantises, each in one group, in the graph's order; of a portable model.

    An Add that joins a residual goes with its convolution, the products of activations before a Softmax with those
    after it, and the products of one tensor with several weights (query, key and value) go together.
    A group has the first of these kinds that fits one of its nodes:

    * `attention`: a product of two activations before or after a Softmax
    * `head`: a graph output hangs on it through light nodes alone, of which none joins a residual
    * `first`: it hangs on the graph inputs through light nodes alone
    * `depthwise`: a convolution of each channel by itself
    * `residual`: a convolution whose output enters a residual Add
    * `projections`: products of one tensor with several weights
    * `layer`: all others

    Light are all nodes but convolutions, matrix products, recurrent nets and those with subgraphs.

    Raises:
        UnsupportedModelError: a node has no name of its own; `portable` gives it one.
    """
    net = _Net(model.proto.graph, plan_sites(model.proto))
    names = {output: net.makers[output].name for output in net.sites}
    if len({*names.values()} - {""}) < len(names):
        raise UnsupportedModelError(f"{model.name}: nodes lack names of their own; make the model portable first")
    attention, head = net.attention(), net.head()
    projections = net.siblings(but=head)
    kinds = {
        "attention": {output for block in attention for output in block},
        "head": head,
        "first": net.first(),
        "depthwise": net.depthwise(),
        "residual": net.residual(),
        "projections": {output for block in projections for output in block},
    }
    residuals = [[site.partner, site.output] for site in net.sites.values() if site.partner]
    return tuple(
        Group(
            names[block[0]],
            next((kind for kind, outputs in kinds.items() if not outputs.isdisjoint(block)), "layer"),
            tuple(names[output] for output in block),
        )
        for block in _joined(net.sites, [*residuals, *attention, *projections])
    )


def _joined(outputs: Iterable[str], blocks: Iterable[List[str]]) -> List[List[str]]:
    """The outputs in lists: one for each block, for blocks that overlap, and for an output in no block."""
    lists = {output: [output] for output in outputs}
    order = {output: index for index, output in enumerate(lists)}
    for first, *others in blocks:
        for other in others:
            if lists[first] is not lists[other]:
                merged = sorted(lists[first] + lists[other], key=order.__getitem__)
                lists.update(dict.fromkeys(merged, merged))
    return [block for output, block in lists.items() if block[0] == output]


class _Net:
    """A graph and its sites, known by their outputs."""

    def __init__(self, graph: onnx.GraphProto, sites: Iterable[Site]) -> None:
        self.sites = {site.output: site for site in sites}
        self.makers = producers(graph)
        self._graph = graph
        self._users = readers(graph)
        self._after_heavy: Set[str] = set()
        for node in graph.node:
            if _is_heavy(node) or not self._after_heavy.isdisjoint(_sources(node)):
                self._after_heavy.update(filter(None, node.output))

    def attention(self) -> List[List[str]]:
        """The products of two activations around each Softmax that has some before and some after it."""
        products = {
            output
            for output, site in self.sites.items()
            if self.makers[output].op_type in _PRODUCTS and len(site.activations) == 2
        }
        blocks = []
        for node in self._graph.node:
            if node.op_type == "Softmax":
                before, after = products & self._before(node.input), products & self._after(node.output)
                blocks.extend([[*before, *after]] if before and after else [])
        return blocks

    def head(self) -> Set[str]:
        """The heavy nodes before the graph outputs."""
        return self._before([value.name for value in self._graph.output], across_residuals=False)

    def first(self) -> Set[str]:
        """The sites with no heavy node before them."""
        return {output for output in self.sites if self._after_heavy.isdisjoint(self.makers[output].input)}

    def depthwise(self) -> Set[str]:
        """The convolutions whose kernels see one channel each."""
        known = constants(self._graph)
        return {
            output
            for output, site in self.sites.items()
            if attribute_values(self.makers[output]).get("group", 1) > 1
            and all(known[edge.tensor].dims[1] == 1 for edge in site.edges if edge.is_constant)
        }

    def residual(self) -> Set[str]:
        """Both operands of the residual Adds."""
        adds = [site for site in self.sites.values() if site.partner]
        return {output for site in adds for output in (site.partner, *site.activations)}

    def siblings(self, but: Set[str]) -> List[List[str]]:
        """The products of one tensor with different weights, in lists of at least two."""
        found: Dict[str, List[str]] = defaultdict(list)
        for output, site in self.sites.items():
            if self.makers[output].op_type in _PRODUCTS and site.edges[-1].is_constant and output not in but:
                found[site.edges[0].tensor].append(output)
        return [block for block in found.values() if len(block) > 1]

    def _before(self, tensors: Iterable[str], across_residuals: bool = True) -> Set[str]:
        """The heavy nodes from which light ones lead to one of these tensors."""
        waiting, seen, found = list(tensors), set(), set()
        while waiting:
            name = waiting.pop()
            node = self.makers.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            if _is_heavy(node):
                found.add(node.output[0])
            elif across_residuals or node.op_type != "Add" or not self._after_heavy.issuperset(node.input):
                waiting.extend(_sources(node))
        return found

    def _after(self, tensors: Iterable[str]) -> Set[str]:
        """The heavy nodes to which light ones lead from one of these tensors."""
        waiting, seen, found = list(tensors), set(), set()
        while waiting:
            name = waiting.pop()
            for node in () if name in seen else self._users.get(name, ()):
                if _is_heavy(node):
                    found.add(node.output[0])
                elif name in _sources(node):
                    waiting.extend(node.output)
            seen.add(name)
        return found


def _is_heavy(node: onnx.NodeProto) -> bool:
    return node.op_type in _HEAVY or any(node_graphs(node))


def _sources(node: onnx.NodeProto) -> Sequence[str]:
    """The tensors whose values decide those of a node's outputs."""
    return () if node.op_type in _BLIND else node.input

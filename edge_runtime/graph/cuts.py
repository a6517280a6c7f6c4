"""Where a model can be cut into parts that run one after the other, and which node comes into which part."""

from __future__ import annotations

from collections import deque
from typing import Dict, FrozenSet, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

import onnx

from edge_runtime.errors import ConfigError, nearest
from edge_runtime.graph.axes import known_dims
from edge_runtime.graph.inference import Types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.topology import node_graphs

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_SHAPES = frozenset({"Shape", "Size"})
_RANDOM = frozenset(
    "Bernoulli Dropout Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()
)
_MOST_NAMES = 5


class Wiring:
    """The main graph of a model by its tensors. Nodes are known by their place in the graph's order.

    `copied` are the nodes that every part which reads them has itself: Q/DQ, so that no cut parts Q from DQ or DQ from
    the node that computes in INT8; constants; and what computes shapes, which engines must see where they are used.
    """

    def __init__(self, model: OnnxModel, types: Types) -> None:
        graph = model.proto.graph
        self.name = model.name
        self.nodes: List[onnx.NodeProto] = list(graph.node)
        self.inputs = tuple(value.name for value in graph.input)
        self.outputs = tuple(value.name for value in graph.output)
        self.initializers = frozenset(tensor.name for tensor in graph.initializer)
        self.makers: Dict[str, int] = {
            name: place for place, node in enumerate(self.nodes) for name in node.output if name
        }
        known = {*self.inputs, *self.initializers, *self.makers}
        self.reads: List[Tuple[str, ...]] = [
            tuple(name for name in dict.fromkeys((*node.input, *_captured(node))) if name in known)
            for node in self.nodes
        ]
        self.copied = self._copied(types)
        self.live = self.before(self.outputs)
        self._fed = self._after_inputs()

    def before(self, tensors: Iterable[str]) -> Set[int]:
        """The nodes whose answers decide these tensors."""
        found: Set[int] = set()
        waiting = list(tensors)
        while waiting:
            place = self.makers.get(waiting.pop())
            if place is not None and place not in found:
                found.add(place)
                waiting.extend(self.reads[place])
        return found

    def _after_inputs(self) -> Set[str]:
        fed = set(self.inputs)
        for node, reads in zip(self.nodes, self.reads):
            if not fed.isdisjoint(reads):
                fed.update(node.output)
        return fed

    def _copied(self, types: Types) -> FrozenSet[int]:
        places: Set[int] = set()
        of_shapes: Set[str] = set()
        for place, (node, reads) in enumerate(zip(self.nodes, self.reads)):
            if node.domain or node.op_type in _RANDOM or any(True for _ in node_graphs(node)):
                continue
            if node.op_type in _QUANTIZERS or node.op_type == "Constant":
                places.add(place)
            elif _is_small(node, types) and (node.op_type in _SHAPES or self._is_of(reads, of_shapes)):
                places.add(place)
                of_shapes.update(node.output)
        return frozenset(places)

    def _is_of(self, reads: Sequence[str], of_shapes: Set[str]) -> bool:
        """Whether these tensors are all shapes, or computed of shapes and constants."""
        computed = [name for name in reads if name not in self.initializers and not self._is_constant(name)]
        return bool(computed) and of_shapes.issuperset(computed)

    def _is_constant(self, name: str) -> bool:
        place = self.makers.get(name)
        return place is not None and self.nodes[place].op_type == "Constant"

    def unfit(self, tensor: str) -> str:
        """Why the model can't be cut at one of its tensors, "" if it can."""
        place = self.makers.get(tensor)
        if place is None:
            return "is an input of the model" if tensor in self.inputs else "is a constant"
        if tensor in self.outputs:
            return "is an output of the model"
        if tensor not in self._fed:
            return "is a constant"
        if place in self.copied:
            return "holds a shape, not an activation"
        return "" if place in self.live else "leads to no output"

    def fit(self) -> Iterator[str]:
        """The tensors at which the model can be cut, in the graph's order."""
        return (name for name in self.makers if not self.unfit(name))

    def unquantised(self, tensor: str) -> str:
        """The tensor that Q/DQ nodes make `tensor` of, or itself if none does."""
        while tensor in self.makers and self.nodes[self.makers[tensor]].op_type in _QUANTIZERS:
            tensor = self.nodes[self.makers[tensor]].input[0]
        return tensor

    def around(self, tensor: str) -> Iterator[str]:
        """A tensor, and all others that hang together with it, those with the fewest nodes in between first."""
        neighbours: Dict[str, List[str]] = {}
        for node, reads in zip(self.nodes, self.reads):
            for read in reads:
                if read not in self.initializers:
                    neighbours.setdefault(read, []).extend(node.output)
                    for made in node.output:
                        neighbours.setdefault(made, []).insert(0, read)
        waiting, seen = deque([tensor]), {tensor}
        while waiting:
            name = waiting.popleft()
            yield name
            for other in neighbours.get(name, ()):
                if other and other not in seen:
                    seen.add(other)
                    waiting.append(other)


def _is_small(node: onnx.NodeProto, types: Types) -> bool:
    """Whether a node makes scalars and vectors only, as what computes shapes does."""
    dims = [known_dims(types.get(name)) for name in node.output if name]
    return all(each is not None and len(each) <= 1 for each in dims)


def _captured(node: onnx.NodeProto) -> Set[str]:
    """The tensors that the subgraphs of a node read from outside."""
    found: Set[str] = set()
    for graph in node_graphs(node):
        own = {value.name for value in (*graph.input, *graph.initializer)}
        for inner in graph.node:
            found.update(({*inner.input, *_captured(inner)}) - own)
            own.update(inner.output)
        found.update({value.name for value in graph.output} - own)
    return found - {""}


def cut_tensors(
    wiring: Wiring, names: Sequence[str], around: Mapping[str, Sequence[str]] | None = None
) -> Tuple[str, ...]:
    """The tensors at which to cut for those that are named; one between Q and DQ stands for that before the Q.

    `around` has the tensors near each that is named, in the model as it was before it was prepared.

    Raises:
        ConfigError: the model can't be cut at one of them, or they aren't in the order in which the model makes them.
    """
    found: List[str] = []
    for name in names:
        _check_known(wiring, name, (around or {}).get(name, ()))
        tensor = wiring.unquantised(name)
        problem = wiring.unfit(tensor)
        if problem:
            near = _nearest_text(wiring, wiring.around(tensor))
            raise ConfigError(f"[model] split {name!r}: {wiring.name}: that tensor {problem}; {near}")
        _check_order(wiring, found, tensor, name)
        found.append(tensor)
    return tuple(found)


def _nearest_text(wiring: Wiring, tensors: Iterable[str]) -> str:
    fit = set(wiring.fit())
    near = next((name for name in tensors if name in fit), None)
    return "it can't be cut anywhere near" if near is None else f"the nearest that it can be cut at is {near!r}"


def _check_known(wiring: Wiring, name: str, around: Sequence[str]) -> None:
    if name in wiring.makers or name in wiring.inputs or name in wiring.initializers:
        return
    if around:
        raise ConfigError(
            f"[model] split {name!r}: {wiring.name}: that tensor isn't there any more when the model is prepared (what "
            f"is constant is computed, and arithmetic goes into convolutions); {_nearest_text(wiring, around)}"
        )
    fit = list(wiring.fit())
    close = nearest(name, fit)
    if not close.startswith("did you mean"):
        more = f", ... ({len(fit)} in all)" if len(fit) > _MOST_NAMES else ""
        close = f"it can be cut at {', '.join(fit[:_MOST_NAMES])}{more}" if fit else "it can't be cut anywhere"
    raise ConfigError(f"[model] split {name!r}: {wiring.name} has no tensor of that name: {close}")


def _check_order(wiring: Wiring, earlier: Sequence[str], tensor: str, name: str) -> None:
    if tensor in earlier:
        raise ConfigError(f"[model] split {name!r}: {wiring.name} is cut at {tensor!r} already; name it once")
    for other in earlier:
        if wiring.makers[tensor] in wiring.before([other]):
            raise ConfigError(
                f"[model] split {name!r}: {wiring.name} makes it before {other!r}, or with it; "
                "name tensors in the order in which they are made, and one of each node"
            )


def part_numbers(wiring: Wiring, cuts: Sequence[str]) -> List[int]:
    """The part of each node: the first one whose cut needs it, else the last."""
    numbers = [len(cuts)] * len(wiring.nodes)
    for number in reversed(range(len(cuts))):
        for place in wiring.before([cuts[number]]):
            numbers[place] = number
    return numbers

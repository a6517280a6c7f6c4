"""A model cut at some of its tensors into parts that run one after the other, each a model of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Collection, Dict, List, Mapping, Sequence, Set, Tuple

import onnx

from edge_runtime.errors import ConfigError, UnsupportedModelError
from edge_runtime.graph.axes import Dim, input_axes, known_dims, set_shape, unused
from edge_runtime.graph.cuts import Wiring, cut_tensors, part_numbers
from edge_runtime.graph.inference import Types, element_name, tensor_types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.weights import DTYPES, without_weights
from edge_runtime.tensors import DType, Shape, ShapeRange


@dataclass(frozen=True)
class Part:
    """A part of a model, and the shapes of all that it takes."""

    model: OnnxModel
    profile: Mapping[str, ShapeRange]


@dataclass(frozen=True)
class _Share:
    """What one part consists of: places of nodes in their order, and the names of what it takes and gives."""

    nodes: Tuple[int, ...]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    constants: Tuple[str, ...]


def split(model: OnnxModel, names: Sequence[str], profile: Mapping[str, ShapeRange]) -> Tuple[Part, ...]:
    """The model in consecutive parts, one more than `names`: each ends when the tensor of that name is there.

    A part takes those inputs of the model that it reads, and of what earlier parts made what it reads; names stay the
    same. It has what its tensor needs and no earlier part has; the last one has the rest. Q/DQ, constants and what
    computes shapes are in every part that reads them, so only tensors of real values cross. Initializers that several
    parts read are in each of them.

    Raises:
        ConfigError: the model can't be cut there, for which `split_tensors` gives the reasons.
        UnsupportedModelError: a tensor crosses whose type or shape can't be known, or can't be handed over.
    """
    types = tensor_types(model.proto, data_prop=True)
    wiring = Wiring(model, types)
    shares = _shares(wiring, cut_tensors(wiring, names))
    limits = _limits(model, profile, _crossing(wiring, shares), types)
    values = _Values(model, types, limits)
    initializers = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    parts = []
    for share in shares:
        proto = _empty(model)
        graph = proto.graph
        graph.node.extend(wiring.nodes[place] for place in share.nodes)
        graph.initializer.extend(initializers[name] for name in share.constants)
        graph.input.extend(map(values.of_input, share.inputs))
        graph.output.extend(map(values.of_output, share.outputs))
        taken = {name: profile[name] if name in profile else limits[name] for name in share.inputs}
        parts.append(Part(model.with_proto(proto), taken))
    return tuple(parts)


def split_tensors(
    model: OnnxModel,
    names: Sequence[str],
    profile: Mapping[str, ShapeRange],
    around: Mapping[str, Sequence[str]] | None = None,
) -> Tuple[str, ...]:
    """The tensors at which `split` cuts; one that is named between Q and DQ stands for that before the Q.

    `around` is what `tensors_around` gave for the model as it was before it was prepared.

    Raises:
        ConfigError: the model has no such tensor, it is an input, an output or a constant, or the order is wrong.
        UnsupportedModelError: a tensor crosses whose type or shape can't be known, or can't be handed over.
    """
    for spec in (*model.inputs, *model.outputs):
        if spec.dtype is DType.BYTES:
            raise UnsupportedModelError(
                f"{model.name}: [model] split: tensor {spec.name!r} holds strings, and no part of a split model can; "
                "leave split out"
            )
    types = tensor_types(model.proto, data_prop=True)
    wiring = Wiring(model, types)
    cuts = cut_tensors(wiring, names, around)
    _limits(model, profile, _crossing(wiring, _shares(wiring, cuts)), types)
    return cuts


def tensors_around(model: OnnxModel, names: Sequence[str]) -> Dict[str, Tuple[str, ...]]:
    """For each of these tensors of a model those that hang together with it, the nearest first."""
    wiring = Wiring(model, {}) if names else None
    return {} if wiring is None else {name: tuple(wiring.around(name)) for name in names if name in wiring.makers}


def _shares(wiring: Wiring, cuts: Sequence[str]) -> List[_Share]:
    """What each part has, found from the last one to the first, for what a part lacks an earlier one gives."""
    numbers = part_numbers(wiring, cuts)
    wanted: List[Set[str]] = [set() for _ in range(len(cuts) + 1)]
    for name in wiring.outputs:
        wanted[numbers[wiring.makers[name]] if name in wiring.makers else -1].add(name)
    shares: List[_Share] = []
    for number in reversed(range(len(wanted))):
        nodes: Set[int] = set()
        read: Set[str] = set()
        waiting = list(wanted[number])
        while waiting:
            name = waiting.pop()
            place = wiring.makers.get(name)
            if place is None or (numbers[place] != number and place not in wiring.copied):
                read.add(name)
            elif place not in nodes:
                nodes.add(place)
                waiting.extend(wiring.reads[place])
        for name in read.intersection(wiring.makers):
            wanted[numbers[wiring.makers[name]]].add(name)
        shares.append(_share(wiring, nodes, read, wanted[number]))
    unread = set(wiring.inputs).difference(*(share.inputs for share in shares))
    last = replace(shares[0], inputs=(*(n for n in wiring.inputs if n in unread), *shares[0].inputs))
    return [*shares[:0:-1], last]


def _share(wiring: Wiring, nodes: Set[int], read: Set[str], wanted: Set[str]) -> _Share:
    crossing = [name for name in wiring.makers if name in read]
    made = [name for name in wiring.makers if name in wanted and name not in wiring.outputs]
    return _Share(
        tuple(sorted(nodes)),
        (*(name for name in wiring.inputs if name in read), *crossing),
        (*(name for name in wiring.outputs if name in wanted), *made),
        tuple(sorted(read & wiring.initializers)),
    )


def _crossing(wiring: Wiring, shares: Sequence[_Share]) -> List[str]:
    """The tensors that one part makes and another reads."""
    return [name for name in dict.fromkeys(name for share in shares for name in share.inputs) if name in wiring.makers]


def _limits(
    model: OnnxModel, profile: Mapping[str, ShapeRange], names: Collection[str], types: Types
) -> Dict[str, ShapeRange]:
    """The shapes that tensors have at the smallest, the most usual and the largest shapes of the inputs."""
    for name in names:
        kind = types.get(name)
        if kind is None or kind.WhichOneof("value") != "tensor_type":
            raise _unsupported(model, name, "its type can't be known")
        if kind.tensor_type.elem_type not in DTYPES:
            raise _unsupported(model, name, f"it holds {element_name(kind.tensor_type.elem_type)}")
    found = [
        _shapes(model, {key: getattr(limits, size) for key, limits in profile.items()}, names)
        for size in ("minimum", "optimum", "maximum")
    ]
    limits = {}
    for name in names:
        try:
            limits[name] = ShapeRange(*(shapes[name] for shapes in found))
        except ConfigError:
            text = ", ".join("x".join(map(str, shapes[name])) for shapes in found)
            reason = f"its shapes ({text}) don't grow with those of the inputs from min over opt to max"
            raise _unsupported(model, name, reason) from None
    return limits


def _shapes(model: OnnxModel, shapes: Mapping[str, Shape], names: Collection[str]) -> Dict[str, Shape]:
    """The shapes of tensors where the inputs have these."""
    proto = without_weights(model.proto)
    for value in proto.graph.input:
        set_shape(value, shapes[value.name])
    del proto.graph.output[:]  # what an output is declared to be was said of other shapes
    del proto.graph.value_info[:]
    types = tensor_types(proto, data_prop=True)
    found: Dict[str, Shape] = {}
    for name in names:
        dims = known_dims(types.get(name))
        if dims is None or not all(isinstance(dim, int) for dim in dims):
            raise _unsupported(model, name, "its shape can't be known before it is computed")
        found[name] = tuple(dim for dim in dims if isinstance(dim, int))
    return found


def _unsupported(model: OnnxModel, name: str, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{model.name}: [model] split lets tensor {name!r} go from one part to another, and {reason}; "
        "cut it elsewhere, or not at all"
    )


class _Values:
    """What parts take and give, as ONNX declares it."""

    def __init__(self, model: OnnxModel, types: Types, limits: Mapping[str, ShapeRange]) -> None:
        graph = model.proto.graph
        self._inputs = {value.name: value for value in graph.input}
        self._outputs = {value.name: value for value in graph.output}
        axes = input_axes(graph)
        taken = {name for spec in (*model.inputs, *model.outputs) for name in spec.axes}
        self._crossing = {name: _value(name, types[name], limits[name], axes, taken) for name in limits}

    def of_input(self, name: str) -> onnx.ValueInfoProto:
        """An input of a part."""
        return self._inputs.get(name) or self._crossing[name]

    def of_output(self, name: str) -> onnx.ValueInfoProto:
        """An output of a part."""
        return self._outputs.get(name) or self._crossing[name]


def _value(name: str, kind: onnx.TypeProto, limits: ShapeRange, axes: Set[str], taken: Set[str]) -> onnx.ValueInfoProto:
    """A tensor that crosses; its open axes have the names of the model's axes where they are these."""
    value = onnx.ValueInfoProto(name=name)
    value.type.tensor_type.elem_type = kind.tensor_type.elem_type
    known = known_dims(kind) or [None] * len(limits.minimum)
    dims: List[Dim] = []
    for axis, (low, high, dim) in enumerate(zip(limits.minimum, limits.maximum, known)):
        if low == high:
            dims.append(low)
        else:
            dims.append(dim if dim in axes else unused(f"{name}_dim{axis}", taken))
    set_shape(value, dims)
    return value


def _empty(model: OnnxModel) -> onnx.ModelProto:
    """The model without its graph's contents: versions, operator sets and functions."""
    proto = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.proto.producer_name)
    proto.opset_import.extend(model.proto.opset_import)
    proto.functions.extend(model.proto.functions)
    proto.graph.name = model.proto.graph.name
    return proto

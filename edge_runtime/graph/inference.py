"""Types and shapes of tensors, as far as they follow from the inputs."""

from __future__ import annotations

from typing import Dict, List, Set

import onnx
import onnx.checker
import onnx.shape_inference

from edge_runtime.errors import ModelError
from edge_runtime.graph.axes import Dim, Dims, input_axes, known_dims, only_named, set_shape, unused
from edge_runtime.graph.check import first_line
from edge_runtime.graph.reshapes import add_probes, reshape_hints
from edge_runtime.graph.topology import constants
from edge_runtime.graph.weights import without_weights

Types = Dict[str, onnx.TypeProto]

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_LONGEST_VECTOR = 1 << 20  # ONNX follows the values of a vector one by one, at over 100 bytes each
_ROUNDS = 20  # of inference; each settles at least the first Reshape that is still open


def tensor_types(proto: onnx.ModelProto, data_prop: bool = False) -> Types:
    """The type of each tensor of the main graph; those that can't be inferred are absent.

    `data_prop` follows the values of shape tensors too.
    """
    bare = _bare(proto)
    data_prop = data_prop and _has_short_vectors(_inferred(bare, data_prop=False))
    probes = add_probes(bare.graph) if data_prop else {}
    types = _inferred(bare, data_prop)
    hints: Dict[str, List[Dim]] = {}
    axes = input_axes(bare.graph)
    for _ in range(_ROUNDS):
        found = reshape_hints(bare.graph, types, probes)
        new = {name: dims for name, dims in found.items() if hints.get(name) != dims}
        if all(_is_settled(types[name], axes) for name in new):
            break
        hints.update(new)
        del bare.graph.value_info[:]
        bare.graph.value_info.extend(proto.graph.value_info)
        for name, dims in hints.items():
            set_shape(bare.graph.value_info.add(name=name, type=types[name]), dims)
        types = _inferred(bare, data_prop)
    return {name: kind for name, kind in types.items() if name not in probes.values()}


def _is_settled(kind: onnx.TypeProto, axes: Set[str]) -> bool:
    """Whether every size of a tensor is known, or an open axis of the inputs."""
    dims = known_dims(kind)
    return dims is not None and all(isinstance(dim, int) or dim in axes for dim in dims)


def _has_short_vectors(types: Types) -> bool:
    vectors = (dims for dims in map(known_dims, types.values()) if dims is not None and len(dims) == 1)
    return all(not isinstance(dims[0], int) or dims[0] <= _LONGEST_VECTOR for dims in vectors)


def _inferred(proto: onnx.ModelProto, data_prop: bool) -> Types:
    try:
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=data_prop).graph
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError):
        graph = proto.graph
    types = {tensor.name: _type_of(tensor) for tensor in graph.initializer}
    types.update((value.name, value.type) for value in (*graph.value_info, *graph.input) if value.HasField("type"))
    types.update((value.name, value.type) for value in graph.output if value.HasField("type"))
    return types


def contradiction(proto: onnx.ModelProto) -> str:
    """What ONNX's strict inference has against the model, "" if nothing."""
    try:
        onnx.shape_inference.infer_shapes(_bare(proto), check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        return first_line(error)
    return ""


def element_name(element: int) -> str:
    """ONNX's name of a data type, for messages."""
    return next((name for name, value in onnx.TensorProto.DataType.items() if value == element), f"type {element}")


def check_convolutions(graph: onnx.GraphProto, types: Types, name: str) -> None:
    """Refuse convolutions of an image by a kernel of another rank, which crash some versions of onnx later on.

    Raises:
        ModelError: naming the node.
    """
    for node in graph.node:
        if node.op_type in _CONVOLUTIONS:
            image, kernel = (known_dims(types.get(tensor)) for tensor in node.input[:2])
            if image is not None and kernel is not None and len(image) != len(kernel):
                raise ModelError(
                    f"{name}: {node.op_type} {node.name or node.output[0]!r} has a weight of rank {len(kernel)} for an "
                    f"input of rank {len(image)}; export the model again"
                )


def refresh_outputs(proto: onnx.ModelProto, name: str, trust_declared: bool = True) -> Types:
    """Write the types and shapes of the graph outputs that follow from its inputs, and return all inferred types.

    Where nothing follows, a declared size stays if `trust_declared`. A size that two sources contradict is open.

    Raises:
        ModelError: an output is declared with another data type than it has.
    """
    graph = proto.graph
    outputs = [_copy(value) for value in graph.output]
    del graph.value_info[:]
    del graph.output[:]  # what an output is declared to be must not decide what it is
    plain, with_data = tensor_types(proto), tensor_types(proto, data_prop=True)
    graph.output.extend(outputs)
    axes = input_axes(graph)
    taken = set(axes)
    for value, declared in zip(graph.output, outputs):
        kind = plain.get(value.name)
        if kind is not None:
            value.type.CopyFrom(kind)
        if not value.type.HasField("tensor_type"):
            continue
        _check_element_type(value, declared.type, name)
        inferred = _merged(known_dims(kind), known_dims(with_data.get(value.name)), axes)
        dims = _merged(inferred, _declared_sizes(declared.type, trust_declared), axes)
        value.type.tensor_type.ClearField("shape")
        if dims is not None:
            set_shape(value, [dim or unused(f"{value.name}_dim{axis}", taken) for axis, dim in enumerate(dims)])
    return plain


def _bare(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the values of its weights, so that inference doesn't copy them."""
    bare = without_weights(proto)
    _state_kernels(bare.graph)
    return bare


def _state_kernels(graph: onnx.GraphProto) -> None:
    """Write kernel shapes into convolutions; without them onnx 1.17 crashes where weight and input differ in rank."""
    shapes = {value.name: known_dims(value.type) for value in graph.input}
    shapes.update((name, list(tensor.dims)) for name, tensor in constants(graph).items())
    for node in graph.node:
        if node.op_type not in _CONVOLUTIONS or len(node.input) < 2:
            continue
        kernel = (shapes.get(node.input[1]) or [None] * 3)[2:]
        is_known = all(isinstance(size, int) for size in kernel)
        if is_known and all(attribute.name != "kernel_shape" for attribute in node.attribute):
            node.attribute.add(name="kernel_shape", type=onnx.AttributeProto.INTS, ints=kernel)


def _type_of(tensor: onnx.TensorProto) -> onnx.TypeProto:
    value = onnx.ValueInfoProto()
    value.type.tensor_type.elem_type = tensor.data_type
    set_shape(value, list(tensor.dims))
    return value.type


def _copy(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    result = onnx.ValueInfoProto()
    result.CopyFrom(value)
    return result


def _check_element_type(value: onnx.ValueInfoProto, declared: onnx.TypeProto, name: str) -> None:
    got, expected = value.type.tensor_type.elem_type, declared.tensor_type.elem_type
    if expected and got and got != expected:
        raise ModelError(
            f"{name}: output {value.name!r} is declared {element_name(expected)}, but its node makes "
            f"{element_name(got)}; export the model again"
        )
    value.type.tensor_type.elem_type = got or expected


def _declared_sizes(kind: onnx.TypeProto, trusted: bool) -> Dims:
    """The declared sizes; a shape without any open dimension tells only the rank if it isn't `trusted`."""
    dims = known_dims(kind)
    if dims is None:
        return None
    sizes: List[Dim] = [dim if isinstance(dim, int) else None for dim in dims]
    return sizes if trusted or None in sizes else [None] * len(sizes)


def _merged(proven: Dims, claimed: Dims, axes: Set[str]) -> Dims:
    """`proven` completed by what `claimed` adds; of the names only those of input `axes` mean anything."""
    if proven is None or claimed is None or len(proven) != len(claimed):
        return only_named(claimed if proven is None else proven, axes)
    return [
        None if isinstance(first, int) and isinstance(second, int) and first != second else first or second
        for first, second in zip(only_named(proven, axes) or [], only_named(claimed, axes) or [])
    ]

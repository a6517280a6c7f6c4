"""A checked ONNX model that no other package needs onnx to handle."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Collection, Dict, FrozenSet, Iterable, Sequence, Tuple, Union

import onnx

from edge_runtime.errors import ModelError, UnsupportedModelError
from edge_runtime.graph.axes import dims_of, fixed_size, name_input_axes
from edge_runtime.graph.check import (
    check_header,
    check_kernels,
    check_names,
    check_operators,
    check_tensors,
    inlined,
    is_plugin,
    opset_of,
    run_checker,
)
from edge_runtime.graph.folding import forget_claims
from edge_runtime.graph.inference import check_convolutions, contradiction, element_name, refresh_outputs
from edge_runtime.graph.source import Files, digest_of, parsed, read_source, source_digest
from edge_runtime.graph.weights import DTYPES, MODEL_FILE, files_of, is_large, serialized
from edge_runtime.tensors import DYNAMIC, DType, TensorSpec

__all__ = ["OnnxModel", "load_model", "model_from_bytes", "source_digest"]

_DTYPES = {**DTYPES, onnx.TensorProto.STRING: DType.BYTES, onnx.TensorProto.BFLOAT16: DType.BF16}


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A sound model: its inputs and outputs are tensors of known rank, and all its weights are inside.

    `name` is where it came from, for messages; `files` are the names (relative to the model's folder) and SHA-256
    of the files that it was read from, and stay the same through every transformation. `proto` is for this package
    only, and never changed: transformations work on a copy.
    """

    proto: onnx.ModelProto = field(repr=False)
    name: str
    files: Files

    @cached_property
    def inputs(self) -> Tuple[TensorSpec, ...]:
        """The inputs that a caller feeds; initializers aren't among them."""
        return tuple(_spec(value) for value in self.proto.graph.input)

    @cached_property
    def outputs(self) -> Tuple[TensorSpec, ...]:
        """The outputs in the model's order."""
        return tuple(_spec(value) for value in self.proto.graph.output)

    @cached_property
    def passed_through(self) -> Tuple[str, ...]:
        """The outputs that are inputs."""
        inputs = {spec.name for spec in self.inputs}
        return tuple(spec.name for spec in self.outputs if spec.name in inputs)

    @cached_property
    def node_names(self) -> FrozenSet[str]:
        """The names of the nodes of the main graph."""
        return frozenset(node.name for node in self.proto.graph.node if node.name)

    @cached_property
    def node_order(self) -> Tuple[str, ...]:
        """The names of the nodes of the main graph in its order, "" for those without one."""
        return tuple(node.name for node in self.proto.graph.node)

    @cached_property
    def plugin_nodes(self) -> FrozenSet[str]:
        """The names of the nodes that plugins implement; they are in no standard."""
        return frozenset(node.name for node in self.proto.graph.node if is_plugin(node))

    @cached_property
    def plugin_operators(self) -> FrozenSet[str]:
        """The operators that plugins implement."""
        return frozenset(node.op_type for node in self.proto.graph.node if is_plugin(node))

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return opset_of(self.proto)

    @property
    def ir_version(self) -> int:
        """The version of the file format."""
        return int(self.proto.ir_version)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 over the files that the model was read from, names included."""
        return digest_of(self.files)

    def serialize(self) -> bytes:
        """The model as one ONNX file.

        Raises:
            UnsupportedModelError: it is over 2 GiB.
        """
        data = serialized(self.proto)
        if data is None:
            raise UnsupportedModelError(f"{self.name}: over 2 GiB with its weights, which one ONNX file can't hold")
        return data

    def to_files(self, file: str = MODEL_FILE) -> Dict[str, Union[bytes, Iterable[bytes]]]:
        """The model as files by name: `model.onnx` and, where that would be over 2 GiB, `model.onnx.data` beside it.

        The second is in chunks, which are made from this model's memory anew each time that they are iterated.

        Raises:
            UnsupportedModelError: it is over 2 GiB without the weights of its main graph.
        """
        return files_of(self.proto, self.name, file)

    def copied_proto(self) -> onnx.ModelProto:
        """A message to change."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return proto

    def with_proto(self, proto: onnx.ModelProto) -> OnnxModel:
        """The model after a transformation."""
        return replace(self, proto=proto)


def load_model(path: Path, plugin_ops: Collection[str] = ()) -> OnnxModel:
    """The checked model of an ONNX file and its external data; `plugin_ops` are operators that plugins implement.

    Raises:
        ModelError: a file is missing, damaged or outside the model's folder, or the graph isn't valid.
        UnsupportedModelError: the model is sound, but has something in it that isn't handled.
    """
    proto, files = read_source(path)
    return _checked(proto, str(path), files, plugin_ops)


def model_from_bytes(data: bytes, name: str) -> OnnxModel:
    """The checked model in `data`, which holds all its weights.

    Raises:
        ModelError: the bytes are damaged, refer to other files, or the graph isn't valid.
        UnsupportedModelError: the model is sound, but has something in it that isn't handled.
    """
    return _checked(parsed(data, name), name, ((name, hashlib.sha256(data).hexdigest()),))


def _checked(proto: onnx.ModelProto, name: str, files: Files, plugin_ops: Collection[str] = ()) -> OnnxModel:
    try:
        return OnnxModel(_sound(proto, name, plugin_ops), name, files)
    except UnicodeDecodeError as error:
        raise ModelError(f"{name}: a name in it isn't UTF-8 text ({error}); the file is damaged") from None


def _sound(proto: onnx.ModelProto, name: str, plugin_ops: Collection[str]) -> onnx.ModelProto:
    check_header(proto, name)
    check_tensors(proto, name)
    proto = inlined(proto, name)
    check_operators(proto, name, plugin_ops)
    check_kernels(proto, name)
    _normalize(proto)
    check_names(proto, name)
    _check_inputs(proto, name)
    _run_checker(proto, name)
    is_static = all(fixed_size(dim) for value in proto.graph.input for dim in dims_of(value))
    name_input_axes(proto.graph.input)
    types = refresh_outputs(proto, name, trust_declared=is_static)
    check_convolutions(proto.graph, types, name)
    try:
        _check_values(proto.graph.output, "output", name)
    except UnsupportedModelError:
        problem = contradiction(proto)
        if problem:
            raise ModelError(f"{name}: {problem}; export the model again") from None
        raise
    return proto


def _run_checker(proto: onnx.ModelProto, name: str) -> None:
    """Check all but the declared outputs, whose types are optional for us and get replaced."""
    outputs = onnx.GraphProto(output=proto.graph.output).output
    del proto.graph.output[:]
    proto.graph.output.extend(proto.graph.input)
    run_checker(proto, name)
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)


def _normalize(proto: onnx.ModelProto) -> None:
    """Make initializers that are inputs too (as files before IR 4 have them) mere constants, and weights initializers.

    Some exporters write weights as Constant nodes, which inference would be handed again and again.
    """
    constant = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in constant]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    proto.ir_version = max(proto.ir_version, 4)
    proto.graph.name = proto.graph.name or "graph"
    del proto.training_info[:]
    forget_claims(proto.graph)
    _lift_weights(proto.graph)


def _lift_weights(graph: onnx.GraphProto) -> None:
    given_out = {value.name for value in graph.output}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.op_type != "Constant" or len(node.attribute) != 1 or node.attribute[0].name != "value":
            continue
        if is_large(node.attribute[0].t) and node.output[0] not in given_out:
            graph.initializer.add().CopyFrom(node.attribute[0].t)
            graph.initializer[-1].name = node.output[0]
            del graph.node[index]


def _check_inputs(proto: onnx.ModelProto, name: str) -> None:
    if not proto.graph.output:
        raise ModelError(f"{name}: the graph has no outputs; export the model again")
    if not proto.graph.input:
        raise UnsupportedModelError(f"{name}: the graph has no inputs, so there is nothing to infer from")
    _check_values(proto.graph.input, "input", name)


def _check_values(values: Sequence[onnx.ValueInfoProto], role: str, name: str) -> None:
    for value in values:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            found = (kind or "unknown").replace("_type", "")
            raise UnsupportedModelError(f"{name}: {role} {value.name!r} is of type {found}; expected a tensor")
        element = value.type.tensor_type.elem_type
        if element not in _DTYPES:
            expected = ", ".join(dtype.value for dtype in DType)
            raise UnsupportedModelError(
                f"{name}: {role} {value.name!r} holds {element_name(element)}; expected one of {expected}"
            )
        if not value.type.tensor_type.HasField("shape"):
            raise UnsupportedModelError(f"{name}: {role} {value.name!r} has no shape; export the model with its rank")


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    dims = dims_of(value)
    return TensorSpec(
        name=value.name,
        dtype=_DTYPES[value.type.tensor_type.elem_type],
        shape=tuple(fixed_size(dim) or DYNAMIC for dim in dims),
        axes=tuple("" if fixed_size(dim) else dim.dim_param for dim in dims),
    )

"""Weights apart from the graph: copies of a model without them, and the second file that holds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Tuple, Union

import onnx
import onnx.numpy_helper

from edge_runtime.errors import ModelError, UnsupportedModelError
from edge_runtime.graph.source import (
    LIMIT_NBYTES,
    all_tensors,
    has_external_data,
    location_of,
    parsed,
    refer,
    slice_of,
    tensor_nbytes,
)
from edge_runtime.tensors import DType, Shape, element_count

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
_WEIGHTS_FILES = re.compile(r"model(\.[1-9][0-9]*)?\.onnx\.data")

DTYPES: Dict[int, DType] = {  # of numbers that NumPy has too, which weights and what is computed ahead can be
    onnx.TensorProto.BOOL: DType.BOOL,
    onnx.TensorProto.UINT8: DType.UINT8,
    onnx.TensorProto.UINT16: DType.UINT16,
    onnx.TensorProto.UINT32: DType.UINT32,
    onnx.TensorProto.UINT64: DType.UINT64,
    onnx.TensorProto.INT8: DType.INT8,
    onnx.TensorProto.INT16: DType.INT16,
    onnx.TensorProto.INT32: DType.INT32,
    onnx.TensorProto.INT64: DType.INT64,
    onnx.TensorProto.FLOAT16: DType.FP16,
    onnx.TensorProto.FLOAT: DType.FP32,
    onnx.TensorProto.DOUBLE: DType.FP64,
}

_LARGE = 1024  # elements; nothing computes a shape from a larger tensor
_PAGE_NBYTES = 4096  # a reader may map each tensor


def is_large(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is a weight, not the shape or the scale of something."""
    return element_count(tensor.dims) > _LARGE


def without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large initializers have a name, a type and a shape, but no values; the order is kept.

    The libraries' functions serialize what they are given, which more than 2 GiB can't be.
    """
    bare = onnx.ModelProto()
    _copy_all_but("graph", proto, bare)
    _copy_all_but("initializer", proto.graph, bare.graph)
    for tensor in proto.graph.initializer:
        if is_large(tensor):
            bare.graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        else:
            bare.graph.initializer.append(tensor)
    return bare


def restore_weights(bare: onnx.ModelProto, proto: onnx.ModelProto) -> None:
    """Give the large initializers of `bare` the values that they have in `proto`."""
    weights = {tensor.name: tensor for tensor in proto.graph.initializer if is_large(tensor)}
    for tensor in bare.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(weights[tensor.name])


def serialized(proto: onnx.ModelProto) -> bytes | None:
    """A model as one message, None if it is over 2 GiB."""
    inside = (tensor for tensor in proto.graph.initializer if not has_external_data(tensor))
    if sum(tensor_nbytes(tensor) or 0 for tensor in inside) > LIMIT_NBYTES:
        return None
    data = proto.SerializeToString()
    return data if len(data) <= LIMIT_NBYTES else None


def files_of(proto: onnx.ModelProto, name: str, file: str = MODEL_FILE) -> Dict[str, Union[bytes, Iterable[bytes]]]:
    """A model as a `file`, or if that is over 2 GiB as a small one and the chunks of a second file, `.data` after it.

    Raises:
        UnsupportedModelError: it is over 2 GiB without the weights that can lie apart.
    """
    data = serialized(proto)
    if data is not None:
        return {file: data}
    small = without_weights(proto)
    chunks = WeightChunks()
    for tensor, original in zip(small.graph.initializer, proto.graph.initializer):
        if is_large(original) and original.data_type in DTYPES:
            refer(tensor, f"{file}.data", chunks.append(original), _nbytes(original))
        elif is_large(original):
            tensor.CopyFrom(original)
    data = serialized(small)
    if data is None:
        raise UnsupportedModelError(f"{name}: over 2 GiB besides its weights, which one ONNX file can't hold")
    return {file: data, f"{file}.data": chunks}


class WeightChunks:
    """The content of a file of weights, made anew from a model's tensors each time that it is iterated."""

    def __init__(self) -> None:
        self._places: List[Tuple[int, onnx.TensorProto]] = []
        self._end = 0

    def append(self, tensor: onnx.TensorProto) -> int:
        """Put a tensor on the next free page, and return its offset."""
        offset = -(-self._end // _PAGE_NBYTES) * _PAGE_NBYTES
        self._places.append((offset, tensor))
        self._end = offset + _nbytes(tensor)
        return offset

    def __iter__(self) -> Iterator[bytes]:
        position = 0
        for offset, tensor in self._places:
            yield bytes(offset - position)
            yield tensor.raw_data if tensor.HasField("raw_data") else onnx.numpy_helper.to_array(tensor).tobytes()
            position = offset + _nbytes(tensor)


@dataclass(frozen=True)
class Weight:
    """Where in the file of weights a tensor lies."""

    name: str
    dtype: DType
    shape: Shape
    offset: int
    nbytes: int


def weights_apart(data: bytes, name: str) -> Tuple[Weight, ...]:
    """The tensors of the model in `data` whose values lie in its file of weights.

    Raises:
        ModelError: it isn't a model, or refers to its weights in another way than `files_of` writes.
    """
    proto = parsed(data, name)
    tensors = [tensor for tensor in proto.graph.initializer if has_external_data(tensor)]
    if len(tensors) < sum(map(has_external_data, all_tensors(proto))):
        raise ModelError(f"{name}: tensors besides the weights of its main graph lie in another file; build it again")
    return tuple(_weight(tensor, name) for tensor in tensors)


def _weight(tensor: onnx.TensorProto, name: str) -> Weight:
    location = location_of(tensor, name)
    offset, nbytes = slice_of(tensor, name)
    if not _WEIGHTS_FILES.fullmatch(location) or tensor.data_type not in DTYPES or offset % _PAGE_NBYTES:
        raise ModelError(
            f"{name}: tensor {tensor.name!r} of data type {tensor.data_type} lies in {location!r} at byte {offset}; "
            f"expected a page of {WEIGHTS_FILE!r}; build it again"
        )
    return Weight(tensor.name, DTYPES[tensor.data_type], tuple(tensor.dims), offset, nbytes)


def _nbytes(tensor: onnx.TensorProto) -> int:
    return tensor_nbytes(tensor) or 0


def _copy_all_but(skipped: str, source: Any, target: Any) -> None:
    """Copy the fields of a message, but for one and for text that isn't UTF-8."""
    for field, value in source.ListFields():
        if field.name == skipped or isinstance(value, bytes):
            continue
        if isinstance(value, (str, int)):
            setattr(target, field.name, value)
        else:
            getattr(target, field.name).MergeFrom(value)

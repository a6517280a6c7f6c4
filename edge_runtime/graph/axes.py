"""Names of dynamic dimensions that can be trusted: equal names mean equal sizes."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

import onnx

BATCH = "batch"

_PLACEHOLDERS = frozenset({"", "?", "*", "-1", "-", "None", "none", "null", "unknown", "unk", "dynamic", "any"})

Axis = Tuple[str, int]
Dim = Union[int, str, None]  # size, name, or open
Dims = Optional[List[Dim]]


def dims_of(value: onnx.ValueInfoProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    """The dimensions of a tensor's declared shape."""
    return value.type.tensor_type.shape.dim  # type: ignore[no-any-return]


def fixed_size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """The size of a dimension, or None where the model leaves it open (a size below 1 does too)."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None


def axis_name(dim: onnx.TensorShapeProto.Dimension) -> str:
    """The name that a model gives an open dimension, "" for none or for a mere placeholder."""
    name = dim.dim_param
    return name if isinstance(name, str) and name not in _PLACEHOLDERS else ""


def known_dims(kind: onnx.TypeProto | None) -> Dims:
    """Sizes and axis names of a tensor type, None for each open dimension; None alone if not even the rank is known."""
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return [fixed_size(dim) or axis_name(dim) or None for dim in kind.tensor_type.shape.dim]


def input_axes(graph: onnx.GraphProto) -> Set[str]:
    """The names of the open dimensions of the inputs: the only names that inference doesn't make up."""
    return {axis_name(dim) for value in graph.input for dim in dims_of(value)} - {""}


def only_named(dims: Sequence[Dim] | None, axes: Set[str]) -> Dims:
    """The dimensions without names that aren't in `axes`."""
    return None if dims is None else [dim if isinstance(dim, int) or dim in axes else None for dim in dims]


def name_input_axes(inputs: Sequence[onnx.ValueInfoProto]) -> None:
    """Give every open dimension of the inputs a name, shared only where equal sizes are meant.

    A name stays shared by the same axis of several inputs. On unlike axes it says nothing (exporters write `?`
    for height and for width), so each axis gets its own. Axis 0 is `batch` where all inputs leave it open and
    none contradicts.
    """
    declared: Dict[Axis, str] = {
        (value.name, index): axis_name(dim)
        for value in inputs
        for index, dim in enumerate(dims_of(value))
        if fixed_size(dim) is None
    }
    names = _trusted_names(declared, _has_batch(inputs, declared))
    for value in inputs:
        for index, dim in enumerate(dims_of(value)):
            if (value.name, index) in names:
                dim.dim_param = names[value.name, index]


def _has_batch(inputs: Sequence[onnx.ValueInfoProto], declared: Mapping[Axis, str]) -> bool:
    first = [declared.get((value.name, 0)) for value in inputs]
    return None not in first and len(set(filter(None, first))) <= 1


def _trusted_names(declared: Mapping[Axis, str], has_batch: bool) -> Dict[Axis, str]:
    names: Dict[Axis, str] = {}
    owners: Dict[str, int] = {BATCH: 0} if has_batch else {}
    for axis, name in declared.items():
        index = axis[1]
        if has_batch and index == 0:
            names[axis] = BATCH
        elif name and owners.setdefault(name, index) == index:
            names[axis] = name
    taken = set(declared.values()) | set(names.values())
    for axis in declared:
        if axis not in names:
            names[axis] = unused(f"{axis[0]}_dim{axis[1]}", taken)
    return names


def unused(wish: str, taken: Set[str]) -> str:
    """`wish`, lengthened until it is not in `taken`, to which it is added."""
    while wish in taken:
        wish += "_"
    taken.add(wish)
    return wish


def set_shape(value: onnx.ValueInfoProto, dims: Sequence[Dim]) -> None:
    """Write a shape of sizes, axis names and (None) open dimensions."""
    shape = value.type.tensor_type.shape
    shape.SetInParent()
    del shape.dim[:]
    for dim in dims:
        added = shape.dim.add()
        if isinstance(dim, str):
            added.dim_param = dim
        elif dim is not None:
            added.dim_value = dim

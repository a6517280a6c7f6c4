"""Inputs that always get the same value, made part of the model."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np
import numpy.typing as npt
import onnx.numpy_helper

from edge_runtime.errors import ConfigError, nearest
from edge_runtime.graph.inference import refresh_outputs
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.source import LARGEST_TENSOR_NBYTES
from edge_runtime.tensors import DYNAMIC, DType, TensorSpec, element_count

Array = npt.NDArray[Any]


def with_values(model: OnnxModel, values: Mapping[str, npt.ArrayLike]) -> OnnxModel:
    """The model without these inputs, each of which is a constant of the given value.

    One number fills an input of fixed shape; else the shape of a value must fit the input's, and open axes take its
    sizes. A value must be exact in the input's data type, but Python floats (which come from decimal text) are rounded.
    Axes of other inputs stay open, even if they have the name of one that a value settles.

    Raises:
        ConfigError: a name is no input, no input is left, or a value doesn't fit its input.
    """
    if not values:
        return model
    specs = {spec.name: spec for spec in model.inputs}
    for name in values:
        if name not in specs:
            raise ConfigError(f"{model.name}: a value is given for {name!r}, which is no input: {nearest(name, specs)}")
    if len(values) == len(specs):
        raise ConfigError(
            f"{model.name}: all its inputs have fixed values ({', '.join(specs)}); leave one to infer from"
        )
    proto = model.copied_proto()
    kept = [value for value in proto.graph.input if value.name not in values]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    for name, value in values.items():
        array = _fitted(value, specs[name], f"{model.name}: the value of input {name!r}")
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    refresh_outputs(proto, model.name)
    return model.with_proto(proto)


def _fitted(value: npt.ArrayLike, spec: TensorSpec, what: str) -> Array:
    """A value as the constant that stands for an input."""
    if spec.dtype in (DType.BYTES, DType.BF16):
        raise ConfigError(f"{what} would be {_text(spec)}, of which no value can be fixed; feed it")
    try:
        given = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{what} is no array ({error}); expected {_text(spec)}") from None
    array = _converted(given, spec, what, is_decimal=not isinstance(value, (np.ndarray, np.generic)))
    if not array.ndim and DYNAMIC not in spec.shape:
        if element_count(spec.shape) * spec.dtype.itemsize > LARGEST_TENSOR_NBYTES:
            raise ConfigError(f"{what} would fill {_text(spec)}, over 2 GiB; give the input a smaller shape")
        return np.full(spec.shape, array)
    fits = len(spec.shape) == array.ndim and all(size in (DYNAMIC, got) for size, got in zip(spec.shape, array.shape))
    if not fits:
        raise ConfigError(f"{what} has shape {list(array.shape)}; expected {_text(spec)}")
    return array


def _converted(given: Array, spec: TensorSpec, what: str, is_decimal: bool) -> Array:
    """An array in the data type of an input, if that changes nothing (but for the rounding of decimal numbers)."""
    if given.dtype.kind not in "biuf":
        raise ConfigError(f"{what} is of type {given.dtype}; expected {_text(spec)}")
    with np.errstate(all="ignore"):
        array = given.astype(spec.dtype.numpy)
        same = (array == given) & (array.astype(given.dtype) == given)  # the second alone would let wrapped integers in
    if is_decimal and given.dtype.kind == "f" and spec.dtype.is_float:
        same = np.isinf(array) == np.isinf(given)
    same |= np.isnan(array) & np.isnan(given)
    if not same.all():
        odd = given[~same].ravel()[0]
        raise ConfigError(f"{what} is {odd} ({given.dtype}), which {spec.dtype.value} can't hold exactly; give another")
    return array


def _text(spec: TensorSpec) -> str:
    sizes = ", ".join("?" if size == DYNAMIC else str(size) for size in spec.shape)
    return f"{spec.dtype.value} [{sizes}]"

"""What a tensor is called, holds and measures: data types, specs and shape ranges."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any, Mapping, Sequence, Tuple

import numpy as np

from edge_runtime.errors import ConfigError, InvalidRequestError

Shape = Tuple[int, ...]
Feeds = Mapping[str, "np.ndarray[Any, Any]"]

DYNAMIC = -1


class DType(enum.Enum):
    """A data type, by its Open Inference Protocol name (the value).

    NumPy has no type for two of them: elements of BYTES are `bytes` in an array of objects, those of BF16 are bit
    patterns in a record of one field, which no other data type equals.
    """

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"
    BF16 = "BF16"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy data type, little-endian (native on every supported machine)."""
        return _NUMPY[self]

    @property
    def itemsize(self) -> int:
        """Bytes an element; of BYTES the fewest that one takes in a message, the length before its own bytes."""
        return _LENGTH_NBYTES if self is DType.BYTES else _NUMPY[self].itemsize

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers."""
        return self in (DType.FP16, DType.FP32, DType.FP64, DType.BF16)

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DType:
        """The member for a NumPy data type.

        Raises:
            InvalidRequestError: no tensor can hold that type.
        """
        for member, candidate in _NUMPY.items():
            if candidate == dtype:
                return member
        raise InvalidRequestError(f"data type {dtype} has no tensor type; expected one of {', '.join(_NAMES)}")


_NUMPY = {
    DType.BOOL: np.dtype(np.bool_),
    DType.UINT8: np.dtype(np.uint8),
    DType.UINT16: np.dtype(np.uint16),
    DType.UINT32: np.dtype(np.uint32),
    DType.UINT64: np.dtype(np.uint64),
    DType.INT8: np.dtype(np.int8),
    DType.INT16: np.dtype(np.int16),
    DType.INT32: np.dtype(np.int32),
    DType.INT64: np.dtype(np.int64),
    DType.FP16: np.dtype(np.float16),
    DType.FP32: np.dtype(np.float32),
    DType.FP64: np.dtype(np.float64),
    DType.BYTES: np.dtype(np.object_),
    DType.BF16: np.dtype([("bfloat16", np.uint16)]),
}
_NAMES = tuple(member.value for member in DType)
_LENGTH_NBYTES = 4
_BFLOAT16_ONE = 0x3F80


def bfloat16_from_float32(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Floats as BF16, rounded to the nearest, of two as near to the even one; what is too large becomes infinite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    halves = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    is_nan = np.isnan(bits.view(np.float32))
    halves[is_nan] = (bits[is_nan] >> 16 | 0x40).astype(np.uint16)
    return halves.view(DType.BF16.numpy).reshape(np.shape(values))


def float32_from_bfloat16(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """BF16 as floats, exactly."""
    bits = np.ascontiguousarray(values).view(np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32).reshape(values.shape)


def fill(memory: np.ndarray[Any, Any], number: int) -> None:
    """Fills memory with 0 or 1, as its data type has them: the string of no bytes is 0, "1" is 1."""
    if memory.dtype == DType.BYTES.numpy:
        memory.fill(b"1" if number else b"")
    elif memory.dtype == DType.BF16.numpy:
        memory.fill(np.array(_BFLOAT16_ONE if number else 0, np.uint16).view(memory.dtype))
    else:
        memory.fill(number)


def filled(shape: Shape, dtype: DType, number: int) -> np.ndarray[Any, Any]:
    """An array of 0 or 1, as `fill` writes them."""
    array = np.empty(shape, dtype.numpy)
    fill(array, number)
    return array


@dataclass(frozen=True)
class TensorSpec:
    """Name, data type and shape of an input or output; -1 is a dynamic dimension.

    `axes` names the dynamic dimensions ("" for fixed ones): equal names mean equal sizes.
    """

    name: str
    dtype: DType
    shape: Shape
    axes: Tuple[str, ...] = ()

    @property
    def is_dynamic(self) -> bool:
        """Whether any dimension is dynamic."""
        return DYNAMIC in self.shape


@dataclass(frozen=True)
class ShapeRange:
    """Smallest, most usual and largest shape of an input: one optimization profile's row."""

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def __post_init__(self) -> None:
        ranks = {len(self.minimum), len(self.optimum), len(self.maximum)}
        if len(ranks) != 1:
            raise ConfigError(f"min, opt and max shapes {self} have different ranks; give all three the same")
        for low, usual, high in zip(self.minimum, self.optimum, self.maximum):
            if not 1 <= low <= usual <= high:
                raise ConfigError(
                    f"shape range {self}: expected 1 <= min <= opt <= max in every dimension, "
                    f"got {low}, {usual}, {high}"
                )

    @classmethod
    def fixed(cls, shape: Sequence[int]) -> ShapeRange:
        """The range of just one shape."""
        exact = tuple(shape)
        return cls(exact, exact, exact)

    @property
    def spec_shape(self) -> Shape:
        """The shape with -1 wherever the range leaves a choice."""
        return tuple(low if low == high else DYNAMIC for low, high in zip(self.minimum, self.maximum))

    def contains(self, shape: Sequence[int]) -> bool:
        """Whether a concrete shape lies inside, dimension by dimension."""
        return len(shape) == len(self.minimum) and all(
            low <= size <= high for low, size, high in zip(self.minimum, shape, self.maximum)
        )

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return _shape_text(self.minimum)
        return "..".join(_shape_text(shape) for shape in (self.minimum, self.optimum, self.maximum))


def _shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def element_count(shape: Sequence[int]) -> int:
    """Number of elements of a concrete shape (1 for a scalar)."""
    return math.prod(shape)


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives, and the shapes that it was built for (`profile`, by input name)."""

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    profile: Mapping[str, ShapeRange]

    @property
    def max_batch_size(self) -> int:
        """The largest batch if axis 0 is dynamic on every input and output, else 0 (Triton's meaning)."""
        specs = (*self.inputs, *self.outputs)
        if not specs or any(not spec.shape or spec.shape[0] != DYNAMIC for spec in specs):
            return 0
        return min(self.profile[spec.name].maximum[0] for spec in self.inputs)

    def input(self, name: str) -> TensorSpec:
        """The spec of an input.

        Raises:
            InvalidRequestError: there is none of that name.
        """
        return _named(self.inputs, name, "input")

    def output(self, name: str) -> TensorSpec:
        """The spec of an output.

        Raises:
            InvalidRequestError: there is none of that name.
        """
        return _named(self.outputs, name, "output")

    def check_input(self, name: str, dtype: DType, shape: Sequence[int]) -> TensorSpec:
        """The spec of an input that a tensor of this type and shape fits; nothing is multiplied or allocated.

        Raises:
            InvalidRequestError: no such input, another data type, or a shape outside the profile.
        """
        spec = self.input(name)
        if dtype is not spec.dtype:
            raise InvalidRequestError(f"input {name!r}: expected data type {spec.dtype.value}, got {dtype.value}")
        limits = self.profile[name]
        if limits.contains(shape):
            return spec
        if self.max_batch_size and len(shape) == len(spec.shape) and shape[0] > self.max_batch_size:
            raise InvalidRequestError(
                f"input {name!r}: batch {shape[0]} is over max_batch_size {self.max_batch_size}; send smaller batches"
            )
        raise InvalidRequestError(f"input {name!r}: expected shape {limits}, got {list(shape)}")

    def check_shapes(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Raises unless every input is there and axes of one name have one size.

        Each shape must have passed `check_input`.

        Raises:
            InvalidRequestError: an input is missing, or two inputs disagree on a shared axis.
        """
        missing = [spec.name for spec in self.inputs if spec.name not in shapes]
        if missing:
            raise InvalidRequestError(f"input {missing[0]!r} is missing; send all of: {_names_of(self.inputs)}")
        sizes: dict[str, tuple[int, str]] = {}
        for spec in self.inputs:
            for axis, size in zip(spec.axes, shapes[spec.name]):
                first, owner = sizes.setdefault(axis, (size, spec.name)) if axis else (size, spec.name)
                if size != first:
                    raise InvalidRequestError(
                        f"input {spec.name!r}: axis {axis!r} is {size}, but {first} on input {owner!r}; make them equal"
                    )


def _named(specs: Sequence[TensorSpec], name: str, what: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise InvalidRequestError(f"unknown {what} {str(name)[:128]!r}; valid: {_names_of(specs)}")


def _names_of(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(spec.name for spec in specs)

"""Whether arrays that users give fit a model's inputs: names, data types, shapes and values."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Sequence

import numpy as np

from edge_runtime.calibration.sample import Array, Sample
from edge_runtime.errors import DataError, nearest
from edge_runtime.tensors import DYNAMIC, TensorSpec

LABEL = "label"
EXPECTED = "expected/"


def check_names(names: Iterable[str], inputs: Sequence[TensorSpec], where: str) -> None:
    """Refuse an input without an array.

    Raises:
        DataError: `where`, the input, and the array whose name is nearest.
    """
    given = set(names)
    for spec in inputs:
        if spec.name not in given:
            raise DataError(f"{where}: no array for the model's input {spec.name!r}; {nearest(spec.name, given)}")


def is_target(name: str) -> bool:
    """Whether an array that isn't a model's input says what should come out."""
    return name == LABEL or (name.startswith(EXPECTED) and name != EXPECTED)


def unknown_name(name: str, inputs: Sequence[TensorSpec], where: str) -> DataError:
    """The error about an array that is neither an input nor a target."""
    valid = [spec.name for spec in inputs]
    return DataError(
        f"{where}: array {name!r} is no input of the model, nor '{LABEL}' or '{EXPECTED}<output name>'; "
        f"{nearest(name, [*valid, LABEL])}"
    )


def check_dtype(got: np.dtype[Any], spec: TensorSpec, where: str) -> None:
    """Refuse a data type that can't become the input's without loss.

    The input's own type passes; so do integers and floats that it can hold exactly (int32 for int64, float16 for
    float32), and float64 for float32, which is what NumPy makes unless told otherwise: it is rounded.

    Raises:
        DataError: any other type.
    """
    want = spec.dtype.numpy
    widens = np.can_cast(got, want, "safe") and (got.kind == want.kind or (got.kind in "iu" and want.kind in "iu"))
    if not widens and not (got == np.float64 and want == np.float32):
        raise DataError(f"{where} has type {got}, expected {want}; convert it with .astype({want.name!r})")


def check_shape(got: Sequence[int], spec: TensorSpec, where: str) -> None:
    """Refuse a shape of another rank, with another fixed dimension, or without elements.

    Raises:
        DataError: with the shape that was expected.
    """
    fits = len(got) == len(spec.shape) and all(
        size == fixed or (fixed == DYNAMIC and size > 0) for size, fixed in zip(got, spec.shape)
    )
    if not fits:
        raise DataError(f"{where} has shape {shape_text(got)}, expected {shape_text(spec.shape)}")


def check_finite(array: Array, where: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        DataError: with the index of the first such value.
    """
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    index = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
    raise DataError(f"{where} is {array[index]} at index {list(index)}; expected finite numbers")


def as_input(array: Array, spec: TensorSpec, where: str) -> Array:
    """`array` in the input's data type, C-contiguous and finite; its type was checked before."""
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, dtype=spec.dtype.numpy).reshape(array.shape)
    check_finite(converted, where)
    return converted


def check_target_dtype(name: str, got: np.dtype[Any], where: str) -> None:
    """Refuse a label that isn't of integers, and an expected output that isn't of numbers.

    Raises:
        DataError: with the type that was found.
    """
    if name == LABEL and got.kind not in "iu":
        raise DataError(f"{where} has type {got}, expected class ids (integers)")
    if got.kind not in "fiub":
        raise DataError(f"{where} has type {got}, expected numbers")


def make_sample(
    feeds: Dict[str, Array], targets: Mapping[str, Array], inputs: Sequence[TensorSpec], where: str
) -> Sample:
    """A sample of checked `feeds` for `inputs`, and of what `label` and `expected/<output name>` say about them.

    Raises:
        DataError: a target of another name, of a wrong type, or with NaN or infinity in it.
    """
    label: Array | None = None
    expected: Dict[str, Array] = {}
    for name, array in targets.items():
        if not is_target(name):
            raise unknown_name(name, (), where)
        what = f"{where}: array {name!r}"
        check_target_dtype(name, array.dtype, what)
        check_finite(array, what)
        if name == LABEL:
            label = np.atleast_1d(array)
        else:
            expected[name[len(EXPECTED) :]] = array
    return Sample(feeds, label, expected or None, has_batch_axis(inputs))


def has_batch_axis(inputs: Iterable[TensorSpec]) -> bool:
    """Whether axis 0 is dynamic in every input."""
    return all(spec.shape[:1] == (DYNAMIC,) for spec in inputs)


def shape_text(shape: Iterable[int]) -> str:
    """A shape as `[?, 3, 48, 192]`, dynamic dimensions as question marks."""
    return "[" + ", ".join("?" if size == DYNAMIC else str(int(size)) for size in shape) + "]"

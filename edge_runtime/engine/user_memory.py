"""What slots over their user's memory have in common: someone else may write into it during a run."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType, Shape

Array = npt.NDArray[Any]

_SMALL_NBYTES = 4096
_PLAIN_VALUES = (DType.FP16, DType.BF16, DType.FP32, DType.FP64, DType.UINT8, DType.INT8)


def is_read_in_place(dtype: DType, nbytes: int) -> bool:
    """Whether an input may change during a run: it is large, and holds plain values, no indices or sizes."""
    return dtype in _PLAIN_VALUES and nbytes >= _SMALL_NBYTES


def is_written_in_place(dtype: DType) -> bool:
    """Whether an output may change during a run, for layers after the one that writes it may read it."""
    return dtype in _PLAIN_VALUES


def snapshot(private: Array, given: Array) -> None:
    """Copies an input to where it doesn't change any more, and makes booleans of whatever bytes were given for them."""
    if private.dtype == np.bool_:
        np.not_equal(given.view(np.uint8), 0, out=private)
    else:
        np.copyto(private, given)


def input_memory(memory: Mapping[str, Array], name: str, shape: Shape) -> Array:
    """The memory of an input, which has just the one shape.

    Raises:
        InvalidRequestError: it is another one.
    """
    if memory[name].shape != shape:
        raise InvalidRequestError(f"input {name!r}: expected shape {list(memory[name].shape)}, got {list(shape)}")
    return memory[name]


def unfit_output(name: str, found: Shape, expected: Shape) -> InvalidRequestError:
    """What is wrong if a run makes an output of another shape than its user has memory for."""
    return InvalidRequestError(
        f"output {name!r} has shape {list(found)} for these inputs, not {list(expected)}: shapes that depend on the "
        "data don't fit shared memory; send the request over HTTP or gRPC"
    )

"""An inference request, checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType, Feeds, Shape


@dataclass(frozen=True)
class InputTensor:
    """An input as the wire has it: little-endian and contiguous. `data` shares the user's array where it can."""

    name: str
    dtype: DType
    shape: Shape
    data: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class InferRequest:
    """What to run (version "": the server's choice), on what, and which outputs to send back (none: all)."""

    model: str
    version: str
    request_id: str
    inputs: Tuple[InputTensor, ...]
    outputs: Tuple[str, ...]


def infer_request(
    model: str, feeds: Feeds, outputs: Sequence[str] | None, version: str | None, request_id: str | None
) -> InferRequest:
    """The request for these arguments of `Client.infer`.

    Raises:
        InvalidRequestError: an input that isn't a NumPy array, or is of a data type that no tensor has.
    """
    return InferRequest(
        model=checked_text("model", model),
        version=checked_text("version", version or ""),
        request_id=checked_text("request_id", request_id or ""),
        inputs=tuple(_input(name, value) for name, value in feeds.items()),
        outputs=tuple(checked_text("output", name) for name in outputs or ()),
    )


def checked_text(what: str, value: object) -> str:
    """`value`, if it is a string that can be sent.

    Raises:
        InvalidRequestError: it isn't.
    """
    if not isinstance(value, str):
        raise InvalidRequestError(f"{what}: expected a string, got {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{what} {value!r}: can't be sent as UTF-8") from None
    return value


def _input(name: str, value: Any) -> InputTensor:
    if not isinstance(value, np.ndarray):
        raise InvalidRequestError(f"input {name!r}: expected a NumPy array, got {type(value).__name__}")
    native = value.astype(value.dtype.newbyteorder("="), copy=False) if value.dtype.kind in "iuf" else value
    try:
        dtype = DType.from_numpy(native.dtype)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"input {name!r}: {error}") from None
    data = np.ascontiguousarray(native, dtype.numpy).reshape(-1).view(np.uint8)
    return InputTensor(checked_text("input", name), dtype, value.shape, data)

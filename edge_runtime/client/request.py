"""An inference request, checked before anything is sent."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, TypedDict

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType, Feeds, Shape
from edge_runtime.wire.elements import on_the_wire, strings_array
from edge_runtime.wire.lane import MAX_FRAMES, MAX_PRIORITY, LaneOpen

MAX_DEADLINE_MS = 86_400_000
_NATIVE: Dict[np.dtype[Any], DType] = {member.numpy: member for member in DType if member is not DType.BYTES}
_STRINGS = "OSU"  # NumPy's kinds of arrays that may hold them


@dataclass(frozen=True)
class InputTensor:
    """An input as the wire has it: little-endian and contiguous. `data` shares the user's array where it can."""

    name: str
    dtype: DType
    shape: Shape
    data: npt.NDArray[np.uint8]


class HurryOptions(TypedDict, total=False):
    """How a call says what `Hurry` holds."""

    deadline_ms: Optional[float]
    priority: int


@dataclass(frozen=True)
class Hurry:
    """When an answer must be there, from the call on (None: no hurry), and its priority: 1 comes first, 0 last.

    Raises:
        InvalidRequestError: no such time or priority.
    """

    deadline_ms: float | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        deadline, priority = self.deadline_ms, self.priority
        is_number = isinstance(deadline, (int, float)) and not isinstance(deadline, bool)
        if deadline is not None and not (is_number and 0 < deadline <= MAX_DEADLINE_MS):
            raise InvalidRequestError(
                f"deadline_ms: expected more than 0 and at most {MAX_DEADLINE_MS}, got {deadline!r}"
            )
        if type(priority) is not int or not 0 <= priority <= MAX_PRIORITY:
            raise InvalidRequestError(f"priority: expected 0 to {MAX_PRIORITY}, got {priority!r}")

    def after(self, elapsed_s: float) -> Hurry:
        """What is left of it some time later, but 1 µs at least."""
        if self.deadline_ms is None:
            return self
        return Hurry(max(self.deadline_ms - elapsed_s * 1e3, 1e-3), self.priority)

    def parameters(self) -> Dict[str, float]:
        """What a request says of it: `deadline_ms` and `priority`, as whole numbers where they are."""
        said: Dict[str, float] = {}
        if self.deadline_ms is not None:
            is_whole = self.deadline_ms == int(self.deadline_ms)
            said["deadline_ms"] = int(self.deadline_ms) if is_whole else float(self.deadline_ms)
        if self.priority:
            said["priority"] = self.priority
        return said


NO_HURRY = Hurry()


@dataclass(frozen=True)
class InferRequest:
    """What to run (version "": the server's choice), on what, and which outputs to send back (none: all)."""

    model: str
    version: str
    request_id: str
    inputs: Tuple[InputTensor, ...]
    outputs: Tuple[str, ...]
    hurry: Hurry = NO_HURRY


def infer_request(
    model: str,
    feeds: Feeds,
    outputs: Sequence[str] | None = None,
    version: str | None = None,
    request_id: str | None = None,
    hurry: Hurry = NO_HURRY,
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
        hurry=hurry,
    )


def lane_open(
    model: str, shapes: Mapping[str, Shape], count: int, outputs: Sequence[str] | None, version: str | None
) -> LaneOpen:
    """What to ask shared memory for, with these arguments of `Client.frames`.

    Raises:
        InvalidRequestError: names, sizes or a number of frames that can't be sent.
    """
    if type(count) is not int or not 1 <= count <= MAX_FRAMES:
        raise InvalidRequestError(f"count: expected 1 to {MAX_FRAMES} frames, got {count!r}")
    try:
        fixed = {checked_text("input", name): tuple(map(operator.index, shape)) for name, shape in shapes.items()}
    except TypeError:
        raise InvalidRequestError(f"shapes: expected whole numbers by input name, got {str(shapes)[:200]}") from None
    return LaneOpen(
        checked_text("model", model),
        checked_text("version", version or ""),
        fixed,
        tuple(checked_text("output", name) for name in outputs or ()),
        count,
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
    native, dtype = value, _NATIVE.get(value.dtype)
    if dtype is None and value.dtype.kind in _STRINGS:
        return InputTensor(checked_text("input", name), DType.BYTES, value.shape, on_the_wire(_strings(name, value)))
    if dtype is None and value.dtype.name == "bfloat16":  # of the package ml_dtypes, whose bits are ours
        native, dtype = value.view(DType.BF16.numpy), DType.BF16
    if dtype is None:
        native = value.astype(value.dtype.newbyteorder("="), copy=False) if value.dtype.kind in "iuf" else value
        try:
            dtype = DType.from_numpy(native.dtype)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"input {name!r}: {error}") from None
    data = np.ascontiguousarray(native, dtype.numpy).reshape(-1).view(np.uint8)
    return InputTensor(checked_text("input", name), dtype, value.shape, data)


def _strings(name: str, value: Any) -> Any:
    """The elements as bytes; text is sent as UTF-8."""
    elements = []
    for index, element in enumerate(value.ravel().tolist()):
        if not isinstance(element, (bytes, str)):
            raise InvalidRequestError(
                f"input {name!r}: element {index}: expected bytes or text, got {type(element).__name__}"
            )
        try:
            elements.append(element.encode() if isinstance(element, str) else element)
        except UnicodeEncodeError:
            raise InvalidRequestError(f"input {name!r}: element {index} {element!r}: can't be sent as UTF-8") from None
    return strings_array(elements, value.shape)

"""An inference request and its answer, whatever they travelled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Collection, Dict, Mapping, Protocol, Sequence, Sized, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType, Signature, TensorSpec, element_count
from edge_runtime.wire.elements import check_strings_nbytes, strings_from_bytes, strings_from_values

Array = npt.NDArray[Any]

RUNG_PARAMETER = "edge_runtime_rung"

_REFUSED_PREFIXES = ("sequence_", "triton_", "shared_memory_")
_REFUSED = frozenset({"classification"})
_GRANTED = "triton_enable_empty_final_response"  # one answer is always the final one, and never empty
_MOST_MS = 86_400_000
_MAX_STREAM_LENGTH = 128
_DIM_LIMIT = 2**63
_MAX_RANK = 32
_MOST_PARAMETERS = 1024


@dataclass(frozen=True)
class RegionPlace:
    """Bytes of a region of memory that a client shares, by the region's name."""

    region: str
    offset: int
    nbytes: int


class Regions(Protocol):
    """The memory that clients share, as one request uses it."""

    def read(self, place: RegionPlace) -> Any:
        """A copy of the bytes there, which nobody else has; raises RequestError."""

    def hold(self, place: RegionPlace) -> None:
        """Keeps the region there for `write` until the request ends; raises RequestError."""

    def write(self, pieces: Sequence[Tuple[RegionPlace, Array]]) -> None:
        """Writes arrays, each at the start of a place that holds it; all of them, or raises RequestError."""


@dataclass(frozen=True)
class WantedOutput:
    """An output that was asked for, and whether as bytes or as JSON, or where it is to be written instead."""

    name: str
    is_binary: bool
    place: RegionPlace | None = None


@dataclass(frozen=True)
class Schedule:
    """How urgent a request is, by its parameters.

    Attributes:
        priority: 1 is served first; 0 (no parameter) last.
        budget_ns: how long after the request's first byte its answer is of use; None: for ever.
        stream: name of the periodic stream that it belongs to, if it names one.
        period_ns: least time between that stream's requests; None without a stream.
    """

    priority: int = 0
    budget_ns: int | None = None
    stream: str = ""
    period_ns: int | None = None


NO_HURRY = Schedule()


@dataclass(frozen=True)
class InferRequest:
    """A request that fits its model. `inputs` are views on the transport's own buffer wherever they can be."""

    model: str
    version: str
    id: str
    inputs: Dict[str, Array]
    outputs: Tuple[WantedOutput, ...]
    schedule: Schedule = NO_HURRY


@dataclass(frozen=True)
class InferAnswer:
    """Outputs by name, with what the answer repeats of its request; `rung` is what answered instead ("": the model)."""

    model: str
    version: str
    id: str
    outputs: Mapping[str, Array]
    rung: str = ""


def dtype_of(value: object, what: str) -> DType:
    """The data type that a message names.

    Raises:
        InvalidRequestError: it is none of the protocol's, or one that no tensor of ours has.
    """
    try:
        return DType(value)
    except ValueError:
        valid = ", ".join(member.value for member in DType)
        raise InvalidRequestError(f"{what}: unknown datatype {clipped(value)}; valid: {valid}") from None


def shape_of(value: object, what: str) -> Tuple[int, ...]:
    """The shape that a message gives: at most 32 whole numbers below 2^63, nothing multiplied yet.

    Raises:
        InvalidRequestError: anything else.
    """
    is_short_list = isinstance(value, (list, tuple)) and len(value) <= _MAX_RANK
    if not is_short_list or any(type(size) is not int or not 0 <= size < _DIM_LIMIT for size in value):  # type: ignore[attr-defined]
        raise InvalidRequestError(f"{what}: expected a shape of whole numbers from 0 on, got {clipped(value)}")
    return tuple(value)  # type: ignore[arg-type]


def array_from_bytes(data: Any, spec: TensorSpec, shape: Tuple[int, ...]) -> Array:
    """A view of `data` as the tensor, or a copy of its elements if they are BYTES; the shape was checked before.

    Raises:
        InvalidRequestError: the number of bytes isn't the tensor's, or they aren't elements of BYTES.
    """
    if spec.dtype is DType.BYTES:
        return strings_from_bytes(data, shape, f"input {spec.name!r}")
    check_nbytes(len(data), spec, shape)
    if spec.dtype is DType.BOOL:
        return np.not_equal(np.frombuffer(data, np.uint8), 0).reshape(shape)
    return np.frombuffer(data, spec.dtype.numpy).reshape(shape)


def check_nbytes(nbytes: int, spec: TensorSpec, shape: Tuple[int, ...]) -> None:
    """Raises InvalidRequestError unless a tensor can have that size; its shape was checked before."""
    if spec.dtype is DType.BYTES:
        check_strings_nbytes(nbytes, shape, f"input {spec.name!r}")
        return
    expected = element_count(shape) * spec.dtype.itemsize
    if nbytes != expected:
        raise InvalidRequestError(
            f"input {spec.name!r}: expected {expected} bytes for {spec.dtype.value} {list(shape)}, got {nbytes}"
        )


def array_from_values(values: Sequence[Any], spec: TensorSpec, shape: Tuple[int, ...]) -> Array:
    """The tensor of single values, each of a type and in a range that it can hold exactly (floats: rounded).

    Raises:
        InvalidRequestError: a value of another type, out of range, or another number of values.
    """
    what, dtype = f"input {spec.name!r}", spec.dtype
    if len(values) != element_count(shape):
        raise InvalidRequestError(
            f"{what}: expected {element_count(shape)} values for {list(shape)}, got {len(values)}"
        )
    if dtype is DType.BYTES:
        return strings_from_values(values, shape, what)
    allowed: set[type] = {bool} if dtype is DType.BOOL else {int, float} if dtype.is_float else {int}
    wrong = set(map(type, values)) - allowed
    if wrong:
        names = "/".join(sorted(_JSON_NAMES.get(kind, kind.__name__) for kind in wrong))
        raise InvalidRequestError(f"{what}: {dtype.value} can't hold values of type {names}")
    if dtype is not DType.BOOL and not dtype.is_float:
        limits = np.iinfo(dtype.numpy)
        if min(values) < limits.min or max(values) > limits.max:
            raise InvalidRequestError(f"{what}: values must be from {limits.min} to {limits.max} for {dtype.value}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype.numpy).reshape(shape)
    except OverflowError:
        raise InvalidRequestError(f"{what}: a value is out of {dtype.value}'s range") from None
    if dtype.is_float and not np.isfinite(array).all():
        raise InvalidRequestError(f"{what}: a value is out of {dtype.value}'s range")
    return array


_JSON_NAMES = {type(None): "null", str: "string", dict: "object", list: "array", bool: "boolean", float: "fraction"}


def check_count(wanted: Sized, signature: Signature) -> None:
    """Refuses more outputs than there are, before anything is made of them.

    Raises:
        InvalidRequestError: with both numbers.
    """
    if len(wanted) > len(signature.outputs):
        raise InvalidRequestError(f"{len(wanted)} outputs are asked for; the model has {len(signature.outputs)}")


def check_wanted(outputs: Sequence[WantedOutput], signature: Signature) -> Tuple[WantedOutput, ...]:
    """The outputs asked for.

    Raises:
        InvalidRequestError: one is unknown, or asked for twice.
    """
    seen = set()
    for output in outputs:
        signature.output(output.name)
        if output.name in seen:
            raise InvalidRequestError(f"output {output.name!r} is asked for twice")
        seen.add(output.name)
    return tuple(outputs)


def check_parameters(names: Collection[object], what: str, granted: Collection[object] = ()) -> None:
    """Refuses parameters of extensions that we don't have: what they ask for must not be ignored.

    Those in `granted` are ones that we have, here.

    Raises:
        InvalidRequestError: naming the first such parameter, or there are too many.
    """
    if len(names) > _MOST_PARAMETERS:
        raise InvalidRequestError(f"{what}: {len(names)} parameters; at most {_MOST_PARAMETERS} are taken")
    for name in names:
        is_refused = name in _REFUSED or (str(name).startswith(_REFUSED_PREFIXES) and name != _GRANTED)
        if is_refused and name not in granted:
            raise InvalidRequestError(f"{what}: parameter {clipped(name)} belongs to an extension that isn't supported")


def schedule_of(parameters: Mapping[str, Any]) -> Schedule:
    """What a request's parameters say of its urgency: `priority`, `timeout` (µs), `deadline_ms`, `stream`, `period_ms`.

    The smaller of `timeout` and `deadline_ms` counts; a `timeout` of 0 is none.

    Raises:
        InvalidRequestError: one has another type or is out of range, or a stream lacks its period or deadline.
    """
    if not parameters:
        return NO_HURRY
    priority = _whole(parameters, "priority")
    timeout_us = _whole(parameters, "timeout")
    budgets = [timeout_us * 1000] if timeout_us else []
    if "deadline_ms" in parameters:
        budgets.append(_milliseconds(parameters, "deadline_ms"))
    stream, period_ns = parameters.get("stream", ""), None
    if "stream" in parameters or "period_ms" in parameters:
        if not isinstance(stream, str) or not 0 < len(stream) <= _MAX_STREAM_LENGTH:
            raise InvalidRequestError(f"stream: expected a name of 1 to {_MAX_STREAM_LENGTH} characters for period_ms")
        if "period_ms" not in parameters or "deadline_ms" not in parameters:
            raise InvalidRequestError(f"stream {clipped(stream)}: give it period_ms and deadline_ms too")
        period_ns = _milliseconds(parameters, "period_ms")
    found = Schedule(priority, min(budgets, default=None), stream, period_ns)
    return NO_HURRY if found == NO_HURRY else found


def _whole(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is int and 0 <= value < _DIM_LIMIT:
        return value
    raise InvalidRequestError(f"{name}: expected a whole number from 0 on, got {clipped(value)}")


def _milliseconds(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters[name]
    if type(value) not in (int, float) or not 0 < value <= _MOST_MS:  # which NaN isn't either
        raise InvalidRequestError(
            f"{name}: expected milliseconds, more than 0 and up to {_MOST_MS}, got {clipped(value)}"
        )
    return max(1, round(float(value) * 1e6))


def clipped(value: object) -> str:
    """A value of the wire as text for one line: escaped, and at most 128 characters long."""
    if isinstance(value, dict):
        return "an object"
    text = ascii(value[:128] if isinstance(value, str) else value[:8] if isinstance(value, list) else value)
    return text if len(text) <= 128 else text[:125] + "..."

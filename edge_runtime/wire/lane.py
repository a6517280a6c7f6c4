"""The shared-memory lane's messages: a client opens memory that the server makes, and rings for each run.

A connection begins with `MAGIC`. Then every message is a record of 32 bytes, and a payload after those of OPEN, OPENED
and FAILED. Tensors never travel: they lie in the memory whose descriptor comes with OPENED.
"""

from __future__ import annotations

import json
import mmap
import struct
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

from edge_runtime.errors import EdgeRuntimeError, InvalidRequestError, ServerUnavailableError
from edge_runtime.tensors import DType, Shape, TensorSpec, element_count
from edge_runtime.wire.inference import clipped, dtype_of, shape_of
from edge_runtime.wire.json_text import parsed_object
from edge_runtime.wire.status import public_text, status_of

PREFIX = b"\0LANE"
MAGIC = PREFIX + b"\1\r\n"  # the byte after the prefix is the version

OPEN, RUN, CLOSE = 1, 2, 3
OPENED, DONE, FAILED = 65, 66, 67
CLIENT_LIMITS: Mapping[int, int] = {OPEN: 2**16, RUN: 0, CLOSE: 0}
SERVER_LIMITS: Mapping[int, int] = {OPENED: 2**18, DONE: 0, FAILED: 2**12}

MAX_FRAMES = 1024
MAX_PRIORITY = 2**16 - 1
_MAX_TENSORS = 256
_ALIGNMENT = 256
_PAGE_NBYTES = mmap.PAGESIZE  # what a GPU pins at least: frames share none
_RECORD = struct.Struct("<BxHIIIQQ")
RECORD_NBYTES = _RECORD.size


class Record(NamedTuple):
    """The fixed part of a message; what a kind has no use for is 0.

    `nbytes` is the size of the payload, and `wait_us` a RUN's deadline from its receipt on (0: none) or a FAILED's time
    after which to try again (0: none was said).
    """

    kind: int
    priority: int = 0
    region: int = 0
    frame: int = 0
    nbytes: int = 0
    request_id: int = 0
    wait_us: int = 0


@dataclass(frozen=True)
class LaneOpen:
    """What a client wants memory for: a model (version "": the server's choice) at fixed shapes; no outputs: all."""

    model: str
    version: str
    shapes: Mapping[str, Shape]
    outputs: Tuple[str, ...] = ()
    frames: int = 1


@dataclass(frozen=True)
class LaneTensor:
    """Where a tensor lies, from the start of its frame."""

    name: str
    dtype: DType
    shape: Shape
    offset: int

    @property
    def nbytes(self) -> int:
        """Its size."""
        return element_count(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class LaneLayout:
    """The tensors of each frame; frame `i` begins at byte `i * stride` of the memory."""

    inputs: Tuple[LaneTensor, ...]
    outputs: Tuple[LaneTensor, ...]
    stride: int
    frames: int

    @property
    def nbytes(self) -> int:
        """The size of the memory."""
        return self.stride * self.frames


@dataclass(frozen=True)
class LaneFailure:
    """Why a message was refused, as its client is told; `kind` names one of the errors that are tried again."""

    status: str
    kind: str
    text: str


def layout_of(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], frames: int) -> LaneLayout:
    """The layout for tensors of concrete shapes; an output that is an input lies where that does."""
    placed: Dict[str, LaneTensor] = {}
    end = 0
    for spec in (*inputs, *outputs):
        if spec.name not in placed:
            placed[spec.name] = LaneTensor(spec.name, spec.dtype, spec.shape, _rounded(end, _ALIGNMENT))
            end = placed[spec.name].offset + placed[spec.name].nbytes
    stride = max(_rounded(end, _PAGE_NBYTES), _PAGE_NBYTES)
    return LaneLayout(
        tuple(placed[spec.name] for spec in inputs), tuple(placed[spec.name] for spec in outputs), stride, frames
    )


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def message(record: Record, payload: bytes = b"") -> bytes:
    """The bytes of a message; `nbytes` is filled in."""
    return _RECORD.pack(*record[:4], len(payload), *record[5:]) + payload


def record_from_bytes(data: bytes | bytearray | memoryview) -> Record:
    """The record at the start of `data`."""
    return Record(*_RECORD.unpack_from(data))


class LaneReader:
    """Finds messages in what arrives, whatever pieces it comes in; holds at most the largest message that is allowed.

    Args:
        limits: the kinds that may come, and the largest payload of each.
        begins_with: bytes that come before the first message.
    """

    def __init__(self, limits: Mapping[int, int], begins_with: bytes = b"") -> None:
        self._limits = limits
        self._awaited = begins_with
        self._kept = b""

    def messages(self, data: bytes) -> Iterator[Tuple[Record, bytes]]:
        """The messages that `data` completes, each with its payload.

        Raises:
            InvalidRequestError: what came isn't the lane's; nothing after it can be understood.
        """
        data = self._kept + data if self._kept else data
        at, end = self._begin(data) if self._awaited else 0, len(data)
        while not self._awaited and end - at >= RECORD_NBYTES:
            record = Record(*_RECORD.unpack_from(data, at))
            limit = self._limits.get(record.kind)
            if limit is None or record.nbytes > limit:
                raise InvalidRequestError(f"no message of the lane: kind {record.kind}, {record.nbytes} bytes")
            after = at + RECORD_NBYTES + record.nbytes
            if after > end:
                break
            yield record, data[at + RECORD_NBYTES : after]
            at = after
        self._kept = data[at:]

    def _begin(self, data: bytes) -> int:
        """How many bytes of `data` come before the first message."""
        awaited, size = self._awaited, min(len(data), len(self._awaited))
        if data[:size] != awaited[:size]:
            raise InvalidRequestError(
                "the connection doesn't begin as version 1 of the lane does; use this version's client"
            )
        if size < len(awaited):
            return 0
        self._awaited = b""
        return size


def open_message(request_id: int, wanted: LaneOpen) -> bytes:
    """An OPEN.

    Raises:
        InvalidRequestError: it is larger than a server takes.
    """
    inputs = [{"name": name, "shape": list(shape)} for name, shape in wanted.shapes.items()]
    content: Dict[str, Any] = {"model": wanted.model, "version": wanted.version, "inputs": inputs}
    content.update(outputs=list(wanted.outputs), frames=wanted.frames)
    payload = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    if len(payload) > CLIENT_LIMITS[OPEN]:
        raise InvalidRequestError(f"names and shapes take {len(payload)} bytes, more than {CLIENT_LIMITS[OPEN]}")
    return message(Record(OPEN, request_id=request_id), payload)


def open_from_payload(payload: bytes) -> LaneOpen:
    """What an OPEN asks for; names are not held against a model yet.

    Raises:
        InvalidRequestError: it isn't sound.
    """
    content = _content(payload, {"model", "version", "inputs", "outputs", "frames"})
    frames, outputs = content["frames"], content["outputs"]
    if type(frames) is not int or not 1 <= frames <= MAX_FRAMES:
        raise InvalidRequestError(f"frames: expected 1 to {MAX_FRAMES}, got {clipped(frames)}")
    if not isinstance(outputs, list) or not all(isinstance(name, str) for name in outputs):
        raise InvalidRequestError("outputs: expected a list of names")
    if not isinstance(content["model"], str) or not isinstance(content["version"], str):
        raise InvalidRequestError("model and version: expected strings")
    shapes: Dict[str, Shape] = {}
    for row in _rows(content, "inputs"):
        name = _name(row, shapes)
        shapes[name] = shape_of(row.get("shape"), f"input {clipped(name)}")
    return LaneOpen(content["model"], content["version"], shapes, tuple(outputs), frames)


def opened_message(request_id: int, region: int, layout: LaneLayout) -> bytes:
    """An OPENED, with which the descriptor of the region's memory goes."""
    content = {
        "stride": layout.stride,
        "frames": layout.frames,
        "inputs": [_row(tensor) for tensor in layout.inputs],
        "outputs": [_row(tensor) for tensor in layout.outputs],
    }
    payload = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return message(Record(OPENED, region=region, request_id=request_id), payload)


def layout_from_payload(payload: bytes) -> LaneLayout:
    """The layout in an OPENED, of which every tensor lies inside its frame.

    Raises:
        InvalidRequestError: it isn't sound.
    """
    content = _content(payload, {"stride", "frames", "inputs", "outputs"})
    stride, frames = content["stride"], content["frames"]
    if type(stride) is not int or type(frames) is not int or not 1 <= frames <= MAX_FRAMES or not 0 < stride < 2**48:
        raise InvalidRequestError(f"expected frames and their size, got {clipped(frames)} and {clipped(stride)}")
    inputs, outputs = (tuple(_tensors(_rows(content, key), stride)) for key in ("inputs", "outputs"))
    return LaneLayout(inputs, outputs, stride, frames)


def run_message(region: int, frame: int, request_id: int, wait_us: int = 0, priority: int = 0) -> bytes:
    """A RUN."""
    return _RECORD.pack(RUN, priority, region, frame, 0, request_id, wait_us)


def done_message(region: int, frame: int, request_id: int) -> bytes:
    """A DONE: the run is over and its outputs lie in the frame; or a region is closed."""
    return _RECORD.pack(DONE, 0, region, frame, 0, request_id, 0)


def failed_message(request_id: int, error: EdgeRuntimeError) -> bytes:
    """A FAILED: what a client is told of an error, on one line."""
    _, status = status_of(error)
    is_passing = isinstance(error, ServerUnavailableError)
    kind = type(error).__name__ if is_passing else ""
    wait_us = max(1, int(error.retry_after_s * 1e6)) if isinstance(error, ServerUnavailableError) else 0
    text = " ".join(public_text(error).split())[:1000]
    return message(Record(FAILED, request_id=request_id, wait_us=wait_us), f"{status}\n{kind}\n{text}".encode())


def failure_from_payload(payload: bytes) -> LaneFailure:
    """What a FAILED says.

    Raises:
        InvalidRequestError: it isn't sound.
    """
    parts = payload.decode(errors="replace").split("\n")
    if len(parts) != 3:
        raise InvalidRequestError("a failure that doesn't say what failed")
    return LaneFailure(*parts)


def _content(payload: bytes, keys: set[str]) -> Dict[str, Any]:
    content = parsed_object(payload)
    if set(content) != keys:
        raise InvalidRequestError(f"expected the keys {', '.join(sorted(keys))}, got {clipped(sorted(content))}")
    return content


def _rows(content: Mapping[str, Any], key: str) -> List[Dict[str, Any]]:
    rows = content[key]
    if not isinstance(rows, list) or len(rows) > _MAX_TENSORS or not all(isinstance(row, dict) for row in rows):
        raise InvalidRequestError(f"{key}: expected a list of at most {_MAX_TENSORS} tensors")
    return rows


def _name(row: Mapping[str, Any], taken: Any) -> str:
    name = row.get("name")
    if not isinstance(name, str) or name in taken:
        raise InvalidRequestError(f"expected tensors with names of their own, got {clipped(name)}")
    return name


def _row(tensor: LaneTensor) -> Dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.dtype.value,
        "shape": list(tensor.shape),
        "offset": tensor.offset,
        "nbytes": tensor.nbytes,
    }


def _tensors(rows: Sequence[Mapping[str, Any]], stride: int) -> Iterator[LaneTensor]:
    taken: set[str] = set()
    for row in rows:
        name = _name(row, taken)
        taken.add(name)
        what = f"tensor {clipped(name)}"
        offset = row.get("offset")
        if type(offset) is not int or not 0 <= offset <= stride or offset % _ALIGNMENT:
            raise InvalidRequestError(f"{what}: it begins outside its frame")
        if row.get("datatype") == DType.BYTES.value:
            raise InvalidRequestError(f"{what}: BYTES have no fixed size, and can't lie in a frame")
        found = LaneTensor(name, dtype_of(row.get("datatype"), what), shape_of(row.get("shape"), what), offset)
        if found.nbytes > stride - offset or row.get("nbytes") != found.nbytes:
            raise InvalidRequestError(f"{what}: it ends outside its frame, or has another size")
        yield found

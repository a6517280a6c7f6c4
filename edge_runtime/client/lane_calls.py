"""What a client says on the lane, and what it makes of the answers; the same for every way to wait."""

from __future__ import annotations

import array
import mmap
import os
import socket
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.client.answers import Origin
from edge_runtime.client.refusals import unavailable, unwrapped
from edge_runtime.client.request import Hurry
from edge_runtime.errors import InvalidRequestError, RemoteError, ServerUnavailableError
from edge_runtime.tensors import element_count
from edge_runtime.wire import lane as wire

Array = npt.NDArray[Any]
Arrays = Dict[str, Array]

BUFFER_NBYTES = 2**16
_POPULATE = 0x8000  # Python has a name for it from 3.10 on
_RIGHTS_NBYTES = socket.CMSG_SPACE(array.array("i").itemsize)


class LaneCalls:
    """The state of one connection: its region, and which frames' runs are under way or over."""

    def __init__(self, server: str, wanted: wire.LaneOpen) -> None:
        self.server = server
        self.region = 0
        self._wanted = wanted
        self._origin = Origin(server, "OK")
        self._reader = wire.LaneReader(wire.SERVER_LIMITS)
        self._ids: Dict[int, int] = {}  # of the frames in use
        self._ends: Dict[int, Exception | None] = {}  # by request id; None: not over
        self._last_id = 0

    def opening(self) -> bytes:
        """The first bytes of the connection.

        Raises:
            InvalidRequestError: more is asked for than a message can hold.
        """
        return wire.MAGIC + wire.open_message(0, self._wanted)

    def opened(self, data: bytes, descriptors: Sequence[int]) -> List[Tuple[Arrays, Arrays]] | None:
        """Inputs and outputs of each frame, as views on memory that lives as long as any of them; None: there is more.

        The descriptors stay the caller's.

        Raises:
            RemoteError: the server refused, or its answer is broken.
            ServerUnavailableError: the server refused for now.
        """
        try:
            for record, payload in self._reader.messages(data):
                if record.kind == wire.FAILED:
                    raise unwrapped(self._failure(record, payload))
                if record.kind != wire.OPENED:
                    raise self._origin.broken(f"a message of kind {record.kind} that nothing asked for")
                self.region = record.region
                return _frames(wire.layout_from_payload(payload), descriptors, self._origin)
        except InvalidRequestError as error:
            raise self._origin.broken(str(error)) from None
        return None

    def ring(self, frame: int, hurry: Hurry) -> bytes:
        """The message that starts a run of a frame.

        Raises:
            InvalidRequestError: the frame is in use.
        """
        if frame in self._ids:
            raise InvalidRequestError(f"frame {frame} is in use; wait for its run to end")
        wait_us = 0 if hurry.deadline_ms is None else max(1, int(hurry.deadline_ms * 1000))
        self._last_id += 1
        self._ids[frame] = self._last_id
        return wire.run_message(self.region, frame, self._last_id, wait_us, hurry.priority)

    def take_answers(self, data: bytes) -> None:
        """Takes in what the server sent.

        Raises:
            RemoteError: it is broken.
        """
        try:
            for record, payload in self._reader.messages(data):
                if record.kind == wire.OPENED or record.request_id not in self._ids.values():
                    raise self._unasked(record, payload)
                is_done = record.kind == wire.DONE
                self._ends[record.request_id] = None if is_done else self._failure(record, payload)
        except InvalidRequestError as error:
            raise self._origin.broken(str(error)) from None

    def is_over(self, frame: int) -> bool:
        """Whether the run of a frame has ended.

        Raises:
            InvalidRequestError: it wasn't started.
        """
        if frame not in self._ids:
            raise InvalidRequestError(f"frame {frame} wasn't started; start it first")
        return self._ids[frame] in self._ends

    def end(self, frame: int) -> None:
        """Says that a frame's user has heard of its run's end.

        Raises:
            RefusedError: the run was refused, and may be tried again.
            EdgeRuntimeError: it failed, or was refused.
        """
        error = self._ends.pop(self._ids.pop(frame))
        if error is not None:
            raise error

    def forget(self, frame: int) -> None:
        """Frees a frame whose run is over and whose user has gone."""
        self._ends.pop(self._ids.pop(frame))

    def closed(self) -> ServerUnavailableError:
        """The error for the use of a closed connection."""
        return ServerUnavailableError(f"{self.server}: these frames are closed; open new ones")

    def gone(self, error: OSError, timeout_s: float) -> ServerUnavailableError:
        """The error for a connection that failed."""
        if isinstance(error, BlockingIOError):
            return ServerUnavailableError(
                f"{self.server}: no answer within {timeout_s:g} s; try again later, or raise the time limit"
            )
        return ServerUnavailableError(
            f"{self.server}: {error.strerror or error}; is the server running? edge-runtime serve"
        )

    def _unasked(self, record: wire.Record, payload: bytes) -> Exception:
        if record.kind == wire.FAILED and not record.request_id:  # of the connection, not of a run
            return unwrapped(self._failure(record, payload))
        return self._origin.broken(f"a message of kind {record.kind} that nothing asked for")

    def _failure(self, record: wire.Record, payload: bytes) -> Exception:
        found = wire.failure_from_payload(payload)
        text = f"{self.server}: model {self._wanted.model[:128]!r}: {found.status}: {found.text}"
        if not found.kind:
            return RemoteError(text, found.status)
        return unavailable(text, found.kind, record.wait_us / 1e6 if record.wait_us else None)


def received_with_rights(connection: socket.socket, descriptors: List[int]) -> bytes:
    """What comes next; descriptors beside it are added to `descriptors`, and are the caller's to close."""
    data, ancillary, _, _ = connection.recvmsg(BUFFER_NBYTES, _RIGHTS_NBYTES, socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    descriptors += found
    return data


def _frames(layout: wire.LaneLayout, descriptors: Sequence[int], origin: Origin) -> List[Tuple[Arrays, Arrays]]:
    if len(descriptors) != 1:
        raise origin.broken(f"expected one descriptor of memory, got {len(descriptors)}")
    try:
        size = os.fstat(descriptors[0]).st_size
        if size != layout.nbytes:
            raise origin.broken(f"frames of {layout.nbytes} bytes in memory of {size}")
        memory = mmap.mmap(descriptors[0], layout.nbytes, mmap.MAP_SHARED | _POPULATE)
    except (OSError, ValueError) as error:
        raise origin.broken(f"memory that can't be used ({error})") from None
    return [_arrays(memory, layout, index * layout.stride) for index in range(layout.frames)]


def _arrays(memory: mmap.mmap, layout: wire.LaneLayout, start: int) -> Tuple[Arrays, Arrays]:
    inputs = {tensor.name: _view(memory, tensor, start) for tensor in layout.inputs}
    outputs = {tensor.name: _view(memory, tensor, start) for tensor in layout.outputs}
    return inputs, outputs


def _view(memory: mmap.mmap, tensor: wire.LaneTensor, start: int) -> Array:
    count = element_count(tensor.shape)
    if not count:
        return np.empty(tensor.shape, tensor.dtype.numpy)
    return np.frombuffer(memory, tensor.dtype.numpy, count, start + tensor.offset).reshape(tensor.shape)

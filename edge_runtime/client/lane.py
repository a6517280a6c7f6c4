"""Frames of memory shared with a server on this host: written and read in place, and run by ringing."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any, Iterator, List, Mapping, Sequence

import numpy.typing as npt

from edge_runtime.client.lane_calls import BUFFER_NBYTES, Arrays, LaneCalls, received_with_rights
from edge_runtime.client.refusals import RefusedError
from edge_runtime.client.request import NO_HURRY, Hurry
from edge_runtime.client.retries import Retries
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.wire.lane import LaneOpen


class Frame:
    """One set of inputs and outputs in shared memory, for one run at a time.

    Attributes:
        inputs: arrays by name; write into them what to run on, but not while a run is under way.
        outputs: arrays by name; they hold from the end of a run to the start of the next.
    """

    def __init__(self, owner: Frames, number: int, inputs: Arrays, outputs: Arrays) -> None:
        self.inputs: Mapping[str, npt.NDArray[Any]] = inputs
        self.outputs: Mapping[str, npt.NDArray[Any]] = outputs
        self._owner = owner
        self._number = number

    def run(self, deadline_ms: float | None = None, priority: int = 0) -> Mapping[str, npt.NDArray[Any]]:
        """The frame's own outputs, once the model has run on its inputs.

        Waits for the answer even where it is late: when this returns, the server is done with the memory.

        Raises:
            InvalidRequestError: no such deadline or priority, or the frame is in use.
            QueueFullError, DeadlineRefusedError, DeadlineExpiredError: the server refused for now.
            RemoteError: the run failed, or the server's answer is broken.
            ServerUnavailableError: the server is gone, or didn't answer in time; the frames are closed then.
        """
        self._owner.run(self._number, _hurry(deadline_ms, priority))
        return self.outputs

    def start(self, deadline_ms: float | None = None, priority: int = 0) -> None:
        """Starts a run, whose end `wait` waits for; other frames may start before. Raises as `run` does."""
        self._owner.start(self._number, _hurry(deadline_ms, priority))

    def wait(self) -> Mapping[str, npt.NDArray[Any]]:
        """The frame's own outputs, once the run that was started is over; never tried again. Raises as `run` does."""
        try:
            self._owner.wait(self._number)
        except RefusedError as refused:
            raise refused.error from None
        return self.outputs


class Frames(Sequence[Frame]):
    """Frames over memory that a server shares with this process, by a connection of their own.

    One thread at a time uses them. Their arrays stay valid when they are closed; only nothing runs on them any more.

    Raises:
        InvalidRequestError: more is asked for than a message can hold.
        RemoteError: the server refused, or its answer is broken.
        ServerUnavailableError: no connection, no answer in time, or refused for now.
    """

    def __init__(self, path: str, wanted: LaneOpen, timeout_s: float, retries: int = 0) -> None:
        self._timeout_s = timeout_s
        self._retries = retries
        self._calls = LaneCalls(f"unix://{path}", wanted)
        self._buffer = bytearray(BUFFER_NBYTES)
        self._view = memoryview(self._buffer)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._frames = self._opened(path)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        return self._frames[index]

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection, whereupon the server lets the memory go; idempotent."""
        self._socket.close()

    def run(self, frame: int, hurry: Hurry) -> None:
        """Runs the frame of that number, again if it is refused for now and may be; see `Frame.run`."""
        retries = Retries(self._retries, hurry, self._timeout_s) if self._retries else None
        while True:
            self.start(frame, hurry)
            try:
                self.wait(frame)
            except RefusedError as refused:
                wait_s = None if retries is None else retries.wait_s(refused.error)
                if retries is None or wait_s is None:
                    raise refused.error from None
            else:
                return
            time.sleep(wait_s)
            hurry = retries.hurry()

    def start(self, frame: int, hurry: Hurry) -> None:
        """Starts a run of the frame of that number; see `Frame.start`."""
        self._check_open()
        message = self._calls.ring(frame, hurry)
        try:
            self._socket.sendall(message)
        except OSError as error:
            self.close()
            raise self._calls.gone(error, self._timeout_s) from error

    def wait(self, frame: int) -> None:
        """Returns when the run of the frame of that number is over; raises RefusedError if it may be tried again."""
        self._check_open()
        calls = self._calls
        is_over = calls.is_over(frame)
        try:
            while not is_over:
                calls.take_answers(self._received())
                is_over = calls.is_over(frame)
        except OSError as error:
            self.close()
            raise calls.gone(error, self._timeout_s) from error
        except EdgeRuntimeError:
            self.close()
            raise
        calls.end(frame)

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise self._calls.closed()

    def _received(self) -> bytes:
        size = self._socket.recv_into(self._buffer)
        if not size:
            raise ConnectionResetError("the server closed the connection")
        return bytes(self._view[:size])

    def _opened(self, path: str) -> List[Frame]:
        descriptors: List[int] = []
        message = self._calls.opening()
        try:
            limit = struct.pack("ll", int(self._timeout_s), max(1, int(self._timeout_s % 1 * 1e6)))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.connect(path)
            self._socket.sendall(message)
            found = None
            while found is None:
                data = received_with_rights(self._socket, descriptors)
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                found = self._calls.opened(data, descriptors)
        except OSError as error:
            raise self._calls.gone(error, self._timeout_s) from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return [Frame(self, number, inputs, outputs) for number, (inputs, outputs) in enumerate(found)]


def _hurry(deadline_ms: float | None, priority: int) -> Hurry:
    return Hurry(deadline_ms, priority) if deadline_ms is not None or priority else NO_HURRY

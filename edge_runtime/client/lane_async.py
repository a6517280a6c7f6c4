"""Frames of memory shared with a server on this host, on asyncio."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, Dict, Iterator, List, Mapping, Sequence

import numpy.typing as npt

from edge_runtime.client.lane_calls import BUFFER_NBYTES, Arrays, LaneCalls, received_with_rights
from edge_runtime.client.refusals import RefusedError
from edge_runtime.client.request import Hurry
from edge_runtime.client.retries import Retries
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.wire.lane import LaneOpen


class AsyncFrame:
    """One set of inputs and outputs in shared memory, for one run at a time.

    Attributes:
        inputs: arrays by name; write into them what to run on, but not while a run is under way.
        outputs: arrays by name; they hold from the end of a run to the start of the next.
    """

    def __init__(self, owner: AsyncFrames, number: int, inputs: Arrays, outputs: Arrays) -> None:
        self.inputs: Mapping[str, npt.NDArray[Any]] = inputs
        self.outputs: Mapping[str, npt.NDArray[Any]] = outputs
        self._owner = owner
        self._number = number

    async def run(self, deadline_ms: float | None = None, priority: int = 0) -> Mapping[str, npt.NDArray[Any]]:
        """The frame's own outputs, once the model has run on its inputs.

        Cancelled while it waits, the run goes on: the frame is in use until its answer has come.

        Raises:
            InvalidRequestError: no such deadline or priority, or the frame is in use.
            QueueFullError, DeadlineRefusedError, DeadlineExpiredError: the server refused for now.
            RemoteError: the run failed, or the server's answer is broken.
            ServerUnavailableError: the server is gone, or didn't answer in time; the frames are closed then.
        """
        await self._owner.run(self._number, Hurry(deadline_ms, priority))
        return self.outputs


class AsyncFrames(Sequence[AsyncFrame]):
    """Frames over memory that a server shares with this process, by a connection of their own; made by `opened`.

    They belong to one loop. Their arrays stay valid when they are closed; only nothing runs on them any more.
    """

    def __init__(self, path: str, wanted: LaneOpen, timeout_s: float, retries: int = 0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._retries = retries
        self._loop = asyncio.get_running_loop()
        self._calls = LaneCalls(f"unix://{path}", wanted)
        self._frames: List[AsyncFrame] = []
        self._waiting: Dict[int, asyncio.Future[None]] = {}
        self._abandoned: set[int] = set()
        self._failure: Exception | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)

    @classmethod
    async def opened(cls, path: str, wanted: LaneOpen, timeout_s: float, retries: int = 0) -> AsyncFrames:
        """Open frames.

        Raises:
            InvalidRequestError: more is asked for than a message can hold.
            RemoteError: the server refused, or its answer is broken.
            ServerUnavailableError: no connection, no answer in time, or refused for now.
        """
        frames = cls(path, wanted, timeout_s, retries)
        try:
            await asyncio.wait_for(frames._open(), timeout_s)
        except asyncio.TimeoutError:
            frames.close()
            raise frames._calls.gone(BlockingIOError(), timeout_s) from None
        except OSError as error:
            frames.close()
            raise frames._calls.gone(error, timeout_s) from error
        except BaseException:
            frames.close()
            raise
        frames._loop.add_reader(frames._socket, frames._readable)
        return frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        return self._frames[index]

    def __iter__(self) -> Iterator[AsyncFrame]:
        return iter(self._frames)

    async def __aenter__(self) -> AsyncFrames:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection, whereupon the server lets the memory go; idempotent."""
        self._end(self._calls.closed())

    async def run(self, frame: int, hurry: Hurry) -> None:
        """Runs the frame of that number, again if it is refused for now and may be; see `AsyncFrame.run`."""
        retries = Retries(self._retries, hurry, self._timeout_s) if self._retries else None
        while True:
            try:
                await self._run_once(frame, hurry)
            except RefusedError as refused:
                wait_s = None if retries is None else retries.wait_s(refused.error)
                if retries is None or wait_s is None:
                    raise refused.error from None
            else:
                return
            await asyncio.sleep(wait_s)
            hurry = retries.hurry()

    async def _run_once(self, frame: int, hurry: Hurry) -> None:
        if self._failure is not None:
            raise self._calls.closed()
        message = self._calls.ring(frame, hurry)
        done = self._waiting[frame] = self._loop.create_future()
        try:
            self._send(message)
            await asyncio.wait_for(done, self._timeout_s)
        except asyncio.TimeoutError:
            self._end(self._calls.closed())
            raise self._calls.gone(BlockingIOError(), self._timeout_s) from None
        except asyncio.CancelledError:
            self._abandoned.add(frame)
            raise
        finally:
            self._waiting.pop(frame, None)
        self._calls.end(frame)

    async def _open(self) -> None:
        descriptors: List[int] = []
        try:
            message = self._calls.opening()
            await self._loop.sock_connect(self._socket, self._path)
            await self._loop.sock_sendall(self._socket, message)
            found = None
            while found is None:
                await self._until_readable()
                data = received_with_rights(self._socket, descriptors)
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                found = self._calls.opened(data, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._frames = [AsyncFrame(self, number, *arrays) for number, arrays in enumerate(found)]

    async def _until_readable(self) -> None:
        readable = self._loop.create_future()
        self._loop.add_reader(self._socket, _settle, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(self._socket)

    def _send(self, message: bytes) -> None:
        """Sends a message of the size of a doorbell: it goes whole, unless the server has stopped reading."""
        try:
            sent = self._socket.send(message)
            if sent < len(message):
                raise BlockingIOError
        except OSError as error:
            self._end(self._calls.closed())
            raise self._calls.gone(error, self._timeout_s) from error

    def _readable(self) -> None:
        try:
            data = self._socket.recv(BUFFER_NBYTES)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._calls.take_answers(data)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(self._calls.gone(error, self._timeout_s))
            return
        except EdgeRuntimeError as error:
            self._end(error)
            return
        for frame, done in list(self._waiting.items()):
            if self._calls.is_over(frame):
                _settle(done)
        for frame in [frame for frame in self._abandoned if self._calls.is_over(frame)]:
            self._abandoned.discard(frame)
            self._calls.forget(frame)

    def _end(self, error: Exception) -> None:
        """Closes the connection; what waits fails with `error`."""
        if self._failure is None:
            self._failure = error
            self._loop.remove_reader(self._socket)
            self._socket.close()
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(error)


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)

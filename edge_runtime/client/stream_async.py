"""Streams of inferences, on asyncio: as many under way as may, results in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, AsyncIterator, Awaitable, Callable, Dict, List

import numpy.typing as npt

from edge_runtime.client.request import Hurry
from edge_runtime.client.stream_line import Entry, StreamCounts, StreamLine, StreamResult
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.tensors import Feeds

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edge_runtime.client.request import HurryOptions

Arrays = Dict[str, npt.NDArray[Any]]


class AsyncStream(AsyncIterator[StreamResult]):
    """What `Stream` is, for the tasks of one loop: `async for` iterates, and `put` and `close` are awaited.

    Closing it abandons what is under way.
    """

    def __init__(self, infer: Callable[[Feeds, Hurry], Awaitable[Arrays]], line: StreamLine) -> None:
        self._infer = infer
        self._line = line
        self._changes: List[asyncio.Future[None]] = []
        self._tasks: List[asyncio.Task[None]] = []

    @property
    def counts(self) -> StreamCounts:
        """What has become of all that was put in, so far."""
        return self._line.counts

    async def put(self, feeds: Feeds, **hurry: Unpack[HurryOptions]) -> int:
        """Lets inputs in; their sequence number. The arrays must not change until their result is there.

        `deadline_ms` counts from when they are let in, and `priority` is that of the server's queue.

        Raises:
            InvalidRequestError: no such deadline or priority.
            ServerUnavailableError: the stream was ended.
        """
        wanted = Hurry(**hurry)
        while not (self._line.has_room or self._line.is_ended):
            await self._change()
        if self._line.is_ended:
            raise ServerUnavailableError("this stream was ended; make a new one")
        sequence = self._line.put(feeds, wanted)
        if len(self._tasks) < self._line.in_flight:
            self._tasks.append(asyncio.get_running_loop().create_task(self._work()))
        self._tell()
        return sequence

    async def __anext__(self) -> StreamResult:
        while True:
            if self._line.fails_next:
                self._tell()
            result = self._line.take()
            if result is not None:
                self._tell()
                return result
            if self._line.is_over:
                raise StopAsyncIteration
            await self._change()

    def ready(self) -> List[StreamResult]:
        """The results that are there now, in order, without waiting; raises as the iteration does."""
        self._tell()
        return self._line.take_all()

    def end(self) -> None:
        """Says that no more is put: the iteration ends after the last result. Idempotent."""
        self._line.end(drops_waiting=False)
        self._tell()

    async def close(self) -> None:
        """Ends the stream, drops what waits and abandons what is under way; idempotent."""
        self._line.end(drops_waiting=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._line.end(drops_waiting=True)
        self._tell()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _work(self) -> None:
        while True:
            entry = self._line.next()
            while entry is None:
                if self._line.is_ended and not self._line.has_waiting:
                    self._tell()
                    return
                await self._change()
                entry = self._line.next()
            try:
                self._line.finish(entry, await self._outcome(entry))
            except asyncio.CancelledError:
                self._line.abandon(entry)
                raise
            finally:
                self._tell()

    async def _outcome(self, entry: Entry) -> Any:
        try:
            return await self._infer(entry.feeds, entry.hurry)
        except Exception as error:  # noqa: BLE001  (the top frame of this task: whoever reads the stream must hear of it)
            return error

    async def _change(self) -> None:
        change = asyncio.get_running_loop().create_future()
        self._changes.append(change)
        try:
            await change
        finally:
            if change in self._changes:
                self._changes.remove(change)

    def _tell(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            if not change.done():
                change.set_result(None)

"""Streams of inferences on grpcio."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, AsyncIterator, Awaitable, Callable, Optional, Set, Tuple

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.server.grpc_methods import Refusal, grpc_refusal
from edge_runtime.server.grpc_stream import ENDS_WITH_ERROR, UNAVAILABLE
from edge_runtime.server.grpcio_trace import abort, origin_of, send_trace_back
from edge_runtime.server.models import ModelTable
from edge_runtime.wire.grpc_stream import request_id, streamed_error, streamed_response
from edge_runtime.wire.status import INTERNAL

logger = logging.getLogger(__name__)

_MOST = 16  # requests of one stream that are under way

Infer = Callable[[bytes, Any], Awaitable[bytes]]
Streaming = Callable[[AsyncIterator[bytes], Any], Awaitable[None]]
Answer = Tuple[bytes, Optional[Refusal]]  # one of them
Turn = Optional["asyncio.Future[Answer]"]  # None is the end


class GrpcioStreams:
    """Answers streams, each in the order of its requests; all of it runs on the loop's thread.

    Args:
        infer: gives the serialized `ModelInferResponse` to a serialized request, or raises EdgeRuntimeError.
        models: say whether the server is shutting down.
    """

    def __init__(self, infer: Infer, models: ModelTable) -> None:
        self._infer = infer
        self._models = models
        self._open: Set[asyncio.Queue[Turn]] = set()

    def close(self) -> None:
        """Ends all streams when what they have taken in is answered."""
        for turns in self._open:
            ending: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            ending.set_result((b"", (UNAVAILABLE, "the server is shutting down; ask another one", [])))
            turns.put_nowait(ending)

    async def serve(self, received: AsyncIterator[bytes], context: Any) -> None:
        """Answers one stream; the handler of the method."""
        send_trace_back(context)
        turns: asyncio.Queue[Turn] = asyncio.Queue()
        room = asyncio.Semaphore(_MOST)
        reading = asyncio.ensure_future(self._read(received, context, turns, room))
        self._open.add(turns)
        try:
            while True:
                turn = await turns.get()
                if turn is None:
                    return
                answer, refusal = await turn
                if refusal is not None:
                    break
                await context.write(answer)
                room.release()
        finally:
            self._open.discard(turns)
            reading.cancel()
            while not turns.empty():
                waiting = turns.get_nowait()
                if waiting is not None:
                    waiting.cancel()
        await abort(context, refusal)

    async def _read(
        self, received: AsyncIterator[bytes], context: Any, turns: asyncio.Queue[Turn], room: asyncio.Semaphore
    ) -> None:
        await room.acquire()
        async for message in received:
            turns.put_nowait(asyncio.ensure_future(self._answer(message, context)))
            await room.acquire()
        turns.put_nowait(None)

    async def _answer(self, message: bytes, context: Any) -> Answer:
        try:
            return b"".join(streamed_response(await self._infer(message, context))), None
        except EdgeRuntimeError as error:
            refusal = grpc_refusal(error, partial(origin_of, context, message))
        except Exception:  # the top frame of a request
            logger.exception("a gRPC request failed", extra=origin_of(context, message))
            return b"", (INTERNAL[1], "internal error", [])
        is_leaving = refusal[0] == UNAVAILABLE and not self._models.is_ready
        ends = (
            is_leaving
            or refusal[0] == "UNAUTHENTICATED"
            or ENDS_WITH_ERROR in [tuple(field) for field in context.invocation_metadata()]
        )
        found = None if ends else request_id(message)
        return (b"", refusal) if found is None else (streamed_error(found, refusal[1]), None)


def refusing(error: EdgeRuntimeError) -> Streaming:
    """The handler that ends every stream with that error."""

    async def serve(_: AsyncIterator[bytes], context: Any) -> None:
        await abort(context, grpc_refusal(error, partial(origin_of, context)))

    return serve

"""The Open Inference Protocol over HTTP, on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any, Deque, Dict, Sequence, TypeVar, cast

from edge_runtime.client.address import Address
from edge_runtime.client.connections import MAX_ANSWER_NBYTES
from edge_runtime.client.http_answer import AnswerReader, HttpAnswer, NoAnswerError, UnsoundError
from edge_runtime.client.http_calls import Arrays, HttpCall, HttpCalls
from edge_runtime.client.http_request import (
    HttpRequest,
    closed_error,
    head_bytes,
    late_error,
    lost_error,
    unanswered_error,
    unsound_error,
)
from edge_runtime.client.request import InferRequest
from edge_runtime.wire.http_infer import HEAD_LENGTH

T = TypeVar("T")

_BUFFER_NBYTES = 2**16
_SLICE_NBYTES = 2**18
_LONGEST_S = 1e9
_PART_HEADER = HEAD_LENGTH.lower()


class AsyncHttpTransport:
    """A server's HTTP listener, on TCP or on a Unix socket; of one loop. A cancelled call's connection is closed."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._calls = HttpCalls(address)
        self._tls = address.credentials.context() if address.is_secure else None
        self._idle: Deque[_Connection] = deque()
        self._is_closed = False

    async def is_live(self) -> bool:
        """Whether the server says that it is alive."""
        return await self._answer(self._calls.live())

    async def is_ready(self, model: str | None) -> bool:
        """Whether the server, or one model of it, says that it is ready."""
        return await self._answer(self._calls.ready(model))

    async def metadata(self, model: str | None) -> Dict[str, Any]:
        """What the server says of itself, or of one model."""
        return await self._answer(self._calls.metadata(model))

    async def infer(self, request: InferRequest) -> Arrays:
        """The outputs, as arrays that the caller owns."""
        return await self._answer(self._calls.infer(request))

    async def close(self) -> None:
        """Closes the connections; idempotent."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    async def _answer(self, call: HttpCall[T]) -> T:
        try:
            answer = await self._exchange(call.request)
        except NoAnswerError as error:
            raise unanswered_error(self._address) from error
        except UnsoundError as error:
            raise unsound_error(self._address, error) from error
        except asyncio.TimeoutError as error:
            raise late_error(self._address, self._timeout_s, call.request.limit_s) from error
        except OSError as error:
            raise lost_error(self._address, error) from error
        return call.read(answer)

    async def _exchange(self, request: HttpRequest) -> HttpAnswer:
        if self._is_closed:
            raise closed_error(self._address)
        limit_s = _LONGEST_S if request.limit_s is None else request.limit_s
        expiry = asyncio.get_running_loop().time() + limit_s
        kept = self._usable()
        if kept is not None:
            with contextlib.suppress(NoAnswerError):
                return await self._exchange_on(kept, request, expiry)
        return await self._exchange_on(await self._connected(expiry), request, expiry)

    def _usable(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_lost:
                return connection
        return None

    async def _connected(self, expiry: float) -> _Connection:
        loop, address = asyncio.get_running_loop(), self._address
        making: Any = (
            loop.create_unix_connection(_Connection, address.socket_path)
            if address.socket_path
            else loop.create_connection(_Connection, address.host, address.port, ssl=self._tls)
        )
        _, connection = await asyncio.wait_for(making, min(self._timeout_s, expiry - loop.time()))
        return cast(_Connection, connection)

    async def _exchange_on(self, connection: _Connection, request: HttpRequest, expiry: float) -> HttpAnswer:
        reader = AnswerReader(str(self._address), MAX_ANSWER_NBYTES, _PART_HEADER)
        try:
            head = request.head or head_bytes(request, self._address)
            answer = await connection.exchange([head, *request.body], reader, self._timeout_s, expiry)
        except BaseException:
            connection.close()
            raise
        if reader.is_reusable and not connection.is_lost and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()
        return answer


class _Connection(asyncio.BufferedProtocol):
    """A connection with one exchange at a time; a body is received where it is to lie."""

    def __init__(self) -> None:
        self.is_lost = False
        self._buffer = bytearray(_BUFFER_NBYTES)
        self._view = memoryview(self._buffer)
        self._room: memoryview | None = None
        self._reader: AnswerReader | None = None
        self._done: asyncio.Future[None] | None = None
        self._last_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._resumed: asyncio.Future[None] | None = None  # there while the server doesn't read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def get_buffer(self, sizehint: int) -> Any:  # noqa: ARG002  (asyncio's)
        self._room = self._reader.room() if self._reader is not None else None
        return self._buffer if self._room is None else self._room

    def buffer_updated(self, nbytes: int) -> None:
        reader = self._reader
        if reader is None or reader.answer is not None:  # nobody asked for it
            self.close()
            return
        self._last_s = self._loop.time()
        try:
            if self._room is None:
                reader.feed(bytes(self._view[:nbytes]))
            else:
                reader.filled(nbytes)
        except Exception as error:  # noqa: BLE001  (whoever waits for the answer raises it)
            self._settle(error)
        else:
            if reader.answer is not None:
                self._settle(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self._reader is None or self._done is None or self._done.done():
            self.resume_writing()
            return
        try:
            if exc is not None and not isinstance(exc, ConnectionError):
                raise exc
            self._reader.ended()
        except Exception as error:  # noqa: BLE001  (whoever waits for the answer raises it)
            self._settle(error)
        else:
            self._settle(None)

    def pause_writing(self) -> None:
        self._resumed = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        self._resumed = None

    async def exchange(
        self, pieces: Sequence[Any], reader: AnswerReader, timeout_s: float, expiry: float
    ) -> HttpAnswer:
        """The answer to what is sent.

        Raises:
            asyncio.TimeoutError: nothing came for `timeout_s`, or it isn't whole at `expiry` by the loop's clock.
        """
        self._reader, self._done = reader, self._loop.create_future()
        self._last_s = self._loop.time()
        self._watch(timeout_s, expiry)
        try:
            if sum(map(len, pieces)) <= _BUFFER_NBYTES:
                self._transport.write(b"".join(pieces))
            else:
                await self._send_sliced(pieces, self._done)
            await self._done
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._reader = None
        assert reader.answer is not None
        return reader.answer

    def close(self) -> None:
        """Ends the connection at once."""
        self.is_lost = True
        self._transport.abort()

    async def _send_sliced(self, pieces: Sequence[Any], done: asyncio.Future[None]) -> None:
        """Sends as the server reads; an answer that comes early, such as a refusal, ends it."""
        for data in pieces:
            piece = memoryview(data)
            for start in range(0, len(piece), _SLICE_NBYTES):
                self._transport.write(piece[start : start + _SLICE_NBYTES])
                if self._resumed is not None:
                    await self._resumed
                if done.done():
                    return

    def _settle(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)
        self.resume_writing()

    def _watch(self, timeout_s: float, expiry: float) -> None:
        end = min(self._last_s + timeout_s, expiry)
        if end > self._loop.time():
            self._timer = self._loop.call_at(end, self._watch, timeout_s, expiry)
        else:
            self._settle(asyncio.TimeoutError())

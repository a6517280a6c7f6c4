"""The server: a protocol factory that keeps its connections."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Callable, Collection, List, Optional, Set

from edge_runtime.server.http2.connection import Connection
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.server.http2.protocol import Http2Protocol
from edge_runtime.server.http2.requests import Handler
from edge_runtime.server.http2.stream_call import Gate

_ARENA_NBYTES = 256 << 10


class Http2Server:
    """A protocol factory for `loop.create_server` and `loop.create_unix_server`; all of it runs on that loop's thread.

    `handler` is called with each `UnaryCall` whose message is whole. It must not raise, and answers at once or later.
    `gates` makes for each connection, by its transport, what passes or refuses its calls. On a path among `streaming`,
    each message of a stream is such a call, and the answers go out in the messages' order.
    """

    def __init__(
        self,
        handler: Handler,
        limits: Optional[Http2Limits] = None,
        gates: Optional[Callable[[Any, Connection], Gate]] = None,
        streaming: Collection[str] = (),
    ) -> None:
        self._handler = handler
        self.gates = gates
        self.streaming = frozenset(streaming)
        self._limits = limits or Http2Limits()
        self._connections: Set[Http2Protocol] = set()
        self._dirty: List[Http2Protocol] = []
        self._is_draining = False
        self._all_closed: Optional[asyncio.Event] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self.arena = memoryview(bytearray(_ARENA_NBYTES))  # what is received lies here until it is taken in

    def __call__(self) -> Http2Protocol:
        """The protocol of one connection."""
        return Http2Protocol(self._handler, self._limits, self)

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def begin_drain(self) -> None:
        """Asks the clients to go: calls that they have begun are still answered, then each connection is closed."""
        self._is_draining = True
        now_ns = time.perf_counter_ns()
        for connection in self._connections:
            connection.drain(now_ns)

    async def closed(self, timeout_s: float) -> bool:
        """Waits until all connections are closed; False if some weren't in time."""
        if self._connections:
            self._all_closed = self._all_closed or asyncio.Event()
            try:
                await asyncio.wait_for(self._all_closed.wait(), timeout_s)
            except asyncio.TimeoutError:
                return False
        return True

    def close_all(self) -> None:
        """Drops all connections; their calls are cancelled when the loop comes round."""
        for connection in list(self._connections):
            connection.abort()

    def add(self, protocol: Http2Protocol) -> bool:
        """Takes in a new connection; False if there are too many."""
        if len(self._connections) >= self._limits.max_connections:
            return False
        self._connections.add(protocol)
        if self._timer is None:
            self._sweep_later()
        if self._is_draining:
            protocol.drain(time.perf_counter_ns())
        return True

    def remove(self, protocol: Http2Protocol) -> None:
        """Forgets a connection."""
        self._connections.discard(protocol)
        if not self._connections:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._all_closed is not None:
                self._all_closed.set()
                self._all_closed = None

    def flush_soon(self, protocol: Http2Protocol) -> None:
        """Has it flushed when the loop comes round."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(protocol)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for protocol in dirty:
            protocol.flush()

    def _sweep_later(self) -> None:
        limits = self._limits
        shortest_s = min(limits.idle_timeout_s, limits.body_timeout_s, limits.send_timeout_s, limits.linger_s)
        self._timer = asyncio.get_running_loop().call_later(min(1.0, shortest_s / 4), self._sweep)

    def _sweep(self) -> None:
        now_ns = time.perf_counter_ns()
        self._sweep_later()
        for connection in list(self._connections):
            connection.check(now_ns)

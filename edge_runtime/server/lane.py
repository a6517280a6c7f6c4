"""The shared-memory lane: clients on this host exchange tensors through memory that the server makes."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Callable, cast

from edge_runtime.errors import EdgeRuntimeError, InvalidRequestError
from edge_runtime.server.clients import client_of
from edge_runtime.server.lane_holdings import Holdings, LaneLimits, LaneModels
from edge_runtime.server.lane_region import LaneModel, MemoryBudget
from edge_runtime.server.lane_sender import LaneSender
from edge_runtime.wire import lane as wire


class LaneProtocol(asyncio.Protocol):
    """One connection over a Unix socket, from its first byte (`wire.MAGIC`) on; all of it is on the loop's thread.

    Args:
        models: where requests go.
        limits: what this connection may have open.
        budget: the bytes that all connections share.
        clock: where requests' arrivals are read from, in ns; the models' own clock.
        lost: is told when the connection is gone.
    """

    def __init__(
        self,
        models: LaneModels,
        limits: LaneLimits,
        budget: MemoryBudget,
        clock: Callable[[], int] = time.perf_counter_ns,
        lost: Callable[[LaneProtocol], None] | None = None,
    ) -> None:
        self._lost = lost
        self._clock = clock
        self._reader = wire.LaneReader(wire.CLIENT_LIMITS, wire.MAGIC)
        self._models = models
        self._limits = limits
        self._budget = budget
        self._is_lost = False
        self._is_closing = False
        self._is_reading = False
        self._will_flush = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes a connection over, of which nothing was read, or what was is given to `data_received` next."""
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)
        self._sender = LaneSender(self._transport, self._loop, self._unblocked)
        self._holdings = Holdings(self._models, self._limits, self._budget, self._answer, self._sender)
        self._holdings.client = client_of(transport)

    def data_received(self, data: bytes) -> None:
        """Does what the messages in `data` ask for."""
        arrival_ns = self._clock()
        self._holdings.settle()
        self._is_reading = True
        try:
            for record, payload in self._reader.messages(data):
                if self._is_closing:
                    break
                self._take(record, payload, arrival_ns)
        except InvalidRequestError as error:
            self._end_with(error)
        self._is_reading = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's)
        """Withdraws what waits, and frees the memory now or after the runs that use it."""
        self._is_lost = True
        self._holdings.drop()
        self._sender.close()
        if self._lost is not None:
            self._lost(self)

    def pause_writing(self) -> None:
        """The client doesn't read: what it sends isn't read either."""
        self._sender.pause()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has read."""
        self._sender.resume()

    def close(self) -> None:
        """Takes no more messages, and ends the connection after the last answer; idempotent."""
        self._is_closing = True
        self._transport.pause_reading()
        self._sender.withdraw()
        self._holdings.settle()
        self._flush()

    def abort(self) -> None:
        """Ends the connection at once, whatever is lost."""
        self._transport.abort()

    def forget(self, model: LaneModel) -> None:
        """Closes the regions of a model that is served no more, now or after the runs that use them."""
        self._holdings.forget(model)

    def _take(self, record: wire.Record, payload: bytes, arrival_ns: int) -> None:
        try:
            if record.kind == wire.RUN:
                self._holdings.run(record, arrival_ns)
            elif record.kind == wire.OPEN:
                self._holdings.open(record.request_id, wire.open_from_payload(payload))
            else:
                self._holdings.close(record.region, record.request_id)
        except EdgeRuntimeError as error:
            self._sender.add(wire.failed_message(record.request_id, error))

    def _answer(self, message: bytes, descriptor: int | None = None) -> None:
        """Sends at once what no other answer can join; else at the end of this turn of the loop."""
        if self._is_lost:
            if descriptor is not None:
                os.close(descriptor)
            return
        self._sender.add(message, descriptor)
        if self._is_reading or self._will_flush:
            return
        if self._holdings.is_running:
            self._will_flush = True
            self._loop.call_soon(self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        self._will_flush = False
        if self._is_lost:
            return
        self._sender.flush()
        if self._sender.is_blocked:
            self._transport.pause_reading()
        elif self._is_closing and not self._holdings.is_running:
            self._transport.close()

    def _unblocked(self) -> None:
        if self._is_closing:
            self._flush()
        else:
            self._transport.resume_reading()

    def _end_with(self, error: InvalidRequestError) -> None:
        """Ends a connection on which nothing that follows can be understood."""
        self._is_closing = True
        self._sender.add(wire.failed_message(0, error))
        self._sender.flush()
        if self._sender.is_blocked:
            self._transport.abort()
        else:
            self._transport.close()

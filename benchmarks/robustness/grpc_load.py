"""gRPC load by grpc.aio."""

from __future__ import annotations

import asyncio
import time
from typing import Any, List, Set

import grpc

from robustness.load import Order, Tally, arrivals_s
from robustness.nets import WIDTH
from robustness.requests import INFER_METHOD, TIMEOUT_S, grpc_infer

_GRACE_S = 4.0
_OK = 200
# As HTTP has it, so that one tally does for both.
_STATUS = {"RESOURCE_EXHAUSTED": 503, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 503}
_OTHER = 500
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


class GrpcLoad:
    """Channels to one server, and the request that all calls send."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._request = grpc_infer(order.model, bytes(4 * WIDTH))
        self._under_way: Set[asyncio.Task[None]] = set()
        self._calls: List[Any] = []
        self.tally = Tally()

    def open_loop(self) -> None:
        """Sends at seeded random times, whether answers come or not; waits a while for the last ones."""
        asyncio.run(self._with_channels(self._open()))

    def closed_loop(self) -> None:
        """Keeps so many calls under way until the time is over."""
        asyncio.run(self._with_channels(self._closed()))

    async def _with_channels(self, load: Any) -> None:
        channels = [grpc.aio.insecure_channel(self._order.address, _OPTIONS) for _ in range(self._order.channels)]
        self._calls = [channel.unary_unary(INFER_METHOD) for channel in channels]
        try:
            await load
        finally:
            for channel in channels:
                await channel.close()

    async def _open(self) -> None:
        order, begin_s = self._order, self._order.start_s
        for number, offset_s in enumerate(arrivals_s(order.rate, order.seconds, order.seed)):
            wait_s = begin_s + offset_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self.tally.late_ms.append((time.monotonic() - begin_s - offset_s) * 1000)
            task = asyncio.ensure_future(self._ask(number))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_GRACE_S)

    async def _closed(self) -> None:
        end_s = self._order.start_s + self._order.seconds

        async def keep(number: int) -> None:
            while time.monotonic() < end_s:
                await self._ask(number)

        await asyncio.sleep(max(0.0, self._order.start_s - time.monotonic()))
        await asyncio.gather(*(keep(number) for number in range(self._order.concurrency)))

    async def _ask(self, number: int) -> None:
        sent_s = time.monotonic()
        self.tally.sent += 1
        status = _OK
        try:
            await self._calls[number % len(self._calls)](self._request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            status = _STATUS.get(error.code().name, _OTHER)
        now_s = time.monotonic()
        self.tally.add(status, (now_s - sent_s) * 1000, now_s <= self._order.start_s + self._order.seconds)

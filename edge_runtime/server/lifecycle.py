"""A server's life: bind, answer, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from typing import Callable, Sequence

from edge_runtime.engine.engine import Engine
from edge_runtime.errors import ConfigError
from edge_runtime.server.grpc import bind_grpc, grpc_server
from edge_runtime.server.http_connection import HttpServer
from edge_runtime.server.models import ModelTable
from edge_runtime.server.settings import ServerSettings, address_text, loopback_address

logger = logging.getLogger(__name__)

_CLOSE_S = 1.0
EXIT_HUNG = 70


@dataclass(frozen=True)
class Bound:
    """The addresses that a server answers on, as HOST:PORT."""

    http: str
    grpc: str


@dataclass(frozen=True)
class Stop:
    """How a server is told to stop: `requested` drains first, `hurried` doesn't wait for that."""

    requested: asyncio.Event
    hurried: asyncio.Event

    def signalled(self) -> None:
        """The first signal asks to stop, the second to hurry."""
        (self.hurried if self.requested.is_set() else self.requested).set()


def run(engines: Sequence[Engine], settings: ServerSettings, on_ready: Callable[[Bound], None]) -> None:
    """Serves warmed engines until SIGTERM or SIGINT; what was taken in is answered, for `drain_s` at most.

    The process ends with status 70 if a run doesn't return even then: nothing else gets rid of it.

    Raises:
        ConfigError: an address can't be served.
    """

    async def until_signalled() -> bool:
        stop = Stop(asyncio.Event(), asyncio.Event())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.signalled)
        return await serve(engines, settings, on_ready, stop)

    if not asyncio.run(until_signalled()):
        logger.error("a run is still under way; ending the process")
        os._exit(EXIT_HUNG)


async def serve(
    engines: Sequence[Engine], settings: ServerSettings, on_ready: Callable[[Bound], None], stop: Stop
) -> bool:
    """Serves until told to stop; False if a run was still under way at the end.

    Raises:
        ConfigError: an address can't be served.
    """
    http_address = loopback_address(settings.http, "HTTP")
    grpc_address = loopback_address(settings.grpc, "gRPC")
    models = ModelTable(engines, settings.queue_size)
    http_factory = HttpServer(models, settings)
    grpc = grpc_server(models, settings)
    listener: asyncio.AbstractServer | None = None
    try:
        listener = await _listen(http_factory, *http_address)
        grpc_port = bind_grpc(grpc, *grpc_address)
        await grpc.start()
        models.is_ready = True
        http_port = listener.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        on_ready(Bound(address_text(http_address[0], http_port), address_text(grpc_address[0], grpc_port)))
        await stop.requested.wait()
        models.is_ready = False
        await _drained(models, settings.drain_s, stop.hurried)
    finally:
        models.is_ready = False
        if listener is not None:
            listener.close()
        loop = asyncio.get_running_loop()
        closed = await asyncio.gather(*(loop.run_in_executor(None, model.executor.close, _CLOSE_S) for model in models))
        http_factory.pre_shutdown()
        await asyncio.gather(http_factory.shutdown(_CLOSE_S), grpc.stop(_CLOSE_S))
    return all(closed)


async def _listen(factory: HttpServer, host: str, port: int) -> asyncio.AbstractServer:
    try:
        return await asyncio.get_running_loop().create_server(factory, host, port, reuse_port=False)
    except OSError as error:
        address = address_text(host, port)
        raise ConfigError(
            f"HTTP address {address}: can't be bound ({error.strerror}); choose another: --http HOST:PORT"
        ) from error


async def _drained(models: ModelTable, drain_s: float, hurried: asyncio.Event) -> None:
    """Waits until nothing is under way, time is up, or we are told to hurry."""
    waits = [asyncio.ensure_future(models.idle()), asyncio.ensure_future(hurried.wait())]
    await asyncio.wait(waits, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()

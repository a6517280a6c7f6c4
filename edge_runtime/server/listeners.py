"""Where a server listens, and what speaks there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Dict, List, Set, Tuple

from edge_runtime.errors import ConfigError
from edge_runtime.server.client_regions import ClientRegions
from edge_runtime.server.grpc_inference import GrpcCalls
from edge_runtime.server.http1.server import HttpServer
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.server.http2.server import Http2Server
from edge_runtime.server.lanes import Lanes
from edge_runtime.server.models import ModelTable
from edge_runtime.server.region_access import RegionAccess
from edge_runtime.server.settings import ServerSettings, address_text, loopback_address
from edge_runtime.server.unix_socket import UnixListener, UnixProtocol
from edge_runtime.wire.lane import PREFIX

_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Bound:
    """The addresses that a server answers on: HOST:PORT, and the path of the Unix socket, if it has one."""

    http: str
    grpc: str
    unix: str | None = None


class Speakers:
    """What speaks HTTP and gRPC with clients that may do the same with regions: a protocol factory for each."""

    def __init__(self, models: ModelTable, settings: ServerSettings, regions: RegionAccess) -> None:
        self.http: Any
        if settings.http_transport == "aiohttp":
            from edge_runtime.server.aiohttp_connection import AiohttpServer  # noqa: PLC0415  (loading it takes 0.2 s)

            self.http = AiohttpServer(models, settings, regions)
        else:
            self.http = HttpServer(models, settings, regions)
        limits = Http2Limits(
            max_message_bytes=settings.max_request_bytes,
            idle_timeout_s=settings.idle_timeout_s,
            body_timeout_s=settings.body_timeout_s,
        )
        self.http2 = Http2Server(GrpcCalls(models, regions), limits)

    async def close(self, timeout_s: float) -> None:
        """Ends all connections, once what is written has gone out or `timeout_s` is over."""
        self.http2.begin_drain()
        await asyncio.gather(self.http.close(timeout_s), self.http2.closed(timeout_s))
        self.http2.close_all()


class Listeners:
    """All that a server listens with."""

    def __init__(self, models: ModelTable, settings: ServerSettings) -> None:
        self._settings = settings
        self._addresses = {
            "http": loopback_address(settings.http, "HTTP"),
            "grpc": loopback_address(settings.grpc, "gRPC"),
        }
        self._regions = ClientRegions()
        on_tcp, on_unix = self._accesses(settings)
        self._tcp = Speakers(models, settings, on_tcp)
        self._unix = Speakers(models, settings, on_unix)
        self._grpcio: Any = None
        if settings.grpc_transport == "grpcio":
            from edge_runtime.server.grpcio_server import GrpcioServer  # noqa: PLC0415  (loading it takes 0.2 s)

            self._grpcio = GrpcioServer(models, settings, on_tcp)
        self._lanes = Lanes(models)
        self._undecided: Set[UnixProtocol] = set()
        self._listener: UnixListener | None = None
        self._servers: List[asyncio.AbstractServer] = []

    def _accesses(self, settings: ServerSettings) -> Tuple[RegionAccess, RegionAccess]:
        """What clients on TCP, all of whom are on this machine, and those on the Unix socket may do with regions."""
        allowed, limit = settings.allow_client_shm, settings.max_request_bytes
        on_tcp, on_unix = allowed is True, allowed is not False
        return (
            RegionAccess(self._regions if on_tcp else None, limit),
            RegionAccess(self._regions if on_unix else None, limit),
        )

    async def open(self) -> Bound:
        """Listens, and says where.

        Raises:
            ConfigError: an address can't be bound.
        """
        http = await self._listen("http", self._tcp.http)
        if self._grpcio is None:
            grpc = await self._listen("grpc", self._tcp.http2)
        else:
            host, port = self._addresses["grpc"]
            grpc = address_text(host, await self._grpcio.start(host, port))
        return Bound(http, grpc, await self._listen_unix())

    async def _listen(self, name: str, factory: Any) -> str:
        host, port = self._addresses[name]
        label = "HTTP" if name == "http" else "gRPC"
        try:
            server = await asyncio.get_running_loop().create_server(factory, host, port, reuse_port=False)
        except OSError as error:
            address = address_text(host, port)
            raise ConfigError(
                f"{label} address {address}: can't be bound ({error.strerror}); choose another: --{name} HOST:PORT"
            ) from error
        self._servers.append(server)
        return address_text(host, server.sockets[0].getsockname()[1])

    async def _listen_unix(self) -> str | None:
        path = self._settings.unix
        if path is None:
            return None
        by_prefix: Dict[bytes, Any] = {_HTTP2_PREFACE: self._unix.http2, PREFIX: self._lanes}
        patience_s = self._settings.idle_timeout_s
        self._listener = UnixListener(path)
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: UnixProtocol(by_prefix, self._unix.http, self._undecided, patience_s), sock=self._listener.socket
        )
        self._servers.append(server)
        return path

    def stop_listening(self) -> None:
        """Takes no new connections; idempotent."""
        for server in self._servers:
            server.close()
        self._servers = []
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def close(self, timeout_s: float) -> None:
        """Ends all connections, once what is written has gone out or `timeout_s` is over."""
        self.stop_listening()
        for connection in list(self._undecided):
            connection.close()
        self._lanes.close()
        closing = [self._tcp.close(timeout_s), self._unix.close(timeout_s)]
        closing += [] if self._grpcio is None else [self._grpcio.close(timeout_s)]
        await asyncio.gather(*closing)
        self._lanes.abort()
        self._regions.close()

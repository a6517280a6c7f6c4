"""Where a server listens, and what speaks there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Callable, Dict, Set

from edge_runtime.server.acceptor import Acceptor
from edge_runtime.server.access import Access, access_of
from edge_runtime.server.addresses import address_text, check_access, tcp_address
from edge_runtime.server.board import NO_BOARD, ServedBoard
from edge_runtime.server.client_regions import ClientRegions
from edge_runtime.server.grpc_gate import gates
from edge_runtime.server.grpc_inference import GrpcCalls
from edge_runtime.server.grpc_stream import STREAM_INFER
from edge_runtime.server.http1.server import HttpServer
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.server.http2.server import Http2Server
from edge_runtime.server.lanes import Lanes
from edge_runtime.server.live.feed import LiveFeed, live_feed
from edge_runtime.server.models import ModelTable
from edge_runtime.server.passed_sockets import NO_SOCKETS, PassedSockets
from edge_runtime.server.region_access import RegionAccess
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.tcp_listener import TcpListener
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
    """What speaks HTTP and gRPC with clients that may do the same: a protocol factory for each."""

    def __init__(
        self, models: ModelTable, settings: ServerSettings, regions: RegionAccess, access: Access, live: LiveFeed
    ) -> None:
        self.http: Any
        if settings.http_transport == "aiohttp":
            from edge_runtime.server.aiohttp_connection import AiohttpServer  # noqa: PLC0415  (loading it takes 0.2 s)

            self.http = AiohttpServer(models, settings, regions, access, live)
        else:
            self.http = HttpServer(models, settings, regions, access, live)
        limits = Http2Limits(
            max_message_bytes=settings.max_request_bytes,
            idle_timeout_s=settings.idle_timeout_s,
            body_timeout_s=settings.body_timeout_s,
        )
        self.http2 = Http2Server(GrpcCalls(models, regions), limits, gates(access), (STREAM_INFER,))

    async def close(self, timeout_s: float) -> None:
        """Ends all connections, once what is written has gone out or `timeout_s` is over."""
        self.http2.begin_drain()
        await asyncio.gather(self.http.close(timeout_s), self.http2.closed(timeout_s))
        self.http2.close_all()


class Listeners:
    """All that a server listens with; `sockets` are those that listen already, wherever that is.

    Raises:
        ConfigError: the settings would let strangers in, or name files of TLS or tokens that can't be used.
    """

    def __init__(
        self,
        models: ModelTable,
        settings: ServerSettings,
        board: ServedBoard = NO_BOARD,
        sockets: PassedSockets = NO_SOCKETS,
    ) -> None:
        settings = sockets.settings(settings)
        check_access(settings)
        self._settings = settings
        self._passed = passed = sockets.by_name
        self._access = access_of(settings)
        self._live = live_feed(models, board)
        self._regions = ClientRegions()
        allowed, limit = settings.allow_client_shm, settings.max_request_bytes
        theirs, none = RegionAccess(self._regions, limit), RegionAccess(None, limit)
        on_tcp = theirs if allowed is True else none
        self._tcp = Speakers(models, settings, on_tcp, self._access, self._live)
        self._remote = Speakers(models, settings, none, self._access, self._live)
        self._unix = Speakers(models, settings, none if allowed is False else theirs, self._access, self._live)
        strangers = self._access.newcomers
        self._listening = {
            "http": TcpListener(
                "http", settings, self._tcp.http, self._remote.http, strangers, passed=passed.get("http")
            ),
            "grpc": TcpListener(
                "grpc", settings, self._tcp.http2, self._remote.http2, strangers, passed=passed.get("grpc")
            ),
        }
        self._grpcio: Any = None
        if settings.grpc_transport == "grpcio":
            from edge_runtime.server.grpcio_server import GrpcioServer  # noqa: PLC0415  (loading it takes 0.2 s)

            self._grpcio = GrpcioServer(models, settings, on_tcp, self._access)
            del self._listening["grpc"]
        self._lanes = Lanes(models)
        self._undecided: Set[UnixProtocol] = set()
        self._unix_listener: UnixListener | None = None
        self._unix_server: Acceptor | None = None

    async def open(self) -> Bound:
        """Listens, and says where.

        Raises:
            ConfigError: an address can't be bound.
        """
        bound = {name: await listener.open() for name, listener in self._listening.items()}
        if self._grpcio is not None:
            host, port = tcp_address(self._settings.grpc, "gRPC")
            bound["grpc"] = address_text(host, await self._grpcio.start(host, port))
        return Bound(bound["http"], bound["grpc"], await self._listen_unix())

    def renewal(self) -> Callable[[], None]:
        """Reads tokens, certificates and authorities anew; what is given lets them hold, and can't fail.

        Connections that are there stay, under the new tokens.

        Raises:
            ConfigError: some can't be used.
        """
        tokens = self._access.read()
        contexts = {name: listener.context() for name, listener in self._listening.items()}

        def renew() -> None:
            for name, listener in self._listening.items():
                listener.renew(contexts[name])
            self._access.tokens = tokens
            self._live.end()

        return renew

    async def _listen_unix(self) -> str | None:
        path = self._settings.unix
        if path is None:
            return None
        by_prefix: Dict[bytes, Any] = {_HTTP2_PREFACE: self._unix.http2, PREFIX: self._lanes}
        patience_s = self._settings.idle_timeout_s
        listening = self._passed.get("unix")
        if listening is None:
            self._unix_listener = UnixListener(path)
            listening = self._unix_listener.socket
        self._unix_server = Acceptor(
            listening,
            lambda: UnixProtocol(by_prefix, self._unix.http, self._undecided, patience_s),
        )
        return path

    def stop_listening(self) -> None:
        """Takes no new connections; idempotent."""
        for listener in self._listening.values():
            listener.close()
        if self._unix_server is not None:
            self._unix_server.close()
            self._unix_server = None
        if self._unix_listener is not None:
            self._unix_listener.close()
            self._unix_listener = None

    async def close(self, timeout_s: float) -> None:
        """Ends all connections, once what is written has gone out or `timeout_s` is over."""
        self.stop_listening()
        self._live.close()
        for connection in list(self._undecided):
            connection.close()
        self._lanes.close()
        closing = [speakers.close(timeout_s) for speakers in (self._tcp, self._remote, self._unix)]
        closing += [] if self._grpcio is None else [self._grpcio.close(timeout_s)]
        await asyncio.gather(*closing)
        self._lanes.abort()
        self._regions.close()

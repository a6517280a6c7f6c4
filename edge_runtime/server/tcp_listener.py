"""One TCP address: plain or TLS, whose certificate may be renewed while it listens."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any, Callable, cast

from edge_runtime.server.acceptor import Acceptor
from edge_runtime.server.addresses import LABELS, address_text, is_loopback, tcp_address, unbindable
from edge_runtime.server.newcomers import Newcomers
from edge_runtime.server.settings import ServerSettings
from edge_runtime.wire.tls import server_context

_ALPN = {"http": "http/1.1", "grpc": "h2"}
_BACKLOG = 1024

Factory = Callable[[], Any]


class TcpListener:
    """Listens at the address `http` or `grpc` of the settings.

    `local` makes the protocols of connections from this machine, `remote` those of others. `newcomers` bounds how many
    have shown no right yet. `passed` is a socket that listens there already.
    """

    def __init__(
        self,
        name: str,
        settings: ServerSettings,
        local: Factory,
        remote: Factory,
        newcomers: Newcomers | None = None,
        *,
        passed: socket.socket | None = None,
    ) -> None:
        self._passed = passed
        self._newcomers = newcomers
        self._name = name
        self._settings = settings
        self._host, self._port = tcp_address(getattr(settings, name), LABELS[name])
        is_decided = is_loopback(self._host) and settings.tls_certificate is None
        self._factory = local if is_decided else lambda: _ByPeer(local, remote)
        self._acceptor: Acceptor | None = None

    def context(self) -> ssl.SSLContext | None:
        """TLS from the files as they are now; None where it isn't spoken.

        Raises:
            ConfigError: they can't be used.
        """
        settings = self._settings
        if settings.tls_certificate is None or settings.tls_key is None:
            return None
        authorities = None if settings.tls_client_ca is None else Path(settings.tls_client_ca)
        return server_context(Path(settings.tls_certificate), Path(settings.tls_key), authorities, _ALPN[self._name])

    async def open(self) -> str:
        """Listens, and gives HOST:PORT.

        Raises:
            ConfigError: the address can't be bound, or TLS can't be had.
        """
        context = self.context()
        listening = self._passed or self._bound()
        self._acceptor = Acceptor(listening, self._factory, context, self._newcomers)
        return address_text(self._host, listening.getsockname()[1])

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # Named, the protocol is that of its connections too: asyncio sets TCP_NODELAY on no others.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listening.bind((self._host, self._port))
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise unbindable(self._name, self._host, self._port, error) from error
        return listening

    def renew(self, context: ssl.SSLContext | None) -> None:
        """Takes new connections with another TLS from here on; needs nothing that could be lacking."""
        if self._acceptor is not None:
            self._acceptor.context = context

    def close(self) -> None:
        """Takes no new connections; idempotent."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None


class _ByPeer(asyncio.Protocol):
    """Hands a connection over to what speaks with clients of this machine, or with others, which is made for it then.

    So one whose TLS handshake isn't done has no buffer yet.
    """

    def __init__(self, local: Factory, remote: Factory) -> None:
        self._local = local
        self._remote = remote

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        is_local = bool(peer) and is_loopback(peer[0])
        protocol = (self._local if is_local else self._remote)()
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)

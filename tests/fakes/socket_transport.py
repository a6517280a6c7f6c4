"""As much of one of asyncio's transports as sending past it needs."""

from __future__ import annotations

import socket
import ssl
from typing import Any


class SocketTransport:
    """Has a socket, perhaps TLS over it, and so many bytes that it has yet to send."""

    def __init__(self, connection: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._extra = {"socket": connection, "sslcontext": tls}
        self.unsent = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> Any:
        return self._extra[name]

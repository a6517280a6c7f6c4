"""As much of one of asyncio's transports as sending past it needs."""

from __future__ import annotations

import socket


class SocketTransport:
    """Has a socket, and so many bytes that it has yet to send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.unsent = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self._connection

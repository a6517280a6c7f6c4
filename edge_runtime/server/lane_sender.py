"""What a lane's connection sends: messages joined into one write, and descriptors beside them."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from typing import Any, Callable, Deque, List, Tuple

from edge_runtime.server.direct_socket import DirectSocket


class LaneSender:
    """Sends in order. A message with a descriptor waits until all before it is with the kernel.

    Asyncio can't send descriptors: such a message goes past the transport, over a duplicate of its socket.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, unblocked: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._unblocked = unblocked
        self._waiting: Deque[Tuple[bytes, int | None]] = deque()
        self._socket: socket.socket | None = None  # there while a descriptor waits for the client to read
        self._is_paused = False
        self._direct = DirectSocket()
        transport.set_write_buffer_limits(high=0)

    @property
    def is_blocked(self) -> bool:
        """Whether the client has to read before more can be sent; `unblocked` is called when it has."""
        return self._is_paused or self._socket is not None

    def add(self, data: bytes, descriptor: int | None = None) -> None:
        """Queues a message; the descriptor is this object's from now on, and closed when it is sent."""
        self._waiting.append((data, descriptor))

    def flush(self) -> None:
        """Sends what is queued, as far as the client reads."""
        if self._waiting and not self.is_blocked:
            self._direct.withdraw()
            self._direct.finish()
        while self._waiting and not self.is_blocked:
            data, descriptor = self._waiting.popleft()
            if descriptor is not None:
                duplicate = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
                self._send_descriptor(duplicate, data, descriptor)
                continue
            joined: List[bytes] = [data]
            while self._waiting and self._waiting[0][1] is None:
                joined.append(self._waiting.popleft()[0])
            self._transport.write(b"".join(joined) if len(joined) > 1 else data)

    def offer(self, owner: object) -> bool:
        """Whether `owner` may send one message past the transport, from any thread."""
        return not self._waiting and not self.is_blocked and self._direct.offer(self._transport, owner)

    def send(self, owner: object, message: bytes) -> Any:
        """Sends a message by an offer; gives what `DirectSocket.deliver` does."""
        return self._direct.deliver(owner, message)

    def take_sent(self, owner: object = None) -> Any:
        """The owner whose message was sent so, if that wasn't known yet; only `owner`, if one is given."""
        return self._direct.take_sent(owner)

    def withdraw(self) -> None:
        """Ends the offer."""
        self._direct.withdraw()

    def abort(self) -> None:
        """Drops the connection."""
        self._transport.abort()

    def pause(self) -> None:
        """Says that the transport's buffer isn't empty."""
        self._is_paused = True

    def resume(self) -> None:
        """Says that the transport's buffer is empty again."""
        self._is_paused = False
        self._go_on()

    def close(self) -> None:
        """Drops what is queued; idempotent."""
        self._direct.close()
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        while self._waiting:
            descriptor = self._waiting.popleft()[1]
            if descriptor is not None:
                os.close(descriptor)

    def _send_descriptor(self, duplicate: socket.socket, data: bytes, descriptor: int) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        try:
            sent = duplicate.sendmsg([data], [rights], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self._waiting.appendleft((data, descriptor))
            self._socket = duplicate
            self._loop.add_writer(duplicate, self._retry, duplicate)
            return
        except OSError:  # the client is gone
            sent = len(data)
            self._transport.abort()
        duplicate.close()
        os.close(descriptor)
        if sent < len(data):
            self._transport.write(data[sent:])

    def _retry(self, duplicate: socket.socket) -> None:
        self._loop.remove_writer(duplicate)
        self._socket = None
        data, descriptor = self._waiting.popleft()
        assert descriptor is not None
        self._send_descriptor(duplicate, data, descriptor)
        self._go_on()

    def _go_on(self) -> None:
        self.flush()
        if not self.is_blocked:
            self._unblocked()

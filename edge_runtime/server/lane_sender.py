"""What a lane's connection sends: messages joined into one write, and descriptors beside them."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from typing import Callable, Deque, List, Tuple


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
        self._direct: socket.socket | None = None
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

    def can_send(self) -> bool:
        """Whether the next message may go past the transport, from any thread, as long as nothing else is sent."""
        if self._waiting or self.is_blocked or self._transport.get_write_buffer_size():
            return False
        if self._direct is None:
            with contextlib.suppress(OSError):  # out of descriptors
                self._direct = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
                self._direct.setblocking(False)
        return self._direct is not None

    def send(self, message: bytes) -> bool:
        """Whether the kernel took a message whole; see `can_send`."""
        try:
            return self._direct is not None and self._direct.send(message) == len(message)
        except OSError:  # the client doesn't read, or is gone, which the loop finds out
            return False

    def release(self) -> None:
        """Gives back what `send` needed, which nobody is in any more; idempotent."""
        if self._direct is not None:
            self._direct.close()
            self._direct = None

    def pause(self) -> None:
        """Says that the transport's buffer isn't empty."""
        self._is_paused = True

    def resume(self) -> None:
        """Says that the transport's buffer is empty again."""
        self._is_paused = False
        self._go_on()

    def close(self) -> None:
        """Drops what is queued; idempotent."""
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

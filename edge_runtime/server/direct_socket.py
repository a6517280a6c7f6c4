"""Sending past asyncio's transport, from a lane's thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from typing import Any

from edge_runtime.scheduling.request import DELIVERED

BROKEN: Any = object()

LARGEST_NBYTES = 64 << 10  # beyond that the loop's wake-up is little beside the sending


class DirectSocket:
    """A second way to send over a connection, for one answer at a time that is ready while nothing else is to be sent.

    The loop offers it to an owner, and withdraws the offer before it sends anything itself. An answer counts as sent
    from just before its bytes go out, for the client may go on sooner than the thread that sends does; what the loop
    sends next goes out behind it, after `finish`. An answer has at most `largest` bytes. Unless `can_rest`, one that
    the kernel takes only in part breaks the connection: something else could be sent before its rest.
    The socket has a descriptor of its own from its first offer until `close`: the transport's may be closed, and its
    number given to another connection, while it is used.
    """

    __slots__ = (
        "_can_rest",
        "_is_closed",
        "_is_sending",
        "_largest",
        "_offered",
        "_sending",
        "_sent",
        "_socket",
        "_state",
    )

    def __init__(self, largest: int = LARGEST_NBYTES, can_rest: bool = False) -> None:
        self._largest = largest
        self._can_rest = can_rest
        self._sending = threading.Lock()  # held while bytes go out
        self._state = threading.Lock()  # never held for long
        self._offered: Any = None
        self._sent: Any = None
        self._socket: socket.socket | None = None
        self._is_sending = False
        self._is_closed = False

    def offer(self, transport: asyncio.Transport, owner: object) -> bool:
        """Whether `owner` may send one answer past the transport; not if another one may already."""
        is_free = self._offered is None and self._sent is None and not self._is_closed
        if not is_free or transport.get_write_buffer_size():
            return False
        if self._socket is None:
            if transport.get_extra_info("sslcontext") is not None:  # what goes past TLS would go out in clear
                return False
            try:
                self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            except OSError:  # out of descriptors
                return False
            self._socket.setblocking(False)
        self._offered = owner
        return True

    def deliver(self, owner: object, data: bytes) -> Any:
        """Sends an answer, on any thread, if the offer stands; gives what is left of it, or `DELIVERED`.

        `BROKEN`, if the kernel took a part and the rest can't follow, or if the loop took the answer as sent before it
        was clear that the kernel doesn't take all of it: nothing goes out any more, and the connection must be dropped.
        """
        with self._sending:
            with self._state:
                if self._offered is not owner or self._socket is None or len(data) > self._largest:
                    return data
                self._offered, self._sent, self._is_sending = None, owner, True
            count = 0
            with contextlib.suppress(OSError):  # the client is gone, which the loop finds out
                count = self._socket.send(data)
            with self._state:
                self._is_sending = False
                was_taken = self._sent is not owner
                is_broken = count < len(data) and (was_taken or (count > 0 and not self._can_rest))
                if count < len(data) and not was_taken:
                    self._sent = None
                if is_broken:
                    with contextlib.suppress(OSError):  # what goes behind it must not go in its place
                        self._socket.shutdown(socket.SHUT_RDWR)
                if self._is_closed:
                    self._give_back()
        if count == len(data):
            return DELIVERED
        return BROKEN if is_broken else memoryview(data)[count:]

    def take_sent(self, owner: object = None) -> Any:
        """The owner whose answer was sent, if the loop didn't know that yet; only `owner`, if one is given."""
        if self._sent is None:
            return None
        with self._state:
            sent = self._sent
            if owner is not None and sent is not owner:
                return None
            self._sent = None
        return sent

    def withdraw(self) -> None:
        """Ends the offer: nothing is sent by it from here on."""
        if self._offered is not None:
            with self._state:
                self._offered = None

    def finish(self) -> None:
        """Waits until what counts as sent has gone to the kernel."""
        if self._is_sending:
            with self._sending:
                pass

    def close(self) -> None:
        """Ends the offer, and gives the descriptor back when nobody uses it any more; idempotent."""
        with self._state:
            self._offered = None
            self._is_closed = True
            if not self._is_sending:
                self._give_back()

    def _give_back(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

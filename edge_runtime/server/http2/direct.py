"""An answer that a lane's thread sends itself, while the loop has nothing to send on the connection."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct
import termios
from typing import Any

from edge_runtime.server.direct_socket import DirectSocket
from edge_runtime.server.http2.call import UnaryCall
from edge_runtime.server.http2.intake import PREFIX_NBYTES
from edge_runtime.server.http2.outbox import Outbox, answer_frames

_LARGEST_NBYTES = 8 << 10  # of an answer which the kernel surely takes whole when it has nothing else to send
_NOTHING = struct.pack("i", 0)


class DirectAnswer:
    """The offer to send one call's answer past the loop.

    It stands until the loop withdraws it, which it does before it answers or writes anything else on the connection,
    and before its next read: nothing takes from the windows while it stands.
    """

    __slots__ = ("_outbox", "socket", "transport")

    def __init__(self, outbox: Outbox) -> None:
        self.transport: asyncio.Transport | None = None
        self.socket = DirectSocket(_LARGEST_NBYTES)
        self._outbox = outbox

    def offer(self, call: UnaryCall) -> bool:
        """Whether `deliver` may be called once for this call, the only one on its connection."""
        outbox, transport = self._outbox, self.transport
        if transport is None or not outbox.is_clear or not _is_read(transport):
            return False
        call.direct_nbytes = min(outbox.window, call.window, outbox.max_frame)
        return self.socket.offer(transport, call)

    def deliver(self, call: UnaryCall, message: bytes) -> Any:
        """Sends an answer, on a lane's thread.

        Gives the message if nothing of it was sent, and otherwise what `DirectSocket.deliver` does.
        """
        size = PREFIX_NBYTES + len(message)
        if size > call.direct_nbytes:
            return message
        call.direct_nbytes = size
        frames = answer_frames(call, (message,), len(message))
        left = self.socket.deliver(call, frames)
        return message if isinstance(left, (bytes, memoryview)) and len(left) == len(frames) else left

    def withdraw(self) -> UnaryCall | None:
        """Ends the offer; the call, if its answer was sent and the loop didn't know that yet."""
        self.socket.withdraw()
        call: UnaryCall | None = self.socket.take_sent()
        return call


def _is_read(transport: asyncio.Transport) -> bool:
    """Whether the client took all that was sent before."""
    with contextlib.suppress(OSError):
        return fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, _NOTHING) == _NOTHING
    return False

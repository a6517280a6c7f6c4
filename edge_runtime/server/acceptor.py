"""Takes connections from a listening socket, and waits where the process has no descriptor left for one."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any, Callable, Dict, Set, cast

from edge_runtime.server.newcomers import Newcomers

logger = logging.getLogger(__name__)

_AT_ONCE = 64
_PAUSE_S = 0.1
_QUIET_S = 60.0
_HANDSHAKE_S = 10.0


class Acceptor:
    """Makes a protocol of `factory` for each connection until it is closed; the socket is its own from then on.

    asyncio's servers try a whole backlog of connections after the first that can't be had, with a traceback for each.

    Args:
        listening: a socket that listens, and doesn't block.
        factory: makes protocols.
        context: TLS, which may be changed for the connections to come; None where it isn't spoken.
        newcomers: bounds how many connections on TCP have shown no right yet; None where all may connect.
    """

    def __init__(
        self,
        listening: socket.socket,
        factory: Callable[[], Any],
        context: ssl.SSLContext | None = None,
        newcomers: Newcomers | None = None,
    ) -> None:
        self._socket = listening
        self._factory = factory
        self.context = context
        self._loop = cast(asyncio.BaseEventLoop, asyncio.get_running_loop())
        self._beginning: Set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._quiet_until_s: Dict[str, float] = {}
        is_open = newcomers is None or (context is None and not newcomers.need_tokens)
        self._newcomers = None if is_open else newcomers
        most = (
            _AT_ONCE if self._newcomers is None else self._newcomers.most // 16
        )  # each has turns before others end it
        self._at_once = max(1, min(_AT_ONCE, most))
        self._go_on()

    def close(self) -> None:
        """Takes no new connections; idempotent. Those that are there stay."""
        if self._pause is not None:
            self._pause.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                connection, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait(error)
                return
            connection.setblocking(False)
            newcomers = self._newcomers
            if newcomers is not None and newcomers.begin(connection, peer[0]):
                self._warn("connections that had shown no right had to end: over %d at once", newcomers.most)
            task = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    def _wait(self, error: OSError) -> None:
        """Tries again later: the connection stays in the kernel's queue, which would wake us at once."""
        self._loop.remove_reader(self._socket)
        self._pause = self._loop.call_later(_PAUSE_S, self._go_on)
        self._warn("new connections have to wait: %s; raise the limit of open files", error.strerror)

    def _warn(self, text: str, what: object) -> None:
        """Says each thing once a minute at most."""
        now_s = self._loop.time()
        if now_s >= self._quiet_until_s.get(text, now_s):
            self._quiet_until_s[text] = now_s + _QUIET_S
            logger.warning(text, what)

    async def _begin(self, connection: socket.socket) -> None:
        timeout_s = None if self.context is None else _HANDSHAKE_S
        try:
            await self._loop.connect_accepted_socket(
                self._factory, connection, ssl=self.context, ssl_handshake_timeout=timeout_s
            )
        except (OSError, asyncio.TimeoutError) as error:  # a client that fails the handshake, or is gone
            logger.debug("a connection didn't begin: %s", type(error).__name__)
            error.__traceback__ = None  # whose frames know the error: nothing of the connection would be freed
            return
        if self._newcomers is not None and not self._newcomers.need_tokens:
            self._newcomers.end(connection.fileno())

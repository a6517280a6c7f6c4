"""The Unix socket: HTTP, gRPC and the shared-memory lane on one path, told apart by a connection's first bytes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Any, Callable, Dict, Set, cast

from edge_runtime.errors import ConfigError

_MODE = 0o660
_MAX_PATH_NBYTES = 107
_SOCKET_NBYTES = 1 << 20
_BACKLOG = 100

Factory = Callable[[], Any]


class UnixProtocol(asyncio.Protocol):
    """Hands a connection over to what its first bytes ask for; what they don't decide is HTTP/1.1.

    One that doesn't decide within `patience_s` is closed; `pending` has those that may still.
    """

    def __init__(
        self, by_prefix: Dict[bytes, Factory], otherwise: Factory, pending: Set[UnixProtocol], patience_s: float
    ) -> None:
        self._patience_s = patience_s
        self._by_prefix = by_prefix
        self._otherwise = otherwise
        self._pending = pending
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enlarges the socket's buffers: a tensor then takes few system calls."""
        self._transport = cast(asyncio.Transport, transport)
        self._pending.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._patience_s, self.close)
        enlarge_buffers(transport)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002
        """The client went before it said anything."""
        self._pending.discard(self)
        self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Finds out who takes the connection over."""
        self._received += data
        for prefix, factory in self._by_prefix.items():
            size = min(len(prefix), len(self._received))
            if self._received[:size] == prefix[:size]:
                if size == len(prefix):
                    self._hand_over(factory())
                return
        self._hand_over(self._otherwise())

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()

    def _hand_over(self, protocol: Any) -> None:
        transport = self._transport
        assert transport is not None
        self._pending.discard(self)
        self._timer.cancel()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        feed(protocol, self._received)


def feed(protocol: Any, data: bytes) -> None:
    """Gives received bytes to a protocol of either kind."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        protocol.data_received(data)
        return
    left = memoryview(data)
    while left:
        buffer: Any = protocol.get_buffer(len(left))
        size = min(len(buffer), len(left))
        assert size, "a protocol that has just begun takes what there is"
        buffer[:size] = left[:size]
        protocol.buffer_updated(size)
        left = left[size:]


def enlarge_buffers(transport: asyncio.BaseTransport) -> None:
    """Gives a connection's socket buffers of 1 MB."""
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_NBYTES)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_NBYTES)


class UnixListener:
    """A socket that listens at a path, for its owner and group; one left behind by a dead server is taken over.

    A lock beside the path says that it is in use, for as long as this object isn't closed.

    Raises:
        ConfigError: the path can't be bound, or another server listens there.
    """

    def __init__(self, path: str) -> None:
        if len(os.fsencode(path)) > _MAX_PATH_NBYTES or "\0" in path:
            raise ConfigError(
                f"Unix socket {path!r}: longer than {_MAX_PATH_NBYTES} bytes; choose a shorter path: --unix PATH"
            )
        self._path = Path(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.ExitStack() as undo:
                undo.callback(self.socket.close)
                self._lock = _locked(f"{path}.lock", path)
                undo.callback(os.close, self._lock)
                undo.callback(os.unlink, f"{path}.lock")
                _clear(path)
                self._bind(path)
                undo.pop_all()
        except OSError as error:
            raise ConfigError(
                f"Unix socket {path}: can't be bound ({error.strerror}); choose another: --unix PATH"
            ) from error

    def _bind(self, path: str) -> None:
        mask = os.umask(0o777 & ~_MODE)
        try:
            self.socket.bind(path)
        finally:
            os.umask(mask)
        self._inode = self._path.lstat().st_ino
        self.socket.listen(_BACKLOG)
        self.socket.setblocking(False)

    def close(self) -> None:
        """Removes the socket, if it is still ours, and lets others have the path; the socket itself is its server's."""
        with contextlib.suppress(OSError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()
        with contextlib.suppress(OSError):
            Path(f"{self._path}.lock").unlink()
        os.close(self._lock)


def _locked(lock_path: str, path: str) -> int:
    """A descriptor of a lock file that nobody else has locked.

    Raises:
        ConfigError: somebody has.
    """
    while True:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == Path(lock_path).lstat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise _in_use(path) from None
        except FileNotFoundError:
            pass
        os.close(descriptor)  # who had it before us has removed it meanwhile


def _in_use(path: str) -> ConfigError:
    return ConfigError(f"Unix socket {path}: another server listens there; choose another: --unix PATH")


def _clear(path: str) -> None:
    """Removes a socket at which nobody listens."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"Unix socket {path}: something else is there; choose another: --unix PATH")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except OSError:
            pass
    raise _in_use(path)

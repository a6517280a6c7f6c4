from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import pytest

from edge_runtime.server.acceptor import Acceptor


class ShortSocket(socket.socket):
    """A listening socket for whose connections a made-up process has no descriptor, so many times."""

    refusals = 0

    def accept(self) -> Any:
        if self.refusals:
            type(self).refusals -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("edge_runtime.server.acceptor._PAUSE_S", 0.01)
    with ShortSocket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        made.setblocking(False)
        yield made


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.write(b"hello")
        transport.close()


async def greeted(listening: socket.socket, count: int) -> list[bytes]:
    acceptor = Acceptor(listening, Greeting)
    streams = [await asyncio.open_connection(*listening.getsockname()) for _ in range(count)]
    found = [await asyncio.wait_for(reader.read(), 10) for reader, _ in streams]
    for _, writer in streams:
        writer.close()
    acceptor.close()
    acceptor.close()
    return found


def test_every_connection_of_the_queue_is_taken(listening) -> None:
    assert asyncio.run(greeted(listening, 100)) == [b"hello"] * 100


def test_connections_wait_for_descriptors_which_is_said_once(listening, monkeypatch, caplog) -> None:
    monkeypatch.setattr(ShortSocket, "refusals", 3)
    assert asyncio.run(greeted(listening, 2)) == [b"hello"] * 2
    assert ShortSocket.refusals == 0
    (line,) = caplog.messages
    assert line == "new connections have to wait: Too many open files; raise the limit of open files"


def test_one_that_waits_can_be_closed(listening, monkeypatch) -> None:
    monkeypatch.setattr(ShortSocket, "refusals", 1 << 30)

    async def main() -> None:
        acceptor = Acceptor(listening, Greeting)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(), 0.05)
        acceptor.close()
        writer.close()

    asyncio.run(main())
    assert listening.fileno() < 0
    assert 2 < (1 << 30) - ShortSocket.refusals < 20

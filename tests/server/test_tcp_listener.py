from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.tcp_listener import TcpListener


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_small_answers_do_not_wait_for_acknowledgements(host) -> None:
    options: list[int] = []

    class Looking(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def main() -> None:
        listener = TcpListener("http", ServerSettings(http=f"{host}:0"), Looking, Looking)
        _, port = (await listener.open()).rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
        listener.close()

    asyncio.run(main())
    assert options == [1]

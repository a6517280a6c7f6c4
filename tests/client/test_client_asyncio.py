"""What is asyncio's own: cancelled calls, many at once, and Unix sockets."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

from edge_runtime.client import AsyncClient, Client
from edge_runtime.errors import RemoteError, ServerUnavailableError

FEEDS = {"x": np.arange(4, dtype=np.float32)}
EMPTY = b'{"outputs": []}'


class AsyncScript:
    """A made-up server on the test's own loop: `answer` is called with each request's connection number and bytes."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.connections = 0
        self.ended = asyncio.Queue()

    async def serve(self, reader, writer) -> None:
        number = self.connections
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
                )
                answer = await self.answer(number, head + await reader.readexactly(size))
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.put_nowait(number)
        finally:
            writer.close()


def run(test):
    asyncio.run(asyncio.wait_for(test, 20))


async def started(script, path=None):
    if path is None:
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    return await asyncio.start_unix_server(script.serve, path), f"unix://{path}"


def test_a_cancelled_call_closes_its_connection_and_the_next_has_another(http_answer):
    async def test():
        asked = asyncio.Event()

        async def answer(number, request):
            if number == 0:
                asked.set()
                return b""
            return http_answer(EMPTY)

        script = AsyncScript(answer)
        server, url = await started(script)
        async with server, AsyncClient(url) as client:
            call = asyncio.ensure_future(client.infer("m", FEEDS))
            await asked.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await script.ended.get() == 0
            assert await client.infer("m", FEEDS) == {}
            assert script.connections == 2

    run(test())


def test_calls_at_once_have_connections_of_their_own_and_later_ones_share(http_answer):
    async def test():
        together = asyncio.Event()
        waiting = []

        async def answer(number, request):
            waiting.append(number)
            if len(waiting) == 3:
                together.set()
            await together.wait()
            return http_answer(EMPTY)

        script = AsyncScript(answer)
        server, url = await started(script)
        async with server, AsyncClient(url) as client:
            await asyncio.gather(*(client.infer("m", FEEDS) for _ in range(3)))
            await client.infer("m", FEEDS)
            assert script.connections == 3

    run(test())


def test_both_clients_speak_http_over_a_unix_socket(http_answer, tmp_path):
    path = str(tmp_path / "s")

    async def test():
        async def answer(number, request):
            assert b"Host: localhost\r\n" in request
            return http_answer(EMPTY)

        server, url = await started(AsyncScript(answer), path)
        async with server, AsyncClient(url) as client:
            assert await client.infer("m", FEEDS) == {}
            blocking = Client(url)
            assert await asyncio.get_running_loop().run_in_executor(None, blocking.infer, "m", FEEDS) == {}
            blocking.close()

    run(test())


def test_an_early_refusal_is_read_though_the_server_stopped_reading(http_answer):
    async def test():
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http_answer(b"too large", status=413, extra="Connection: close\r\n"))
            await writer.drain()
            await asked.wait()
            writer.close()

        asked = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, AsyncClient(url) as client:
            with pytest.raises(RemoteError, match="413"):
                await client.infer("m", {"x": np.zeros(1 << 24, np.float32)})
            asked.set()

    run(test())


def test_a_kept_connection_that_the_server_closed_is_replaced(http_answer):
    async def test():
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http_answer(b""))
            await writer.drain()
            writer.close()
            closed.set()

        closed = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, AsyncClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            for _ in range(3):
                closed.clear()
                assert await client.is_live()
                await closed.wait()

    run(test())


def test_a_silent_server_is_unavailable_after_the_time_limit():
    async def test():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with AsyncClient(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.05) as client:
                with pytest.raises(ServerUnavailableError, match=r"no answer within 0\.05 s"):
                    await client.infer("m", FEEDS)
                assert not await client.is_live()

    run(test())


def test_a_closed_client_says_so():
    async def test():
        client = AsyncClient("http://127.0.0.1:1")
        await client.close()
        await client.close()
        with pytest.raises(ServerUnavailableError, match="this client is closed"):
            await client.infer("m", FEEDS)

    run(test())


def test_bytes_that_nobody_asked_for_end_a_kept_connection(http_answer):
    async def test():
        sent = asyncio.Event()

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http_answer(b""))
            await writer.drain()
            writer.write(http_answer(b"", status=500))
            await writer.drain()
            sent.set()
            assert await reader.read() == b""
            ended.set()
            writer.close()

        ended = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, AsyncClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            assert await client.is_live()
            await ended.wait()
            assert sent.is_set()

    run(test())

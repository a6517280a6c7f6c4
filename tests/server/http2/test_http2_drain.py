"""How connections end when the server wants them to."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import threading
import weakref

import grpc
import pytest
from fakes.http2_client import GOAWAY, PING, Frame, RawClient, call, frame, head, message
from fakes.http2_server import Http2Fixture

from edge_runtime.server.http2.server import Http2Server


def goaways(frames: list[Frame]) -> list[tuple[int, int]]:
    """Last stream and code of each."""
    return [struct.unpack(">LL", each.payload[:8]) for each in frames if each.kind == GOAWAY]


def pong(frames: list[Frame]) -> bytes:
    """The answer to the server's own PING."""
    return frame(PING, 1, 0, next(each.payload for each in frames if each.kind == PING and not each.flags))


def test_a_drain_has_two_steps_and_ends_with_the_last_answer(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(call(1, b"", "/t.T/Hold"))
        client.settled()
        server.run(server.server.begin_drain)
        assert goaways(client.settled()) == [(2**31 - 1, 0)]
        client.send(call(3, b"", "/t.T/Hold") + pong(client.seen))
        assert goaways(client.settled())[1:] == [(3, 0)]
        client.send(call(5))
        assert client.verdict() == "GOAWAY NO_ERROR"
        server.release()
        assert [client.answer(each).status for each in (1, 3)] == ["0", "0"]
        client.until_closed()
        assert 5 not in [each.stream_id for each in client.seen if each.kind == 1]


def test_a_client_that_does_not_answer_the_ping_is_drained_too(serving_http2) -> None:
    with serving_http2(linger_s=0.1) as server, RawClient(server.address) as client:
        client.settled()
        server.run(server.server.begin_drain)
        assert goaways(client.until_closed()) == [(2**31 - 1, 0), (0, 0)]


def test_a_connection_made_while_draining_is_drained(serving_http2) -> None:
    with serving_http2() as server:
        server.run(server.server.begin_drain)
        with RawClient(server.address) as client:
            client.send(pong(client.settled()))
            assert goaways(client.until_closed()) == [(2**31 - 1, 0), (0, 0)]


def test_a_grpc_client_survives_a_drain_and_gets_its_answer(serving_http2, quiet) -> None:
    with serving_http2() as server, grpc.insecure_channel(server.target) as channel:
        held = channel.unary_unary("/t.T/Hold").future(b"it", timeout=20)
        assert server.is_holding.acquire(timeout=20)
        server.run(server.server.begin_drain)
        closing = asyncio.run_coroutine_threadsafe(server.server.closed(20), server.loop)
        server.release()
        assert held.result() == b"released it"
        assert closing.result(20)
    quiet()


def test_waiting_for_the_end_has_a_limit(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(call(1, b"", "/t.T/Hold"))
        client.settled()
        waiting = asyncio.run_coroutine_threadsafe(server.server.closed(0.01), server.loop)
        assert waiting.result(20) is False
        server.run(server.server.close_all)
        client.until_closed()
        assert server.is_cancelled.acquire(timeout=20)


def test_a_client_that_says_goaway_is_closed_after_its_answers(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(call(1, b"", "/t.T/Hold") + frame(GOAWAY, payload=bytes(8)))
        assert client.verdict() == "fine"
        server.release()
        assert client.answer(1).status == "0"
        client.until_closed()


def test_idle_connections_are_asked_to_go(serving_http2) -> None:
    with serving_http2(idle_timeout_s=0.1) as server, RawClient(server.address) as client:
        client.send(call(1))
        assert goaways(client.until_closed()) == [(1, 0)]


def test_a_client_that_stays_after_the_goaway_is_dropped(serving_http2) -> None:
    with serving_http2(linger_s=0.1) as server, RawClient(server.address) as client:
        client.send(call(2))
        assert len(goaways(client.until_closed())) == 1
        while server.run(lambda: len(server.server)):
            client.send(bytes(1000))


def test_what_still_comes_after_the_goaway_is_read(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(call(2))
        client.until_closed()
        client.socket.sendall(bytes(16 << 20))


def test_a_server_without_connections_has_no_timer(serving_http2) -> None:
    with serving_http2() as server:
        with RawClient(server.address) as client:
            client.settled()
            timer = server.run(lambda: server.server._timer)
        while server.run(lambda: len(server.server)):
            pass
        assert server.run(lambda: server.server._timer) is None
        assert timer.cancelled()


def test_sockets_are_tuned(serving_http2) -> None:
    def option(*name: int) -> int:
        (connection,) = server.server._connections
        return connection._transport.get_extra_info("socket").getsockopt(*name)

    with serving_http2() as server, RawClient(server.address) as client:
        client.settled()
        assert server.run(lambda: option(socket.IPPROTO_TCP, socket.TCP_NODELAY))


@pytest.mark.parametrize("nbytes", [5, 3_000_000])
def test_a_unix_socket_is_served(tmp_path, nbytes: int) -> None:
    path = os.path.relpath(tmp_path / "s")  # a socket's path is short

    async def main() -> tuple[bytes, str]:
        peers = []

        def handle(call) -> None:
            peers.append(call.peer)
            call.reply(call.message)

        server = Http2Server(handle)
        listener = await asyncio.get_running_loop().create_unix_server(server, path)
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            options = {"timeout": 20}
            found = await channel.unary_unary("/t.T/Echo")(bytes(nbytes), **options)
        listener.close()
        server.close_all()
        assert await server.closed(10)
        return found, peers[0]

    assert asyncio.run(main()) == (bytes(nbytes), "unix")


def test_pieces_may_be_reused_after_the_reply(serving_http2) -> None:
    class Reusing(Http2Fixture):
        def do_reuse(self, call) -> None:
            pieces = [bytearray(b"a" * 100_000), bytearray(b"b" * 10)]
            call.reply(memoryview(pieces[0]), b"-", memoryview(pieces[1]).cast("H"))
            for piece in pieces:
                piece[:] = bytes(len(piece))

    for path, window in (("Reuse", 1 << 20), ("Reuse", 50)):
        with Reusing() as server, RawClient(server.address, values={4: window}) as client:
            client.send(call(1, b"", f"/t.T/{path}"))
            client.settled()
            client.send(frame(8, 0, 0, (1 << 20).to_bytes(4, "big")) + frame(8, 0, 1, (1 << 20).to_bytes(4, "big")))
            assert client.answer(1).body == message(b"a" * 100_000 + b"-" + b"b" * 10)


def test_small_answers_of_one_tick_go_out_together(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(b"".join(call(each, b"", "/t.T/Hold") for each in range(1, 41, 2)))
        client.settled()
        writes = []

        def release() -> None:
            (connection,) = server.server._connections
            write = connection._transport.write
            connection._transport.write = lambda data: (writes.append(len(data)), write(data))
            for held in list(server.held):
                held.reply(b"now")

        server.run(release)
        assert [client.answer(each).status for each in range(1, 41, 2)] == 20 * ["0"]
        assert len(writes) == 1


def test_a_head_alone_is_no_call_yet(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(head(1))
        client.settled()
        assert (server.count, server.open_calls()) == (0, 1)


@pytest.mark.parametrize("nbytes", [4, 200_000])
def test_a_reply_that_cannot_be_made_is_an_internal_error(serving_http2, nbytes: int) -> None:
    class Wrong(Http2Fixture):
        def do_wrong(self, call) -> None:
            call.reply(b"x", memoryview(bytes(nbytes))[::2])

    with Wrong() as server, RawClient(server.address) as client:
        client.send(call(1, b"", "/t.T/Wrong") + call(3))
        assert (client.answer(1).status, client.answer(3).status) == ("13", "0")
        assert server.open_calls() == 0


def test_a_cancellation_that_fails_does_not_keep_others_from_being_told(serving_http2) -> None:
    class Failing(Http2Fixture):
        def do_hold(self, call) -> None:
            super().do_hold(call)
            if len(self.held) == 1:
                call.on_cancel = lambda: 1 // 0

    with Failing() as server:
        with RawClient(server.address) as client:
            client.send(call(1, b"", "/t.T/Hold") + call(3, b"", "/t.T/Hold"))
            client.settled()
        assert server.is_cancelled.acquire(timeout=20)


def test_an_answered_call_is_freed_at_once(serving_http2) -> None:
    freed = threading.Semaphore(0)

    class Watching(Http2Fixture):
        def do_watch(self, call) -> None:
            call.on_cancel = lambda: call.fail("INTERNAL", "")
            weakref.finalize(call.on_cancel, freed.release)
            call.reply(b"")

    gc.disable()
    try:
        with Watching() as server, RawClient(server.address) as client:
            client.send(call(1, b"", "/t.T/Watch"))
            assert client.answer(1).status == "0"
            assert freed.acquire(timeout=20)
    finally:
        gc.enable()

"""Real clients: grpcio's synchronous and asyncio ones, and h2load where it is installed."""

from __future__ import annotations

import ast
import asyncio
import shutil
import subprocess
from concurrent import futures
from typing import Any, Iterator

import grpc
import pytest
from fakes.http2_server import Http2Fixture

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
LARGE = 60 << 20


@pytest.fixture(scope="module")
def roomy() -> Iterator[Http2Fixture]:
    with Http2Fixture() as started:
        yield started


@pytest.fixture
def fresh() -> Iterator[Http2Fixture]:
    with Http2Fixture() as started:
        yield started


@pytest.fixture
def channel(roomy: Http2Fixture) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(roomy.target, options=OPTIONS) as opened:
        yield opened


@pytest.mark.parametrize("method", ["Echo", "Later"])
@pytest.mark.parametrize("nbytes", [0, 1, 16_379, 16_380, 65_535, 300_000, 5 << 20])
def test_a_message_comes_back(channel: grpc.Channel, method: str, nbytes: int) -> None:
    body = bytes(range(251)) * (nbytes // 251 + 1)
    assert channel.unary_unary(f"/t.T/{method}")(body[:nbytes], timeout=20) == body[:nbytes]


def test_60_mb_go_both_ways_and_leave_nothing_behind(channel: grpc.Channel, roomy: Http2Fixture) -> None:
    body = bytes(range(256)) * (LARGE // 256)
    assert channel.unary_unary("/t.T/Echo")(body, timeout=60) == body
    assert roomy.open_calls() == 0


def test_large_and_small_calls_share_a_connection(channel: grpc.Channel) -> None:
    body = bytes(4 << 20)
    echo = channel.unary_unary("/t.T/Later")
    calls = [echo.future(body if at % 4 == 0 else b"%d" % at, timeout=60) for at in range(40)]
    assert [each.result() for each in calls] == [body if at % 4 == 0 else b"%d" % at for at in range(40)]


def test_1000_calls_at_once_on_one_channel(channel: grpc.Channel, roomy: Http2Fixture) -> None:
    echo = channel.unary_unary("/t.T/Later")
    calls = [echo.future(b"%d" % at, timeout=60) for at in range(1000)]
    assert [each.result() for each in calls] == [b"%d" % at for at in range(1000)]
    assert roomy.open_calls() == 0


@pytest.mark.parametrize(
    ("method", "code"), [("Fail", "NOT_FOUND"), ("Nothing", "UNIMPLEMENTED"), ("Raise", "INTERNAL")]
)
def test_a_status_reaches_the_client(channel: grpc.Channel, method: str, code: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/t.T/{method}")(b"", timeout=20)
    assert caught.value.code().name == code


def test_the_text_and_metadata_of_a_status_reach_the_client(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Fail")(b"", timeout=20)
    assert caught.value.details() == "no such thing: 100 % ü\n"
    assert ("x-reason", "it isn't there") in [tuple(each) for each in caught.value.trailing_metadata()]


def facts(channel: grpc.Channel, **options: Any) -> dict[str, Any]:
    return ast.literal_eval(channel.unary_unary("/t.T/Facts")(b"", **options).decode())


def test_the_server_knows_metadata_deadline_and_peer(channel: grpc.Channel) -> None:
    found = facts(channel, metadata=(("x-id", "7"), ("x-data-bin", b"\0\1")), timeout=20)
    assert found["metadata"]["x-id"] == "7"
    assert found["metadata"]["x-data-bin"].rstrip("=") == "AAE"
    assert 15e9 < found["timeout_ns"] <= 20.1e9  # grpcio rounds up, to tenths of a second here
    assert found["peer"].startswith("127.0.0.1:")
    assert facts(channel)["timeout_ns"] is None


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("nbytes", [1, 1000, 3 << 20])
def test_compressed_messages_are_read(channel: grpc.Channel, compression: grpc.Compression, nbytes: int) -> None:
    assert channel.unary_unary("/t.T/Echo")(bytes(nbytes), compression=compression, timeout=20) == bytes(nbytes)


def test_a_message_that_is_too_large_when_decompressed_is_refused(serving_http2) -> None:
    with serving_http2(max_message_bytes=1 << 20) as server, grpc.insecure_channel(server.target, OPTIONS) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t.T/Echo")(bytes((1 << 20) + 1), compression=grpc.Compression.Gzip, timeout=20)
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"


def test_a_message_that_is_too_large_is_refused_and_the_next_is_served(serving_http2, quiet) -> None:
    with serving_http2(max_message_bytes=1 << 20) as server, grpc.insecure_channel(server.target, OPTIONS) as channel:
        echo = channel.unary_unary("/t.T/Echo")
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as caught:
                echo(bytes(30 << 20), timeout=20)
            assert caught.value.code().name == "RESOURCE_EXHAUSTED"
            assert echo(bytes(1 << 20), timeout=20) == bytes(1 << 20)
        assert len(server.server) == 1
    quiet()


def test_a_deadline_cancels_the_call(fresh: Http2Fixture) -> None:
    with grpc.insecure_channel(fresh.target, options=OPTIONS) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Hold")(b"", timeout=0.05)
    assert caught.value.code().name == "DEADLINE_EXCEEDED"
    assert fresh.is_cancelled.acquire(timeout=20)
    assert fresh.open_calls() == 0


def test_a_cancellation_reaches_the_handler_once_and_a_late_reply_is_nothing(fresh: Http2Fixture) -> None:
    with grpc.insecure_channel(fresh.target, options=OPTIONS) as channel:
        call = channel.unary_unary("/t.T/Hold").future(b"")
        assert fresh.is_holding.acquire(timeout=20)
        held = fresh.held[0]
        call.cancel()
        assert fresh.is_cancelled.acquire(timeout=20)
        fresh.run(lambda: (held.reply(b"late"), held.fail("INTERNAL", "late")))
        assert channel.unary_unary("/t.T/Echo")(b"next", timeout=20) == b"next"
    assert not fresh.is_cancelled.acquire(blocking=False)


def test_1000_cancelled_calls_leave_nothing(serving_http2, quiet) -> None:
    with serving_http2() as server, grpc.insecure_channel(server.target, OPTIONS) as channel:
        hold = channel.unary_unary("/t.T/Hold")
        calls = [hold.future(b"%d" % at) for at in range(1000)]
        for _ in range(100):
            assert server.is_holding.acquire(timeout=20)
        for each in calls:
            each.cancel()
        assert channel.unary_unary("/t.T/Echo")(b"next", timeout=20) == b"next"
        assert (server.open_calls(), server.held) == (0, [])
    quiet()


def test_a_closed_channel_cancels_its_calls(fresh: Http2Fixture) -> None:
    with grpc.insecure_channel(fresh.target, options=OPTIONS) as opened:
        call = opened.unary_unary("/t.T/Hold").future(b"")
        assert fresh.is_holding.acquire(timeout=20)
    assert fresh.is_cancelled.acquire(timeout=20)
    assert call.done()


def test_channels_in_threads_are_all_served(roomy: Http2Fixture) -> None:
    def talk(at: int) -> bool:
        with grpc.insecure_channel(roomy.target, options=OPTIONS) as opened:
            echo = opened.unary_unary("/t.T/Later")
            return all(echo(b"%d" % (at * step), timeout=20) == b"%d" % (at * step) for step in range(50))

    with futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(talk, range(16)))


def test_the_asyncio_client_calls_cancels_and_times_out(fresh: Http2Fixture) -> None:
    async def main() -> tuple[list[bytes], str]:
        async with grpc.aio.insecure_channel(fresh.target, options=OPTIONS) as opened:
            echo, hold = opened.unary_unary("/t.T/Later"), opened.unary_unary("/t.T/Hold")
            answers = await asyncio.gather(*(echo(b"%d" % at, timeout=20) for at in range(200)))
            call = hold(b"")
            await asyncio.get_running_loop().run_in_executor(None, fresh.is_holding.acquire, True, 20)
            call.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await hold(b"", timeout=0.05)
            return answers, caught.value.code().name

    assert asyncio.run(main()) == ([b"%d" % at for at in range(200)], "DEADLINE_EXCEEDED")
    assert fresh.is_cancelled.acquire(timeout=20)
    assert fresh.is_cancelled.acquire(timeout=20)
    assert fresh.open_calls() == 0


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load isn't installed: apt-get install nghttp2-client")
@pytest.mark.parametrize("shape", [(1, 1, 64), (16, 1, 64), (1, 50, 64), (4, 4, 200_000)])
@pytest.mark.parametrize("table", [0, 4096])
def test_h2load_is_served(roomy: Http2Fixture, tmp_path, shape: tuple, table: int) -> None:
    clients, streams, nbytes = shape
    (tmp_path / "body").write_bytes(b"\0" + nbytes.to_bytes(4, "big") + bytes(nbytes))
    total = 2000 if nbytes < 1000 else 100
    sizes = [f"--header-table-size={table}", f"--encoder-header-table-size={table}"]
    command = ["h2load", f"-n{total}", f"-c{clients}", f"-m{streams}", f"-d{tmp_path / 'body'}", *sizes]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    found = subprocess.check_output([*command, *headers, f"http://{roomy.target}/t.T/Echo"], timeout=60).decode()
    assert f"{total} succeeded, 0 failed, 0 errored, 0 timeout" in found
    assert f"status codes: {total} 2xx" in found

"""One connection on a transport that only keeps what is written to it."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.plan.serving import ServingTable
from edge_runtime.server.accelerators import Accelerators, prepared
from edge_runtime.server.http1.connection import HttpConnection
from edge_runtime.server.http1.server import HttpServer
from edge_runtime.server.models import ModelTable
from edge_runtime.server.settings import ServerSettings

ROW = np.arange(4, dtype=np.float32).tobytes()


class KeptTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_open = True
        self.is_reading_paused = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.is_open = False

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        assert not self.is_reading_paused
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        assert self.is_reading_paused
        self.is_reading_paused = False


@pytest.fixture
def identity(tiny_engine):
    engine = tiny_engine("identity")
    yield engine
    engine.close()


def answers(engine: Any, pieces: list[bytes], is_pushed: bool = False, **options: Any) -> KeptTransport:
    """What a connection writes in answer to bytes that come in pieces.

    Each is `is_pushed` to its end even if reading is paused meanwhile, as by TLS before Python 3.11.
    """

    async def main() -> KeptTransport:
        chosen = ServerSettings(**options)
        accelerators = Accelerators(chosen)
        models = accelerators.add(prepared(engine, ServingTable()))
        table = ModelTable(models)
        table.is_ready = True
        server = HttpServer(table, chosen)
        connection, transport = HttpConnection(server), KeptTransport()
        connection.connection_made(transport)
        for piece in pieces:
            left = memoryview(piece)
            while left and transport.is_open:
                while transport.is_reading_paused and not is_pushed:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                buffer = connection.get_buffer(len(left) if is_pushed else -1)
                assert len(buffer) > 0
                size = min(len(buffer), len(left))
                buffer[:size] = left[:size]
                connection.buffer_updated(size)
                left = left[size:]
        for _ in range(1000):
            if not models[0].under_way.count and connection._exchange is None:
                break
            await asyncio.sleep(0.001)
        connection.connection_lost(None)
        assert await accelerators.close(10)
        return transport

    return asyncio.run(main())


def test_one_request_is_answered_in_each_turn_of_the_loop(http_message):
    """What others sent is read in between, and nothing more is made for a client that is gone."""

    async def main():
        table = ModelTable([])
        server, transport = HttpServer(table, ServerSettings()), KeptTransport()
        connection = HttpConnection(server)
        connection.connection_made(transport)
        requests = 6 * http_message("GET", "/v2/health/live")
        connection.get_buffer(-1)[: len(requests)] = requests
        connection.buffer_updated(len(requests))
        counts = []
        for _ in range(4):
            counts.append(transport.written.count(b"HTTP/1.1 200"))
            await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.sleep(0.01)
        return [*counts, transport.written.count(b"HTTP/1.1 200")]

    assert asyncio.run(main()) == [1, 2, 3, 4, 5]


@pytest.fixture
def conversation(http_message, good_head) -> bytes:
    """Requests of all kinds, one behind another."""
    text = json.dumps({**good_head(), "parameters": {"binary_data_output": True}}).encode()
    lengths = {"Inference-Header-Content-Length": str(len(text))}
    binary = http_message("POST", "/v2/models/identity/infer", text + ROW, lengths)
    as_json = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
    chunked = b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (as_json[:5], as_json[5:])) + b"0\r\n\r\n"
    plain = http_message("GET", "/v2/health/live")
    wrong = http_message("POST", "/v2/models/identity/infer", text + ROW[:-1], lengths)
    return b"".join([binary, plain, chunked, wrong, binary, http_message("GET", "/none"), chunked, plain])


def test_requests_are_answered_in_order(identity, conversation) -> None:
    written = answers(identity, [conversation]).written
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", written)]
    assert found == [200, 200, 200, 400, 200, 404, 200, 200]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_answers_are_the_same_wherever_the_requests_are_cut(identity, conversation, data) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(1, len(conversation) - 1), max_size=8)))
    pieces = [conversation[start:end] for start, end in zip([0, *cuts], [*cuts, len(conversation)])]
    assert answers(identity, pieces).written == answers(identity, [conversation]).written


def test_one_byte_at_a_time_is_enough(identity, conversation) -> None:
    pieces = [conversation[index : index + 1] for index in range(len(conversation))]
    assert answers(identity, pieces).written == answers(identity, [conversation]).written


def test_what_is_sent_behind_a_request_waits_in_a_bounded_buffer(identity, conversation) -> None:
    many = conversation * 200
    assert len(many) > 4 << 16
    assert answers(identity, [many]).written.count(b"HTTP/1.1 200 OK") == 1200


def test_what_tls_gives_though_reading_is_paused_waits_too(identity, conversation) -> None:
    start, rest = conversation * 50, conversation * 150
    assert len(rest) > 2 << 16
    transport = answers(identity, [start, rest[:70_001], rest[70_001:]], is_pushed=True)
    assert transport.written.count(b"HTTP/1.1 200 OK") == 1200


def test_nothing_is_answered_behind_a_request_that_is_the_last(identity, http_message) -> None:
    last = http_message("GET", "/v2", headers={"Connection": "close"})
    transport = answers(identity, [last + last])
    assert (transport.written.count(b"HTTP/1.1 200 OK"), transport.is_open) == (1, False)


@pytest.mark.parametrize("received", [b"", b"GET /v2 HT", b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_connection_that_is_lost_goes_without_the_collector_of_cycles(received) -> None:
    async def main() -> bool:
        connection = HttpConnection(HttpServer(ModelTable([]), ServerSettings()))
        connection.connection_made(KeptTransport())
        connection.get_buffer(-1)[: len(received)] = received
        connection.buffer_updated(len(received))
        connection.connection_lost(None)
        lost = weakref.ref(connection)
        del connection
        return lost() is None

    gc.disable()
    try:
        assert asyncio.run(main())
    finally:
        gc.enable()


def test_who_watches_and_reads_again_isnt_timed_any_more(http_message) -> None:
    async def main() -> list[bool]:
        connection = HttpConnection(HttpServer(ModelTable([]), ServerSettings()))
        connection.connection_made(KeptTransport())
        asking = http_message("GET", "/live/events")
        connection.get_buffer(-1)[: len(asking)] = asking
        connection.buffer_updated(len(asking))
        timed = [connection.expires_ns is not None]
        for each in (connection.pause_writing, connection.resume_writing):
            each()
            timed.append(connection.expires_ns is not None)
        connection.connection_lost(None)
        return timed

    assert asyncio.run(main()) == [False, True, False]

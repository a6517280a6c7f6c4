"""HTTP as bytes on a socket: framing, limits of size and time, and what is left of a connection afterwards."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

ROW = np.arange(4, dtype=np.float32).tobytes()
PATH = "/v2/models/identity/infer"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def body(good_head) -> bytes:
    return json.dumps(good_head()).encode() + ROW


@pytest.fixture
def lengths(good_head) -> dict[str, str]:
    return {"Inference-Header-Content-Length": str(len(json.dumps(good_head())))}


@pytest.fixture
def hasty(serving):
    """A server that waits and takes little."""
    with serving("identity", max_request_bytes=4096, body_timeout_s=0.3, idle_timeout_s=0.5) as started:
        yield started


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def json_body(spaces: int = 0) -> bytes:
    text = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}]}'
    return text + b" " * spaces


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_requests_follow_one_another_on_a_connection(server, http_message, http_replies, body, lengths) -> None:
    with server.connection() as connection:
        for _ in range(3):
            connection.sendall(http_message("POST", PATH, body, lengths))
            (answer,) = http_replies(connection, 1)
            assert answer.status == 200


def test_pipelined_requests_are_answered_in_order(server, http_message, body, lengths) -> None:
    requests = [http_message("POST", PATH, body, lengths), LIVE, http_message("GET", "/none"), LIVE]
    assert [answer.status for answer in server.exchange(b"".join(requests), 4)] == [200, 200, 404, 200]


def test_a_refusal_leaves_the_connection_usable(server, http_message, lengths, body) -> None:
    bad = http_message("POST", PATH, body + b"x", lengths)
    answers = server.exchange(bad + http_message("POST", PATH, body, lengths), 2)
    assert [answer.status for answer in answers] == [400, 200]


def test_connection_close_closes(server, http_message, http_replies) -> None:
    with server.connection() as connection:
        connection.sendall(http_message("GET", "/v2", headers={"Connection": "close"}))
        (answer,) = http_replies(connection, 1)
        assert answer.status == 200
        assert is_closed(connection)


def test_http_1_0_is_answered_and_closed(server, http_replies) -> None:
    with server.connection() as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        (answer,) = http_replies(connection, 1)
        assert answer.status == 200
        assert is_closed(connection)


def test_the_client_is_told_to_go_on_before_it_sends_its_body(
    server, http_message, http_replies, body, lengths
) -> None:
    request = http_message("POST", PATH, body, {**lengths, "Expect": "100-continue"})
    with server.connection() as connection:
        connection.sendall(request[: -len(body)])
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        (answer,) = http_replies(connection, 1)
    assert answer.status == 200


def test_2_3_body_limit_a_body_that_is_too_long_is_refused_before_it_is_sent(hasty, http_message, http_replies) -> None:
    request = http_message("POST", PATH, headers={"Content-Length": "4097", "Expect": "100-continue"})
    with hasty.connection() as connection:
        connection.sendall(request)
        (answer,) = http_replies(connection, 1)
        assert (answer.status, list(answer.json)) == (413, ["error"])
        assert is_closed(connection)


def test_2_3_body_limit_chunks_that_grow_too_long_are_refused(hasty, http_replies) -> None:
    with hasty.connection() as connection:
        connection.sendall(chunked(*[bytes(1000)] * 5, end=b""))
        (answer,) = http_replies(connection, 1)
        assert (answer.status, list(answer.json)) == (413, ["error"])
        assert is_closed(connection)


def test_2_3_body_limit_a_body_of_just_the_limit_is_taken(hasty) -> None:
    text = json_body()
    (answer,) = hasty.exchange(chunked(text, b" " * (4096 - len(text))))
    assert answer.status == 200


def test_chunks_are_put_together(server) -> None:
    (answer,) = server.exchange(chunked(*[bytes([byte]) for byte in json_body()]))
    assert answer.json["outputs"][0]["data"] == [0, 1, 2, 3]


def test_1_2_chunks_many_tiny_chunks_take_bounded_time_and_memory(server, watch_rss) -> None:
    chunks = b"1\r\n \r\n" * 200_000
    grown, start = watch_rss(), time.monotonic()
    (answer,) = server.exchange(chunked(json_body(), end=chunks + b"0\r\n\r\n"))
    assert answer.status == 200
    assert time.monotonic() - start < 10
    assert grown() < 16 << 20


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"v" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nabcdef",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n",
    ],
    ids=lambda data: repr(data[:40]),
)
def test_2_3_framing_what_is_no_http_request_gets_400_as_json_and_no_more(server, data, http_replies, logged) -> None:
    with server.connection() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer may come before all is sent
            connection.sendall(data)
        (answer,) = http_replies(connection, 1)
        assert (answer.status, list(answer.json)) == (400, ["error"])
        assert is_closed(connection)
    assert not logged()


BROKEN = [b"zz\r\nabc\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"-1\r\n\r\n", b"ffffffffffffffffffff\r\n"]


@pytest.mark.parametrize("tail", BROKEN)
def test_2_3_framing_broken_chunks_get_400_and_no_more(server, tail, logged) -> None:
    (answer,) = server.exchange(chunked(json_body(), end=tail), 2)
    assert (answer.status, list(answer.json)) == (400, ["error"])
    assert not logged()


@pytest.mark.parametrize("tail", BROKEN)
def test_2_3_framing_chunks_that_break_while_they_are_read_get_400_at_once(server, tail, http_replies, logged) -> None:
    head = chunked(end=b"").replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    with server.connection() as connection:
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(tail)
        (answer,) = http_replies(connection, 2)
    assert (answer.status, list(answer.json)) == (400, ["error"])
    assert not logged()


def test_broken_chunks_behind_a_running_request_get_400_at_once(
    serving, gated, http_message, http_replies, body, lengths
) -> None:
    with serving(gated.engine) as server, server.connection() as connection:
        connection.sendall(http_message("POST", "/v2/models/gated/infer", body, lengths))
        assert gated.begun.acquire(timeout=10)
        connection.sendall(chunked(b"{", end=b"").replace(b"identity", b"gated"))
        connection.sendall(BROKEN[0])
        gated.release()
        assert [answer.status for answer in http_replies(connection, 3)] == [200, 400]


def test_2_3_framing_a_body_longer_than_it_says_ends_in_400(server, http_message) -> None:
    request = http_message("POST", PATH, json_body() + b"\0\1\2", {"Content-Length": str(len(json_body()))})
    answers = server.exchange(request, 3)
    assert (answers[-1].status, list(answers[-1].json)) == (400, ["error"])


def test_2_3_framing_a_body_shorter_than_it_says_is_no_request(server, http_message, logged) -> None:
    before = server.counts("identity")
    with server.connection() as connection:
        connection.sendall(http_message("POST", PATH, json_body(), {"Content-Length": "5000"}))
    assert server.counts("identity") == before
    assert not logged()


def test_2_3_slow_client_a_slow_body_gets_408(hasty, http_message, http_replies, logged) -> None:
    with hasty.connection() as connection:
        connection.sendall(http_message("POST", PATH, b'{"inputs"', {"Content-Length": "4000"}))
        (answer,) = http_replies(connection, 1)
        assert (answer.status, list(answer.json)) == (408, ["error"])
        assert is_closed(connection)
    assert not logged()


@pytest.mark.parametrize("data", [b"", b"GET /v2 HTTP/1.1\r\nHo", LIVE, LIVE + b"GET /v2 HT"], ids=repr)
def test_2_3_slow_client_a_connection_without_a_whole_head_is_dropped(hasty, data) -> None:
    with hasty.connection() as connection:
        connection.sendall(data)
        start = time.monotonic()
        connection.makefile("rb").read()
        assert 0.3 < time.monotonic() - start < 5


def test_2_3_slow_client_a_head_that_comes_in_drops_is_dropped(hasty) -> None:
    start = time.monotonic()
    with hasty.connection() as connection, contextlib.suppress(ConnectionError):
        connection.settimeout(0.05)
        while time.monotonic() - start < 10:
            connection.sendall(b"A")
            with contextlib.suppress(socket.timeout):
                if not connection.recv(1):
                    break
    assert time.monotonic() - start < 5


def test_an_old_connection_is_not_dropped_while_its_request_runs(
    serving, gated, http_message, http_replies, body, lengths
) -> None:
    with serving(gated.engine, idle_timeout_s=0.1) as server, server.connection() as connection:
        connection.sendall(http_message("POST", "/v2/models/gated/infer", body, lengths))
        assert gated.begun.acquire(timeout=10)
        assert not gated.begun.acquire(timeout=0.4)
        gated.release()
        (answer,) = http_replies(connection, 1)
    assert answer.status == 200


def test_pipelining_without_reading_takes_bounded_memory(server, watch_rss) -> None:
    grown = watch_rss()
    with server.connection() as connection:
        connection.settimeout(1)
        flood = LIVE * 20_000
        with contextlib.suppress(socket.timeout, ConnectionError):
            for _ in range(10):
                connection.sendall(flood)
    assert server.ask("GET", "/v2").status == 200
    assert grown() < 100 << 20


def test_an_upgrade_is_declined(server, http_message) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    answers: list[Any] = server.exchange(http_message("GET", "/v2", headers=headers))
    assert [answer.status for answer in answers] == [200]


def test_answers_from_a_lanes_thread_come_in_order_and_whole(
    serving, unhurried, http_message, http_replies, good_head
) -> None:
    def request(value: int) -> bytes:
        text = json.dumps({**good_head(), "parameters": {"binary_data_output": True}}).encode()
        length = {"Inference-Header-Content-Length": str(len(text))}
        tensor = np.full(4, value, np.float32).tobytes()
        return http_message("POST", "/v2/models/unhurried/infer", text + tensor, length)

    with serving(unhurried) as server, server.connection() as connection:
        connection.sendall(b"".join(map(request, range(300))))
        found = [np.frombuffer(reply.body[-16:], np.float32)[0] for reply in http_replies(connection, 300)]
        assert found == list(range(300))
        assert server.counts("unhurried") == (300, 0)


def test_answers_from_a_lanes_thread_come_one_by_one(serving, unhurried, http_message, http_replies, good_head) -> None:
    text = json.dumps({**good_head(), "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(len(text))}
    with serving(unhurried) as server, server.connection() as connection, server.connection() as other:
        replies = http_replies(connection, 1000)
        for value in range(500):
            tensor = np.full(4, value, np.float32).tobytes()
            connection.sendall(http_message("POST", "/v2/models/unhurried/infer", text + tensor, length))
            assert np.frombuffer(next(replies).body[-16:], np.float32)[0] == value
            if value % 7 == 0:
                connection.sendall(http_message("GET", "/v2/health/ready"))
                assert next(replies).status == 200
            if value % 31 == 0:  # a client goes away at any moment of its run
                with server.connection() as gone:
                    gone.sendall(http_message("POST", "/v2/models/unhurried/infer", text + tensor, length))
                    time.sleep(value * 1e-6)
        other.sendall(http_message("GET", "/v2/models/unhurried/stats"))
        counts = next(http_replies(other, 1)).json["model_stats"][0]["inference_stats"]
        assert counts["success"]["count"] >= 500


def test_a_client_that_does_not_read_a_lanes_answers_gets_the_rest_when_it_does(
    serving, http_message, http_replies
) -> None:
    item = {"name": "x", "datatype": "FP32", "shape": [1 << 17], "parameters": {"binary_data_size": 4 << 17}}
    text = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    tensor = np.arange(1 << 17, dtype=np.float32).tobytes()
    length = {"Inference-Header-Content-Length": str(len(text))}
    request = http_message("POST", "/v2/models/large/infer", text + tensor, length)
    with serving("large") as server, server.connection() as connection:
        sender = threading.Thread(target=connection.sendall, args=(request * 40,))
        sender.start()
        end = time.monotonic() + 10
        while not server.counts("large")[0]:
            assert time.monotonic() < end
        replies = [reply.body[-len(tensor) :] == tensor for reply in http_replies(connection, 40)]
        sender.join()
    assert replies == [True] * 40


def test_2_3_slow_client_a_slow_body_in_chunks_gets_408_as_any_other(hasty, http_replies) -> None:
    with hasty.connection() as connection:
        connection.sendall(chunked(end=b""))
        start = time.monotonic()
        connection.settimeout(0.05)
        answer = b""
        while time.monotonic() - start < 8 and not answer:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"1\r\n \r\n")
            with contextlib.suppress(socket.timeout):
                answer = connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_deadline_counts_from_the_first_byte_of_a_body_in_chunks(serving) -> None:
    with serving("identity", serving={"deadline_ms": 200}) as server, server.connection() as connection:
        whole = chunked(json_body())
        connection.sendall(whole[:-20])
        connection.settimeout(0.3)
        with pytest.raises(socket.timeout):
            connection.recv(1)
        connection.settimeout(20)
        connection.sendall(whole[-20:])
        assert connection.recv(1000).startswith(b"HTTP/1.1 503 ")


def test_2_3_body_limit_a_body_over_the_limit_that_comes_with_its_head_is_refused(hasty, http_message) -> None:
    (answer,) = hasty.exchange(http_message("POST", PATH, json_body(5000)))
    assert answer.status == 413


def test_a_head_alone_takes_no_memory_for_its_body(server, http_message, http_replies, watch_rss) -> None:
    grown = watch_rss()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connection()) for _ in range(20)]
        for connection in connections:
            headers = {"Content-Length": str(60 << 20), "Expect": "100-continue"}
            connection.sendall(http_message("POST", PATH, headers=headers))
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert grown() < 32 << 20


def test_http_1_0_is_not_told_to_go_on(serving) -> None:  # aiohttp tells it
    with serving("identity") as server, server.connection() as connection:
        connection.sendall(b"POST /v2/repository/index HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        connection.sendall(b"{}")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_refusals_of_one_head_leave_nothing_behind(serving, http_message) -> None:
    request = http_message("POST", PATH, b"x", {"Inference-Header-Content-Length": "many"})
    with serving("identity") as server:
        for _ in range(50):
            assert [answer.status for answer in server.exchange(request * 3, 3)] == [400] * 3
        gc.collect()
        assert sum(type(each).__name__ == "HttpConnection" for each in gc.get_objects()) < 10


def test_2_3_body_limit_a_body_over_the_limit_is_counted(serving, http_message) -> None:
    with serving("identity", max_request_bytes=4096) as server:
        server.exchange(http_message("POST", PATH, headers={"Content-Length": "5000"}))
        assert server.failures("identity") == {"OTHER": 1}

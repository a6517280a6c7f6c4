from __future__ import annotations

import socket
import threading

import pytest

from edge_runtime.client import connections
from edge_runtime.client.address import Address, address_from_url
from edge_runtime.client.connections import HttpConnections
from edge_runtime.client.http_request import HttpRequest
from edge_runtime.errors import RemoteError, ServerUnavailableError

GET = HttpRequest("GET", "/v2")


@pytest.fixture
def connect():
    made = []

    def build(url, timeout_s=10.0):
        made.append(HttpConnections(address_from_url(url), timeout_s))
        return made[-1]

    yield build
    for one in made:
        one.close()


def test_a_connection_is_kept_between_exchanges(scripted, http_answer, connect):
    server = scripted([[http_answer(b"1"), http_answer(b"22"), http_answer()]])
    one = connect(server.url)
    assert [one.exchange(GET).body.tobytes() for _ in range(3)] == [b"1", b"22", b""]


def test_a_body_is_sent_piece_by_piece_below_the_urls_path(scripted, http_answer, connect):
    server = scripted([[http_answer()]])
    connect(server.url + "/edge").exchange(
        HttpRequest("POST", "/v2/x", [b"ab", memoryview(b""), memoryview(b"cde")], {"A": "b"})
    )
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /edge/v2/x HTTP/1.1\r\n")
    assert b"A: b" in head
    assert b"Content-Length: 5" in head
    assert body == b"abcde"


def test_a_kept_connection_that_the_server_closed_is_replaced_once(scripted, http_answer, connect):
    server = scripted([[http_answer(b"1")], [http_answer(b"2")]])
    one = connect(server.url)
    one.exchange(GET)
    assert server.connection_done.acquire(timeout=10)
    assert one.exchange(GET).body.tobytes() == b"2"


def test_a_new_connection_closed_unanswered_is_unavailable(scripted, connect):
    with pytest.raises(ServerUnavailableError, match="closed the connection unanswered"):
        connect(scripted([[b""]]).url).exchange(GET)


def test_a_server_that_closes_every_connection_is_tried_just_once_more(scripted, http_answer, connect):
    server = scripted([[http_answer()], [b""], [http_answer()]])
    one = connect(server.url)
    one.exchange(GET)
    assert server.connection_done.acquire(timeout=10)
    with pytest.raises(ServerUnavailableError):
        one.exchange(GET)
    assert len(server.requests) == 2
    one.exchange(GET)


def test_connection_close_is_obeyed(scripted, http_answer, connect):
    server = scripted([[http_answer(b"1", extra="Connection: close\r\n")], [http_answer(b"2")]])
    one = connect(server.url)
    assert [one.exchange(GET).body.tobytes() for _ in range(2)] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "ended after 3 of 10 bytes"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "isn't sound HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "isn't sound HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "isn't sound HTTP"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000 + b"\r\n\r\n", "isn't sound HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "isn't sound HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "isn't sound HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", "over this client's limit"),
    ],
)
def test_broken_http_is_a_remote_error(scripted, connect, answer, complaint):
    with pytest.raises(RemoteError, match=complaint):
        connect(scripted([[answer]]).url).exchange(GET)


def test_bodies_without_a_length_are_read_to_their_end(scripted, connect):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    until_close = b"HTTP/1.1 200 OK\r\n\r\nabc"
    one = connect(scripted([[chunked, chunked, until_close]]).url)
    assert [one.exchange(GET).body.tobytes() for _ in range(3)] == [b"abc"] * 3


def test_an_endless_body_ends_at_the_limit(scripted, connect, monkeypatch):
    monkeypatch.setattr(connections, "MAX_ANSWER_NBYTES", 5)
    with pytest.raises(RemoteError, match="over this client's limit of 5"):
        connect(scripted([[b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 6]]).url).exchange(GET)


def test_an_early_refusal_is_read_though_the_server_stopped_reading(scripted, http_answer, connect):
    server = scripted([[http_answer(b"too large", status=413, extra="Connection: close\r\n")]], reads_bodies=False)
    body = [bytes(2**20)] * 64
    assert connect(server.url).exchange(HttpRequest("POST", "/", body)).status == 413


def test_a_refused_connection_is_unavailable_and_says_where(connect, unused_port):
    with pytest.raises(
        ServerUnavailableError, match=f"http://127.0.0.1:{unused_port}: Connection refused; is the server"
    ):
        connect(f"http://127.0.0.1:{unused_port}").exchange(GET)


def test_an_unknown_host_is_unavailable(connect, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ServerUnavailableError, match="Name or service not known"):
        connect("http://no-such-host:1").exchange(GET)


def test_a_silent_server_is_unavailable_after_the_time_limit(connect):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.05)
        with pytest.raises(ServerUnavailableError, match=r"no answer within 0\.05 s"):
            one.exchange(GET)


def test_a_closed_client_says_so(connect):
    one = connect("http://127.0.0.1:1")
    one.close()
    one.close()
    with pytest.raises(ServerUnavailableError, match="this client is closed"):
        one.exchange(GET)


def test_each_thread_has_a_connection_of_its_own_while_it_waits(connect, http_answer):
    both_are_in = threading.Barrier(2, timeout=10)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                both_are_in.wait()
                connection.sendall(http_answer(b"ok"))

        threads = [threading.Thread(target=serve) for _ in range(2)]
        one = HttpConnections(Address("http", "127.0.0.1", listener.getsockname()[1]), 10.0)
        answers = []
        threads += [threading.Thread(target=lambda: answers.append(one.exchange(GET).body.tobytes())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.close()
    assert answers == [b"ok", b"ok"]

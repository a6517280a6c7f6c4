from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest
from fakes.socket_transport import SocketTransport

from edge_runtime.scheduling.request import DELIVERED
from edge_runtime.server.direct_socket import BROKEN, DirectSocket


class Tricky:
    """A socket that does something while it sends, and then takes so many bytes."""

    def __init__(self, meanwhile: Any, count: int) -> None:
        self.meanwhile = meanwhile
        self.count = count
        self.is_closed = self.is_shut_down = False

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def send(self, data: bytes) -> int:
        self.meanwhile()
        assert not self.is_closed
        return min(self.count, len(data))

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_RDWR
        self.is_shut_down = True

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        yield SocketTransport(ours), theirs


@pytest.fixture
def direct() -> Iterator[DirectSocket]:
    made = DirectSocket()
    yield made
    made.close()


@pytest.fixture
def tricky(ends, direct, monkeypatch):
    """`tricky(meanwhile, count)`: an offer to "me" of a socket that is a `Tricky` one."""

    def offered(meanwhile: Any, count: int) -> Tricky:
        made = Tricky(meanwhile, count)

        def instead(fileno: int) -> Tricky:
            os.close(fileno)
            return made

        with monkeypatch.context() as patch:
            patch.setattr("edge_runtime.server.direct_socket.socket.socket", instead)
            assert direct.offer(ends[0], "me")
        return made

    return offered


def test_an_answer_is_sent_by_whom_it_was_offered_to(direct, ends):
    transport, client = ends
    assert direct.offer(transport, "me")
    assert direct.deliver("another", b"wrong") == b"wrong"
    assert direct.deliver("me", b"answer") is DELIVERED
    assert client.recv(100) == b"answer"
    assert (direct.take_sent(), direct.take_sent()) == ("me", None)


def test_an_offer_is_for_one_answer(direct, ends):
    transport, client = ends
    assert direct.offer(transport, "me")
    assert not direct.offer(transport, "another")
    assert direct.deliver("me", b"answer") is DELIVERED
    assert direct.deliver("me", b"again") == b"again"
    assert not direct.offer(transport, "another"), "the loop doesn't know yet that the first was sent"
    direct.take_sent()
    assert direct.offer(transport, "another")
    assert client.recv(100) == b"answer"


def test_nothing_is_sent_after_the_offer_was_withdrawn(direct, ends):
    transport, client = ends
    assert direct.offer(transport, "me")
    direct.withdraw()
    assert direct.deliver("me", b"answer") == b"answer"
    assert direct.take_sent() is None
    with pytest.raises(BlockingIOError):
        client.recv(100)


def test_nothing_is_offered_past_what_the_transport_has_yet_to_send(direct, ends):
    ends[0].unsent = 1
    assert not direct.offer(ends[0], "me")


def test_what_the_kernel_does_not_take_is_given_back(ends):
    transport, client = ends
    direct = DirectSocket(can_rest=True)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sent, left = b"", b""
    for number in range(100):
        answer = bytes([number]) * 3000
        assert direct.offer(transport, "me")
        left = direct.deliver("me", answer)
        if left is not DELIVERED:
            break
        sent += answer
        assert direct.take_sent() == "me"
    assert direct.take_sent() is None
    received = client.recv(1 << 20)
    assert sent
    assert received + bytes(left) == sent + answer
    direct.close()


def test_an_answer_of_which_a_part_is_out_breaks_the_connection_if_others_could_come_between(direct, tricky):
    sending = tricky(lambda: None, 3)
    assert direct.deliver("me", b"answer") is BROKEN
    assert sending.is_shut_down


def test_a_large_answer_is_left_to_the_loop(direct, ends):
    assert direct.offer(ends[0], "me")
    large = bytes(1 << 20)
    assert direct.deliver("me", large) is large


@pytest.mark.parametrize("count", [0, 3])
def test_an_answer_that_was_taken_as_sent_too_soon_breaks_the_connection(direct, tricky, count):
    taken = []
    sending = tricky(lambda: taken.append(direct.take_sent()), count)
    assert direct.deliver("me", b"answer") is BROKEN
    assert taken == ["me"]
    assert sending.is_shut_down, "what the loop sends next would go out in its place"


def test_one_asks_for_the_word_of_ones_own_answer(direct, ends):
    assert direct.offer(ends[0], "me")
    assert direct.deliver("me", b"answer") is DELIVERED
    assert direct.take_sent("another") is None
    assert direct.take_sent("me") == "me"


def test_a_client_that_is_gone_is_the_loops_to_find_out(direct, ends):
    transport, client = ends
    assert direct.offer(transport, "me")
    client.close()
    assert direct.deliver("me", b"answer") == b"answer"


def test_the_descriptor_is_kept_until_it_is_sent(direct, tricky):
    sending = tricky(direct.close, 6)
    assert direct.deliver("me", b"answer") is DELIVERED
    assert sending.is_closed


@pytest.mark.parametrize("is_offered", [True, False])
def test_closing_gives_the_descriptor_back(direct, ends, is_offered):
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert direct.offer(ends[0], "me")
    if not is_offered:
        direct.withdraw()
    direct.close()
    direct.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert direct.deliver("me", b"answer") == b"answer"
    assert not direct.offer(ends[0], "me")


def test_what_is_sent_next_waits_for_what_counts_as_sent(direct, tricky):
    begun, goes_on, order = threading.Event(), threading.Event(), []

    def meanwhile() -> None:
        begun.set()
        assert goes_on.wait(10)
        order.append("answer")

    tricky(meanwhile, 6)
    sender = threading.Thread(target=direct.deliver, args=("me", b"answer"))
    sender.start()
    assert begun.wait(10)
    assert direct.take_sent() == "me"
    follower = threading.Thread(target=lambda: (direct.finish(), order.append("next")))
    follower.start()
    follower.join(0.05)
    assert follower.is_alive()
    goes_on.set()
    follower.join(10)
    sender.join(10)
    assert order == ["answer", "next"]


def test_a_transport_of_asyncio_has_what_is_asked_of_one():
    async def main() -> bytes:
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        direct = DirectSocket()
        with theirs:
            assert direct.offer(transport, "me")
            assert await asyncio.get_running_loop().run_in_executor(None, direct.deliver, "me", b"answer") is DELIVERED
            direct.close()
            transport.close()
            return theirs.recv(100)

    assert asyncio.run(main()) == b"answer"


def test_nothing_is_sent_past_tls(ends, direct) -> None:
    transport, theirs = ends
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert not direct.offer(SocketTransport(transport.get_extra_info("socket"), tls), "me")
    assert direct.deliver("me", b"clear") == b"clear"
    with pytest.raises(BlockingIOError):
        theirs.recv(1)

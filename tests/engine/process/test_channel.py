from __future__ import annotations

import os
import socket
import threading
from typing import Iterator

import pytest

from edge_runtime.engine.process.channel import Channel, Frame, Kind


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    first, second = (Channel(end) for end in socket.socketpair())
    yield first, second
    first.close()
    second.close()


def test_frames_come_in_order_and_whole(ends: tuple[Channel, Channel]) -> None:
    ends[0].send(Kind.RUN, 3, b"head", b"payload")
    ends[0].send(Kind.DONE)
    assert ends[1].receive() == Frame(Kind.RUN, 3, b"head", b"payload", ())
    assert ends[1].receive() == Frame(Kind.DONE, 0, b"", b"", ())


def test_a_payload_larger_than_the_sockets_buffers_comes_whole(ends: tuple[Channel, Channel]) -> None:
    payload = os.urandom(5_000_000)
    sender = threading.Thread(target=lambda: ends[0].send(Kind.DONE, 0, b"h", payload))
    sender.start()
    frame = ends[1].receive()
    sender.join()
    assert frame is not None
    assert frame.payload == payload


def test_descriptors_come_with_their_frame_alone(ends: tuple[Channel, Channel]) -> None:
    reader, writer = os.pipe()
    ends[0].send(Kind.DONE)
    ends[0].send(Kind.SLOT, 0, b"x", b"", [writer])
    ends[0].send(Kind.LOADED)
    os.close(writer)
    frames = [ends[1].receive() for _ in range(3)]
    assert [len(frame.descriptors) for frame in frames if frame is not None] == [0, 1, 0]
    assert frames[1] is not None
    (came,) = frames[1].descriptors
    assert not os.get_inheritable(came)
    os.write(came, b"!")
    os.close(came)
    assert os.read(reader, 9) == b"!"
    os.close(reader)


@pytest.mark.parametrize("sent", [b"", b"\x04", b"\x04\x00\x00\x09\x00\x00\x00" + bytes(8) + b"half"])
def test_an_end_in_the_midst_of_a_frame_is_an_end(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(sent)
    theirs.close()
    channel = Channel(ours)
    assert channel.receive() is None
    channel.close()


def test_who_waits_goes_on_when_it_is_shut_down(ends: tuple[Channel, Channel]) -> None:
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(ends[0].receive()))
    waiting.start()
    ends[0].shut_down()
    waiting.join(10)
    assert found == [None]
    with pytest.raises(OSError, match="pipe"):
        ends[0].send(Kind.DONE)

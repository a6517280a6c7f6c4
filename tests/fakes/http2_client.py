"""An HTTP/2 client on a blocking socket that sends whatever frames a test likes, in or out of order."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 32
CODES = (
    "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR "
    "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM"
).split()
BARRIER = b"barrier!"

Fields = Sequence[Tuple[str, str]]


class Frame(NamedTuple):
    """A frame as it came."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def is_end(self) -> bool:
        """Whether its stream ends with it."""
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"", length: Optional[int] = None) -> bytes:
    """The bytes of a frame, whose length may be a lie."""
    size = len(payload) if length is None else length
    return struct.pack(">BHBBL", size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def settings(values: Dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, payload=b"".join(struct.pack(">HL", *item) for item in values.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment))


def rst_stream(stream_id: int, code: int = 8) -> bytes:
    """A RST_STREAM frame, CANCEL by default."""
    return frame(RST_STREAM, 0, stream_id, struct.pack(">L", code))


def message(body: bytes, flag: int = 0, length: Optional[int] = None) -> bytes:
    """A gRPC message with its prefix, whose length may be a lie."""
    return struct.pack(">BL", flag, len(body) if length is None else length) + body


def fields(path: str = "/t.T/Echo", **changes: Optional[str]) -> List[Tuple[str, str]]:
    """The header list of a good call, with changes: `te=None` leaves a field out; `_` is `-`, and a leading one `:`."""
    named: Dict[str, Optional[str]] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    for name, value in changes.items():
        named[(":" + name[1:] if name[0] == "_" else name).replace("_", "-")] = value
    return [(name, value) for name, value in named.items() if value is not None]


def literal_block(pairs: Sequence[Tuple[Union[str, bytes], Union[str, bytes]]]) -> bytes:
    """A header block of literals, which takes any bytes and needs no table."""
    block = b""
    for pair in pairs:
        name, value = (text if isinstance(text, bytes) else text.encode() for text in pair)
        block += b"\x00" + b"".join(bytes(hpack.hpack.encode_integer(len(text), 7)) + text for text in (name, value))
    return block


def head(stream_id: int, pairs: Optional[Fields] = None, flags: int = 0) -> bytes:
    """A HEADERS frame with a whole block."""
    return frame(HEADERS, END_HEADERS | flags, stream_id, literal_block(fields() if pairs is None else pairs))


def call(stream_id: int, body: bytes = b"hello", path: str = "/t.T/Echo") -> bytes:
    """A whole good call."""
    return head(stream_id, fields(path)) + frame(DATA, END_STREAM, stream_id, message(body))


class Answer(NamedTuple):
    """What came on one stream."""

    fields: Dict[str, str]
    body: bytes

    @property
    def status(self) -> Optional[str]:
        """The number of the gRPC status."""
        return self.fields.get("grpc-status")


class RawClient:
    """A connection; greeted unless told not to."""

    def __init__(self, address: Tuple[str, int], greet: bool = True, values: Optional[Dict[int, int]] = None) -> None:
        self.socket = socket.create_connection(address, 20)
        self.file = self.socket.makefile("rb")
        self.decoder = hpack.Decoder()
        self.seen: List[Frame] = []
        if greet:
            self.send(PREFACE + settings(values or {}) + frame(SETTINGS, 1))

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket."""
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes; a server that has closed the connection is no failure."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def frames(self) -> Iterator[Frame]:
        """What comes, until the server closes the connection."""
        while True:
            try:
                header = self.file.read(9)
                if len(header) < 9:
                    return
                high, low, kind, flags, stream_id = struct.unpack(">BHBBL", header)
                payload = self.file.read(high << 16 | low)
            except ConnectionError:
                return
            found = Frame(kind, flags, stream_id, payload)
            self.seen.append(found)
            yield found

    def settled(self) -> List[Frame]:
        """All that came until the server had taken in what was sent, or closed the connection."""
        self.send(frame(PING, payload=BARRIER))
        for found in self.frames():
            if found.kind == PING and found.flags & 1 and found.payload == BARRIER:
                break
        return self.seen

    def finished(self) -> List[Frame]:
        """All that came after the server was told that nothing more will be sent."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return self.until_closed()

    def until_closed(self) -> List[Frame]:
        """All that came until the server closed the connection."""
        for _ in self.frames():
            pass
        return self.seen

    def verdict(self) -> str:
        """How the server took what was sent: `GOAWAY code`, `RST stream code`, `closed`, or `fine`."""
        found = self.settled()
        is_settled = bool(found) and found[-1].kind == PING
        return "closed" if verdict(found) == "fine" and not is_settled else verdict(found)

    def answer(self, stream_id: int = 1) -> Answer:
        """The whole answer on a stream; window updates are up to the test."""
        parts: List[Frame] = [each for each in self.seen if each.stream_id == stream_id]
        while not any(each.is_end or each.kind == RST_STREAM for each in parts):
            found = next(self.frames())
            parts += [found] if found.stream_id == stream_id else []
        pairs: Dict[str, str] = {}
        for part in parts:
            if part.kind == HEADERS:
                pairs.update((str(name), str(value)) for name, value in self.decoder.decode(part.payload))
        return Answer(pairs, b"".join(part.payload for part in parts if part.kind == DATA))


def verdict(frames: Sequence[Frame]) -> str:
    """The first refusal among frames."""
    for found in frames:
        if found.kind == GOAWAY:
            return "GOAWAY " + CODES[struct.unpack(">L", found.payload[4:8])[0]]
        if found.kind == RST_STREAM:
            return f"RST {found.stream_id} " + CODES[struct.unpack(">L", found.payload)[0]]
    return "fine"

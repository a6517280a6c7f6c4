"""What an engine and its process say to each other: small frames over a socket, with descriptors of memory."""

from __future__ import annotations

import array
import contextlib
import enum
import os
import socket
import struct
from dataclasses import dataclass
from typing import List, Sequence, Tuple

from edge_runtime.errors import BackendError

_HEADER = struct.Struct("<BHIQ")  # kind, number, bytes of the head and of the payload
_MOST_DESCRIPTORS = 253  # of one message (SCM_MAX_FD)
_ANCILLARY_NBYTES = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)


class Kind(enum.IntEnum):
    """What a frame says; `number` is a slot's, or a segment's.

    LOAD asks for a plan, SLOT describes a slot of it and brings its socket, LOADED ends these. RUN asks for a run of a
    segment, which is DONE. FAILED answers LOAD and RUN alike.
    """

    LOAD = 1
    SLOT = 2
    LOADED = 3
    RUN = 4
    DONE = 5
    FAILED = 6


@dataclass(frozen=True)
class Frame:
    """One frame as it came; who takes it owns the descriptors."""

    kind: Kind
    number: int
    head: bytes
    payload: bytes
    descriptors: Tuple[int, ...]


class Channel:
    """One end of a pair of sockets; one thread sends and receives, any thread may `shut_down`."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def send(
        self, kind: Kind, number: int = 0, head: bytes = b"", payload: bytes = b"", descriptors: Sequence[int] = ()
    ) -> None:
        """Sends a frame; the descriptors stay the caller's.

        Raises:
            OSError: the other side is gone.
        """
        if len(descriptors) > _MOST_DESCRIPTORS:
            raise BackendError(f"a message can't bring {len(descriptors)} tensors, of {_MOST_DESCRIPTORS} at most")
        text = _HEADER.pack(kind, number, len(head), len(payload)) + head
        if descriptors:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())
            text = text[self._socket.sendmsg([text], [rights]) :]
        self._socket.sendall(text)
        if payload:
            self._socket.sendall(payload)

    def receive(self) -> Frame | None:
        """The next frame; None when the other side is gone, or this one was shut down."""
        descriptors: List[int] = []
        with contextlib.ExitStack() as undo:
            undo.callback(_close, descriptors)
            try:
                header = self._begun(descriptors)
                if header is None:
                    return None
                kind, number, head_nbytes, payload_nbytes = _HEADER.unpack(header)
                head, payload = self._exactly(head_nbytes), self._exactly(payload_nbytes)
            except OSError:
                return None
            if head is None or payload is None:
                return None
            undo.pop_all()
        return Frame(Kind(kind), number, head, payload, tuple(descriptors))

    def _begun(self, descriptors: List[int]) -> bytes | None:
        """A frame's header; descriptors come with its first byte."""
        text, ancillary, _, _ = self._socket.recvmsg(_HEADER.size, _ANCILLARY_NBYTES, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                descriptors += found
        rest = self._exactly(_HEADER.size - len(text)) if text else None
        return None if rest is None else text + rest

    def _exactly(self, nbytes: int) -> bytes | None:
        if not nbytes:
            return b""
        data = self._socket.recv(nbytes, socket.MSG_WAITALL)
        if len(data) == nbytes or not data:
            return data or None
        whole = bytearray(data)  # a signal came in between, or it is more than the socket gives at once
        while len(whole) < nbytes:
            data = self._socket.recv(nbytes - len(whole), socket.MSG_WAITALL)
            if not data:
                return None
            whole += data
        return bytes(whole)

    def shut_down(self) -> None:
        """Ends it for both sides: who waits here or there goes on at once."""
        with contextlib.suppress(OSError):  # the other side may have done so, or this one was closed
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Gives the socket back, which no thread uses any more; idempotent."""
        self._socket.close()


def _close(descriptors: List[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)

"""Header blocks: HPACK (RFC 7541) of what the client sends, through a cache, and of what is answered."""

from __future__ import annotations

import re
from typing import Dict, Sequence, Tuple

from hpack import Decoder, HPACKError
from hpack.exceptions import OversizedHeaderListError
from hpack.table import HeaderTable

from edge_runtime.server.http2.faults import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Http2Error
from edge_runtime.server.http2.head import Head

_HARD_FACTOR = 2  # a list so many times over the announced size isn't even decoded
_MAX_CACHED = 64
_MAX_CACHED_NBYTES = 1024
_has_endless_number = re.compile(rb"[\x80-\xff]{1024}").search  # decoding it takes time that grows with its square

SHRINK_TABLE = b"\x20"  # dynamic table size update to 0: nothing that we send uses the table
TRAILER_OK = b"\x00\x0bgrpc-status\x010"
ANSWER = b"\x88\x0f\x10\x10application/grpc"  # :status 200, content-type


class _Table(HeaderTable):
    """A dynamic table that counts its changes, and keeps its own copies of what is put in it."""

    def __init__(self) -> None:
        self.version = 0
        super().__init__()

    def add(self, name: bytes, value: bytes) -> None:
        self.version += 1
        super().add(bytes(name), bytes(value))

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, size: int) -> None:
        self.version += 1
        HeaderTable.maxsize.fset(self, size)  # type: ignore[attr-defined]


class HeaderReader:
    """Decodes the header blocks of one connection; one that it knows costs a look in a dictionary."""

    __slots__ = ("_decoder", "_known", "_max_list_bytes", "_table", "max_block_bytes")

    def __init__(self, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self.max_block_bytes = _HARD_FACTOR * max_list_bytes
        self._decoder = Decoder(max_header_list_size=self.max_block_bytes)
        self._table = self._decoder.header_table = _Table()
        self._known: Dict[bytes, Head] = {}

    def head(self, block: bytes) -> Head:
        """The head in a whole block.

        Raises:
            Http2Error: the block is broken, or far over the limit: the table can't be kept in step any more.
        """
        known = self._known.get(block)
        return self._decoded(block) if known is None else known

    def _decoded(self, block: bytes) -> Head:
        version = self._table.version
        if _has_endless_number(block):
            raise Http2Error(COMPRESSION_ERROR, "a header block has a number without end")
        try:
            fields = [(field[0], field[1]) for field in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise Http2Error(ENHANCE_YOUR_CALM, "the header list is far over the limit") from None
        except (HPACKError, ValueError):  # older ones format numbers of any length
            raise Http2Error(COMPRESSION_ERROR, "a header block can't be decoded") from None
        head = Head(fields, self._max_list_bytes)
        if self._table.version != version or len(self._known) >= _MAX_CACHED:
            self._known.clear()
        if self._table.version == version and len(block) <= _MAX_CACHED_NBYTES:
            self._known[block] = head
        return head


def literal(name: bytes, value: bytes) -> bytes:
    """One field as a literal that leaves the client's table as it is."""
    return b"\x00" + _string(name) + _string(value)


def literals(fields: Sequence[Tuple[str, str]]) -> bytes:
    """Several fields as literals."""
    return b"".join(
        literal(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in fields
    )


def _string(text: bytes) -> bytes:
    length = len(text)
    if length < 127:
        return bytes((length,)) + text
    length -= 127
    digits = [127]
    while length >= 128:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes((*digits, length)) + text

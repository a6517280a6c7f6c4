"""Compressed messages, undone within a limit."""

from __future__ import annotations

import zlib
from typing import Union

from edge_runtime.server.http2.faults import CallRefusedError

Buffer = Union[bytes, bytearray, memoryview]

ACCEPTED = "identity,deflate,gzip"
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


def decompressed(message: Buffer, encoding: str, max_bytes: int) -> bytes:
    """The message as it was before `encoding`, which is the call's grpc-encoding.

    Raises:
        CallRefusedError: an encoding that isn't known, a broken message, or one over the limit.
    """
    if encoding == "identity":
        raise CallRefusedError(
            "INVALID_ARGUMENT", "the message is marked as compressed, but grpc-encoding names no way"
        )
    if encoding not in _WINDOW_BITS:
        raise CallRefusedError("UNIMPLEMENTED", f"unknown grpc-encoding; expected one of {ACCEPTED}")
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = inflater.decompress(message, max_bytes + 1)
    except zlib.error:
        raise CallRefusedError("INVALID_ARGUMENT", f"the message isn't valid {encoding}") from None
    if len(plain) > max_bytes:
        raise CallRefusedError("RESOURCE_EXHAUSTED", f"the message is over {max_bytes} bytes when decompressed")
    if not inflater.eof or inflater.unused_data:
        raise CallRefusedError("INVALID_ARGUMENT", f"the message isn't one whole {encoding} stream")
    return plain

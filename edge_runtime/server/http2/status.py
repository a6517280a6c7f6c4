"""Answers without a message: a gRPC status, or an HTTP status for what isn't gRPC, as header blocks."""

from __future__ import annotations

from typing import Sequence, Tuple

from edge_runtime.server.http2.header_blocks import ANSWER, TRAILER_OK, literal, literals

OK_ALONE = ANSWER + TRAILER_OK  # the end of a call without any message

_CODES = {
    name: number
    for number, name in enumerate(
        "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
        "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
        "UNAUTHENTICATED".split()
    )
}
_MAX_TEXT_NBYTES = 1024
_STATUS_NAME_INDEX = b"\x08\x03"  # literal, name from the static table, three digits


def grpc_status_block(code: str, text: str, metadata: Sequence[Tuple[str, str]] = ()) -> bytes:
    """The header block of a trailers-only answer; `code` is a name such as NOT_FOUND."""
    return ANSWER + grpc_trailers(code, text, metadata)


def grpc_trailers(code: str, text: str, metadata: Sequence[Tuple[str, str]] = ()) -> bytes:
    """The header block that ends a call after its messages."""
    status = literal(b"grpc-status", b"%d" % _CODES[code])
    return b"".join((status, literal(b"grpc-message", percent_encoded(text)), literals(metadata)))


def http_status_block(status: int) -> bytes:
    """The header block of an answer to what isn't gRPC."""
    fields = (("allow", "POST"),) if status == 405 else ()
    return _STATUS_NAME_INDEX + b"%d" % status + literals((("content-length", "0"), *fields))


def percent_encoded(text: str) -> bytes:
    """The text as a grpc-message, cut to a length that every client takes."""
    encoded = b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in text.encode("utf-8", "replace")[:_MAX_TEXT_NBYTES]
    )
    return encoded.strip(b" ")

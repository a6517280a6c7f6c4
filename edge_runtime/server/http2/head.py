"""The head of a call: what its header list says, checked by RFC 9113 section 8 and the gRPC protocol."""

from __future__ import annotations

import re
from typing import Dict, Optional, Sequence, Tuple

from edge_runtime.server.http2.compression import ACCEPTED
from edge_runtime.server.origin import TRACEPARENT, traceparent_of

Fields = Sequence[Tuple[bytes, bytes]]

_TRACEPARENT = TRACEPARENT.encode()
_FIELD_OVERHEAD = 32  # RFC 9113, section 6.5.2
_PSEUDO = (b":method", b":scheme", b":path", b":authority")
_OF_CONNECTIONS = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_is_value = re.compile(rb"(?:[^\0\r\n\t ](?:[^\0\r\n]*[^\0\r\n\t ])?)?").fullmatch
_is_timeout = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_UNIT_NS = {b"H": 3_600_000_000_000, b"M": 60_000_000_000, b"S": 1_000_000_000, b"m": 1_000_000, b"u": 1000, b"n": 1}


class Head:
    """What a header list says; unless `is_plain`, one of `is_malformed`, `http_status` and `refusal` says why not."""

    __slots__ = (
        "content_length",
        "encoding",
        "fields",
        "http_status",
        "is_malformed",
        "is_plain",
        "metadata",
        "path",
        "refusal",
        "timeout_ns",
        "traceparent",
    )

    def __init__(self, fields: Fields, max_list_bytes: int) -> None:
        self.fields = fields
        self.path = ""
        self.metadata: Fields = ()
        self.timeout_ns: Optional[int] = None
        self.encoding = "identity"
        self.content_length = -1
        self.traceparent: Optional[str] = None  # its W3C trace, if it has a sound one
        self.is_malformed = False
        self.http_status = 0
        self.refusal: Optional[Tuple[str, str]] = None
        nbytes = sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in fields)
        if nbytes > max_list_bytes:
            self.refusal = (
                "RESOURCE_EXHAUSTED",
                f"the header list has {nbytes} bytes; at most {max_list_bytes} are taken",
            )
        else:
            self._read()
        self.is_plain = not self.is_malformed and not self.http_status and self.refusal is None

    def _read(self) -> None:
        count = next((at for at, (name, _) in enumerate(self.fields) if name[:1] != b":"), len(self.fields))
        pseudo = dict(self.fields[:count])
        self.metadata = tuple(self.fields[count:])
        named = dict(reversed(self.metadata))  # of several with one name, the first
        if _TRACEPARENT in named:
            self.traceparent = traceparent_of(*[value for name, value in self.metadata if name == _TRACEPARENT])
        if (
            len(pseudo) != count
            or not _is_request(pseudo)
            or not are_well_formed(self.metadata)
            or not self._has_length(named.get(b"content-length"))
        ):
            self.is_malformed = True
        elif pseudo[b":method"] != b"POST":
            self.http_status = 405
        elif not _is_grpc(named.get(b"content-type", b"")):
            self.http_status = 415
        else:
            self.path = pseudo[b":path"].decode("latin-1")
            self._read_call(named)

    def _has_length(self, text: Optional[bytes]) -> bool:
        if text is None:
            return True
        if not text.isdigit() or len(text) > 18:
            return False
        self.content_length = int(text)
        return all(value == text for name, value in self.metadata if name == b"content-length")

    def _read_call(self, named: Dict[bytes, bytes]) -> None:
        timeout = named.get(b"grpc-timeout")
        self.encoding = named.get(b"grpc-encoding", b"identity").decode("latin-1")
        if timeout is not None:
            found = _is_timeout(timeout)
            if found:
                self.timeout_ns = int(found.group(1)) * _UNIT_NS[found.group(2)]
            else:
                self.refusal = ("INVALID_ARGUMENT", "grpc-timeout: expected at most 8 digits and one of H M S m u n")
        if self.encoding not in ACCEPTED.split(","):
            self.refusal = ("UNIMPLEMENTED", f"unknown grpc-encoding; expected one of {ACCEPTED}")


def are_well_formed(fields: Fields) -> bool:
    """Whether these may be header fields or trailers; pseudo-headers are neither."""
    return all(
        _is_name(name) and _is_value(value) and name not in _OF_CONNECTIONS and (name != b"te" or value == b"trailers")
        for name, value in fields
    )


def _is_request(pseudo: Dict[bytes, bytes]) -> bool:
    has_all = all(name in pseudo for name in _PSEUDO[:3])
    are_known = all(name in _PSEUDO and _is_value(value) for name, value in pseudo.items())
    return has_all and are_known and pseudo[b":scheme"] != b"" and pseudo[b":path"][:1] == b"/"


def _is_grpc(content_type: bytes) -> bool:
    kind = content_type.split(b";")[0].strip().lower()
    return kind == b"application/grpc" or kind.startswith(b"application/grpc+")

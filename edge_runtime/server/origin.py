"""Where a request comes from, as its lines of the log have it: its own id, and its place in a distributed trace."""

from __future__ import annotations

import re
from typing import Dict

_MAX_ID = 128
# W3C Trace Context: version, trace, parent and flags; later versions may say more behind that.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NBYTES = 55
_MAX_NBYTES = 512


def traceparent_of(value: bytes | None) -> str | None:
    """A `traceparent` header as it stands; None without one, or if it isn't sound."""
    if value is None or len(value) > _MAX_NBYTES or _TRACEPARENT.fullmatch(value[:_NBYTES]) is None:
        return None
    if len(value) > _NBYTES and (value[:2] == b"00" or value[_NBYTES : _NBYTES + 1] != b"-"):
        return None
    return value[:_NBYTES].decode("ascii")


def origin_fields(request_id: object, traceparent: str | None) -> Dict[str, str]:
    """What a record of the log has besides its message, for `extra`; what isn't known is left out."""
    fields = {}
    if isinstance(request_id, str) and request_id:
        fields["request_id"] = request_id[:_MAX_ID]
    if traceparent is not None:
        fields["traceparent"] = traceparent
    return fields

"""Where a request comes from: its own id, and its place in a distributed trace, as the log and the answer have them.

A sound `traceparent` goes back with the answer, whatever that is: over HTTP as a header, over gRPC as trailing
metadata. A call that fails has no other metadata (its answer is trailers alone), so that clients and interceptors,
those of OpenTelemetry among them, find it in one place, `trailing_metadata()`, of calls and of errors. It is the
cheaper place too: trailers are a frame of their own behind the message, while the head of an answer is prepared
together with what follows it. `tracestate` isn't looked at.
"""

from __future__ import annotations

import re
from typing import Dict

TRACEPARENT = "traceparent"

_MAX_ID = 128
# W3C Trace Context: version, trace, parent and flags; later versions may say more behind that.
_SOUND = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NBYTES = 55
_MAX_NBYTES = 512


def traceparent_of(*values: bytes | None) -> str | None:
    """The `traceparent` among a request's headers of that name; None unless there is just one, and it is sound.

    One of version 00 is given as it stands. What other versions say beyond that isn't known: they become version 00,
    with the same trace and parent, and of their flags the first (W3C Trace Context, section "Versioning of
    traceparent"). So it is always 55 characters of `[0-9a-f-]`, which may be put into a header.
    """
    value = values[0] if len(values) == 1 else None
    if value is None or len(value) > _MAX_NBYTES or _SOUND.fullmatch(value[:_NBYTES]) is None:
        return None
    if value[:2] == b"00":
        return value.decode("ascii") if len(value) == _NBYTES else None
    if len(value) > _NBYTES and value[_NBYTES : _NBYTES + 1] != b"-":
        return None
    return f"00-{value[3:53].decode('ascii')}{int(value[53:55], 16) & 1:02x}"


def origin_fields(request_id: object, traceparent: str | None) -> Dict[str, str]:
    """What a record of the log has besides its message, for `extra`; what isn't known is left out."""
    fields = {}
    if isinstance(request_id, str) and request_id:
        fields["request_id"] = request_id[:_MAX_ID]
    if traceparent is not None:
        fields[TRACEPARENT] = traceparent
    return fields

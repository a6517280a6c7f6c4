"""A call's place in a trace, on grpcio: what the log has of it, and how it goes back with whatever ends the call."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import grpc

from edge_runtime.server.grpc_methods import Refusal
from edge_runtime.server.origin import TRACEPARENT, origin_fields, traceparent_of
from edge_runtime.wire.grpc_stream import request_id


def send_trace_back(context: Any) -> None:
    """Has the answer's trailing metadata say the call's trace, if it has one."""
    metadata = _trace_metadata(context)
    if metadata:
        context.set_trailing_metadata(tuple(metadata))


async def abort(context: Any, refusal: Refusal) -> None:
    """Ends a call with a status, and with its trace."""
    code, text, metadata = refusal
    await context.abort(grpc.StatusCode[code], text, (*metadata, *_trace_metadata(context)))


def origin_of(context: Any, inference: bytes | None = None) -> Dict[str, str]:
    """What a record of the log has of a call: its trace, and its id, if `inference` is its message."""
    return origin_fields(None if inference is None else request_id(inference), _traceparent(context))


def _traceparent(context: Any) -> str | None:
    metadata = context.invocation_metadata() or ()
    return traceparent_of(*[value.encode() for name, value in metadata if name == TRACEPARENT])


def _trace_metadata(context: Any) -> List[Tuple[str, str]]:
    traceparent = _traceparent(context)
    return [] if traceparent is None else [(TRACEPARENT, traceparent)]

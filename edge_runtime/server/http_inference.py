"""An inference over HTTP in all its forms: JSON or binary, compressed or not; the same for every HTTP transport."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Dict, Hashable, Tuple

from edge_runtime.server.compression import compressed, decompressed
from edge_runtime.server.models import ServedModel
from edge_runtime.server.region_access import RegionAccess, RegionUse
from edge_runtime.server.routes import JSON, HttpAnswer
from edge_runtime.wire.http_infer import HEAD_LENGTH, body_from_answer, request_from_body
from edge_runtime.wire.inference import InferAnswer, InferRequest

BINARY = "application/octet-stream"
_LARGE_JSON_NBYTES = 1 << 20
_LARGE_ANSWER_NBYTES = 1 << 16


@dataclass(frozen=True)
class InferBody:
    """A whole body: its Content-Encoding ("": none), its JSON head's length (None: all of it), when it began, whose."""

    data: Any
    encoding: str
    head_nbytes: int | None
    arrival_ns: int
    limit: int
    client: Hashable = None


async def infer_answer(
    model: ServedModel, version: str, body: InferBody, accepted: str | None, regions: RegionAccess
) -> HttpAnswer:
    """Runs the request in a body; the answer is compressed if `accepted` names how.

    Raises:
        RequestError: the body doesn't fit the protocol, the model or the regions, or the answer isn't JSON.
        ServerUnavailableError: the queue is full, or the deadline can't be kept.
        EdgeRuntimeError: the run failed.
    """
    loop = asyncio.get_running_loop()
    data = memoryview(body.data)
    if body.encoding:
        data = memoryview(await loop.run_in_executor(None, decompressed, data, body.encoding, body.limit))
    with regions.use() as shared:
        received = await _decoded(data, body.head_nbytes, model, version, shared)

        def encode(answer: InferAnswer) -> Tuple[int | None, bytes]:
            return body_from_answer(answer, received.outputs, shared)

        head_nbytes, payload = await model.infer(received, body.arrival_ns, encode, client=body.client)
    headers: Dict[str, str] = {}
    if head_nbytes is not None:
        headers[HEAD_LENGTH] = str(head_nbytes)
    if accepted is not None:
        headers["Content-Encoding"] = accepted
        if len(payload) > _LARGE_ANSWER_NBYTES:
            payload = await loop.run_in_executor(None, compressed, payload, accepted)
        else:
            payload = compressed(payload, accepted)
    return HttpAnswer(payload, 200, JSON if head_nbytes is None else BINARY, headers)


async def _decoded(
    body: memoryview, head_nbytes: int | None, model: ServedModel, version: str, shared: RegionUse
) -> InferRequest:
    """The request in the body; a long JSON text is read on another thread, so that others needn't wait."""
    arguments = (body, head_nbytes, model.name, version, model.engine.signature, shared)
    json_nbytes = len(body) if head_nbytes is None else min(head_nbytes, len(body))
    if json_nbytes <= _LARGE_JSON_NBYTES:
        return request_from_body(*arguments)
    return await asyncio.get_running_loop().run_in_executor(None, request_from_body, *arguments)

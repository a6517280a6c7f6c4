"""Inference over a gRPC stream: `ModelStreamInfer`'s responses, around those of `ModelInfer`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Tuple

from google.protobuf.message import DecodeError

from edge_runtime.errors import InvalidRequestError
from edge_runtime.wire.messages import message
from edge_runtime.wire.raw_message import check_parts, split_message, varint_field

_INFER_RESPONSE = 2 << 3 | 2


def streamed_response(response: bytes) -> Tuple[bytes, bytes, bytes]:
    """The pieces of the response around a serialized `ModelInferResponse`, which says that it is the final one."""
    final = _final()
    return varint_field(_INFER_RESPONSE, len(response) + len(final)), response, final


def streamed_error(request_id: str, text: str) -> bytes:
    """The response that says why a request has no answer."""
    response = message("inference.ModelStreamInferResponse")(error_message=text)
    response.infer_response.id = request_id
    response.infer_response.parameters["triton_final_response"].bool_param = True
    return response.SerializeToString()  # type: ignore[no-any-return]


def request_id(data: Any) -> str | None:
    """The id of a serialized `ModelInferRequest`; None if it isn't one."""
    found = split_message(memoryview(data))
    head = memoryview(data) if found is None else found[0]
    try:
        check_parts(head)
        received = message("inference.ModelInferRequest").FromString(bytes(head))
    except (DecodeError, InvalidRequestError):
        return None
    return received.id  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _final() -> bytes:
    """What is added behind a response: a serialized message goes on in another, as if both were one."""
    response = message("inference.ModelInferResponse")()
    response.parameters["triton_final_response"].bool_param = True
    return response.SerializeToString()  # type: ignore[no-any-return]

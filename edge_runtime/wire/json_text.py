"""JSON as the protocol allows it: UTF-8, no NaN, no infinity, at most 100 levels deep."""

from __future__ import annotations

import json
import re
from typing import Any, Dict

import numpy as np

from edge_runtime.errors import InvalidRequestError

_MAX_DEPTH = 100
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1


def parsed_object(text: bytes | memoryview) -> Dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        InvalidRequestError: it isn't JSON, isn't an object, or is nested too deep.
    """
    data = bytes(text)
    if _depth(data) > _MAX_DEPTH and _depth(_STRING.sub(b"", data)) > _MAX_DEPTH:
        raise InvalidRequestError(f"JSON is nested deeper than {_MAX_DEPTH} levels")
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_refused_constant)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or getattr(error, "reason", None) or "nested too deep"
        raise InvalidRequestError(f"not valid JSON: {reason}") from None
    if not isinstance(content, dict):
        raise InvalidRequestError("expected a JSON object")
    return content


def _refused_constant(name: str) -> None:
    raise InvalidRequestError(f"not valid JSON: {name} is no number; send the tensor as binary data")


def _depth(data: bytes) -> int:
    """The deepest nesting if no bracket stands in a string; more or less than that otherwise."""
    if not data:
        return 0
    steps = _STEPS[np.frombuffer(data, np.uint8)]
    return int(np.cumsum(steps, dtype=np.int32).max())

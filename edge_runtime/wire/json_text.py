"""JSON as the protocol allows it: UTF-8, no NaN, no infinity, at most 100 levels deep and a million brackets wide."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict

import numpy as np

from edge_runtime.errors import InvalidRequestError

_MAX_DEPTH = 100
_MAX_DIGITS = 4300
_MOST_BRACKETS = 1_000_000  # each becomes an object, thirty times as large as its two bytes
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1


def parsed_object(text: bytes | memoryview) -> Dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        InvalidRequestError: it isn't JSON, isn't an object, is nested too deep or has too many arrays and objects.
    """
    data = bytes(text)
    brackets = data.count(b"[") + data.count(b"{")
    if brackets > _MOST_BRACKETS:
        raise InvalidRequestError(f"JSON with {brackets} arrays and objects; send tensors flat, or as binary data")
    if brackets > _MAX_DEPTH and _depth(data) > _MAX_DEPTH:
        raise InvalidRequestError(f"JSON is nested deeper than {_MAX_DEPTH} levels")
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_refused_constant, parse_int=_PARSE_INT)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or getattr(error, "reason", None) or "a number or a nesting is too large"
        raise InvalidRequestError(f"not valid JSON: {reason}") from None
    if not isinstance(content, dict):
        raise InvalidRequestError("expected a JSON object")
    return content


def _refused_constant(name: str) -> None:
    raise InvalidRequestError(f"not valid JSON: {name} is no number; send the tensor as binary data")


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError
    return int(digits)


# Newer Pythons bound the digits themselves, in C; without a bound a long number takes minutes.
_PARSE_INT = None if hasattr(sys, "set_int_max_str_digits") else _bounded_int


def _depth(data: bytes) -> int:
    """The deepest nesting of brackets outside strings, in memory of a few times `data` whatever it holds."""
    codes = np.frombuffer(data.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    steps = _STEPS[codes]
    steps[np.logical_xor.accumulate(codes == ord('"'))] = 0
    return int(np.cumsum(steps[steps != 0], dtype=np.int32).max(initial=0))

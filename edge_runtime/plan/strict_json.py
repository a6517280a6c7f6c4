"""JSON that has one meaning: no name twice in an object, no numbers that JSON has no word for."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple


class AmbiguousJsonError(ValueError):
    """What isn't JSON, or could be read in two ways."""


def object_from_json(data: bytes) -> Dict[str, Any]:
    """The object that `data` is.

    Raises:
        AmbiguousJsonError: it is no UTF-8, no JSON or no object, or has a name twice.
    """
    try:
        content = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # of decoding too
        raise AmbiguousJsonError(str(error)) from None
    if not isinstance(content, dict):
        raise AmbiguousJsonError(f"expected an object, got {type(content).__name__}")
    return content


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise AmbiguousJsonError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def _no_constant(text: str) -> Any:
    raise AmbiguousJsonError(f"{text} is no number of JSON")

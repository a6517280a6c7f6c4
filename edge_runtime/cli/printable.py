"""Text and numbers from elsewhere (files, models, servers) as a terminal and JSON can take them."""

from __future__ import annotations

import math
import re
from typing import Any

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROLS_AND_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str, is_cell: bool = False) -> str:
    """The text with what would steer a terminal, or can't be encoded, as escapes; a cell has no breaks either."""
    return (_CONTROLS_AND_BREAKS if is_cell else _CONTROLS).sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


def finite(content: Any) -> Any:
    """The content with null for each number that JSON has no word for."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    return [finite(value) for value in content] if isinstance(content, (list, tuple)) else content

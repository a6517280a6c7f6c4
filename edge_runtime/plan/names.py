"""What a model may be called: a name that is safe in a path, a URL and a log line."""

from __future__ import annotations

import re

from edge_runtime.errors import ConfigError

MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def check_model_name(name: str) -> str:
    """`name`, if a model may be called that.

    Raises:
        ConfigError: it isn't 1 to 128 of letters, digits, `_`, `.` and `-`, the first no `.` or `-`.
    """
    if not MODEL_NAME.fullmatch(name):
        raise ConfigError(
            f"model name {name[:128]!r}: expected 1 to 128 letters, digits, '_', '.' or '-', "
            "beginning with a letter, a digit or '_'"
        )
    return name

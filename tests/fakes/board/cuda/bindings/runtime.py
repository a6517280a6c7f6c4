"""`cuda.bindings.runtime` of a fake board: its names are those of a fake, and nothing timed on it is a measurement."""

from __future__ import annotations

from typing import Any

from fakes.board_process import process_runtime

_runtime = process_runtime()


def __getattr__(name: str) -> Any:
    return getattr(_runtime, name)

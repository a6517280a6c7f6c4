"""From a trained ONNX model to a verified plan that answers: build, load, serve, measure."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edge_runtime.builder import build
    from edge_runtime.client import Client
    from edge_runtime.engine import Engine, load
    from edge_runtime.errors import EdgeRuntimeError

_HOMES = {
    "Client": "edge_runtime.client",
    "EdgeRuntimeError": "edge_runtime.errors",
    "Engine": "edge_runtime.engine",
    "build": "edge_runtime.builder",
    "load": "edge_runtime.engine",
}
__all__ = ["Client", "EdgeRuntimeError", "Engine", "build", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

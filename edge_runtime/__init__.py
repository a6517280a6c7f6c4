"""From a trained ONNX model to a verified plan that answers: build, load, serve, measure."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edge_runtime.builder.builder import build
    from edge_runtime.client.async_client import AsyncClient
    from edge_runtime.client.client import Client
    from edge_runtime.client.credentials import Credentials
    from edge_runtime.engine.engine import Engine
    from edge_runtime.engine.loading import load
    from edge_runtime.errors import EdgeRuntimeError

_HOMES = {
    "AsyncClient": "edge_runtime.client.async_client",
    "Client": "edge_runtime.client.client",
    "Credentials": "edge_runtime.client.credentials",
    "EdgeRuntimeError": "edge_runtime.errors",
    "Engine": "edge_runtime.engine.engine",
    "build": "edge_runtime.builder.builder",
    "load": "edge_runtime.engine.loading",
}
__all__ = ["AsyncClient", "Client", "Credentials", "EdgeRuntimeError", "Engine", "build", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

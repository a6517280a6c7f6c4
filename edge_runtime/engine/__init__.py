"""A loaded plan that runs."""

from edge_runtime.engine.engine import Engine as Engine
from edge_runtime.engine.loading import EngineOptions as EngineOptions
from edge_runtime.engine.loading import load as load

__all__ = ["Engine", "EngineOptions", "load"]

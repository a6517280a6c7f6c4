"""A strict TensorRT without TensorRT: it has the names of one version, and refuses what that version refuses.

It is a fake. It reads real ONNX and gives real results, for ONNX Runtime runs them on the CPU, but nothing timed on it
is a measurement, plans of it are no plans, and that it takes something doesn't prove that TensorRT would. What it has
is checked against NVIDIA's bindings in tests/conformance/.
"""

# ruff: noqa: F821 - annotations name classes of the module that is faked
from __future__ import annotations

from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Sequence

from fakes import (
    tensorrt_builder,
    tensorrt_callbacks,
    tensorrt_config,
    tensorrt_context,
    tensorrt_engine,
    tensorrt_inspector,
    tensorrt_network,
    tensorrt_parser,
)
from fakes.tensorrt_binding import Dims, HostMemory, bound_class, check_arguments, enum_type, make
from fakes.tensorrt_board import Board
from fakes.tensorrt_enums import enums_of
from fakes.tensorrt_plan import plan_model, plan_record
from fakes.tensorrt_surfaces import SURFACES, VERSIONS, names_of

__all__ = ["SURFACES", "VERSIONS", "Board", "fake_tensorrt", "plan_model", "plan_record"]

_ROOMS = (
    tensorrt_builder,
    tensorrt_callbacks,
    tensorrt_config,
    tensorrt_context,
    tensorrt_engine,
    tensorrt_inspector,
    tensorrt_network,
    tensorrt_parser,
)


def fake_tensorrt(surface: str, cuda: Any = None, **board: Any) -> Any:
    """A module that looks like `tensorrt` of that surface ("8.2" to "11.4").

    Without `cuda` (a FakeCuda) it can only build. `board` are the fields of `Board`, which stays reachable as
    `_board` of the module.
    """
    module: Any = ModuleType("tensorrt", "A fake.")
    module.__spec__ = ModuleSpec("tensorrt", None, origin="a fake")
    module.__version__ = VERSIONS[surface]
    module._surface, module._cuda, module._board = surface, cuda, Board(**board)
    module._major, module._minor = (int(part) for part in surface.split("."))
    module._launches = []  # what is on a stream
    names = names_of(surface)
    enums = enums_of(surface, SURFACES)
    severity = enum_type("Severity", enums.pop("Severity"))
    for name, members in enums.items():
        setattr(module, name, enum_type(name, members))
    module.Dims, module.IHostMemory = Dims, HostMemory
    for name, allowed in names.items():
        if name not in ("", "Dims", "IHostMemory"):
            setattr(module, name, _built(module, name, allowed, severity))
    _add_functions(module, names[""])
    return module


def _built(module: Any, name: str, allowed: Sequence[str], severity: Any) -> type:
    implementation = next(getattr(room, name) for room in _ROOMS if name in vars(room))
    levels = {"Severity": severity, **severity.__members__}
    found = bound_class(module, implementation, [one for one in allowed if one not in levels])
    if "Severity" in allowed:
        for level, value in levels.items():
            setattr(found, level, value)
    return found


def _add_functions(module: Any, names: Sequence[str]) -> None:
    registry = make(module, "IPluginRegistry")

    def init_libnvinfer_plugins(logger: ILogger | Logger | None, namespace: str) -> bool:
        return True

    def get_plugin_registry() -> Any:
        return registry

    def volume(iterable: iterable) -> int:
        total = 1
        for size in iterable:
            total *= size
        return total

    made = {function.__name__: function for function in (init_libnvinfer_plugins, get_plugin_registry, volume)}
    for name in names:
        setattr(module, name, check_arguments(module, made[name]))

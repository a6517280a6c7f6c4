"""The board that a fake TensorRT is on, and the texts that it logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Tuple

from fakes.tensorrt_binding import call_back


@dataclass
class Board:
    """What a test says of the board; the defaults are a Jetson AGX Orin without its accelerators (DLA).

    `workspace_nbytes` is what a build needs; `plugin_libraries` are the operators by path of the library that has
    them. `build_error`, `context_error` and `enqueue_error` are texts with which every build, context or run fails.
    """

    compute_capability: Tuple[int, int] = (8, 7)
    dla_cores: int = 0
    dla_unsupported_ops: FrozenSet[str] = frozenset({"Softmax", "Gemm", "MatMul", "TopK", "Shape", "NonZero"})
    unsupported_ops: FrozenSet[str] = frozenset()
    workspace_nbytes: int = 0
    has_driver: bool = True
    build_error: str = ""
    context_error: str = ""
    enqueue_error: str = ""
    plugin_libraries: Dict[str, Tuple[str, ...]] = field(default_factory=dict)
    loaded_libraries: list = field(default_factory=list)

    @property
    def has_fast_fp16(self) -> bool:
        return self.compute_capability >= (5, 3) and self.compute_capability != (6, 1)

    @property
    def has_int8(self) -> bool:
        return self.compute_capability >= (6, 1) and self.compute_capability != (6, 2)

    @property
    def plugin_ops(self) -> FrozenSet[str]:
        return frozenset(op for path in self.loaded_libraries for op in self.plugin_libraries[path])


def log(logger: Any, severity: str, text: str) -> None:
    """Gives a message to the logger; what that raises is printed and swallowed."""
    call_back(lambda: logger.log(getattr(type(logger).Severity, severity), text), "log")


def usage_error(module: Any, logger: Any, caller: str, text: str, code: int = 3) -> None:
    """Logs a wrong use, in the words of that version: `caller` is `IClass::method`."""
    if module._major >= 10:
        log(logger, "ERROR", f"{caller}: Error Code {code}: API Usage Error ({text})")
    else:
        method = caller.split("::")[1]
        log(logger, "ERROR", f"{code}: [api.cpp::{method}::1] Error Code {code}: API Usage Error ({text})")


def internal_error(logger: Any, place: str, text: str, code: int = 2) -> None:
    """Logs a failure of the library's own."""
    log(logger, "ERROR", f"{code}: [{place}] Error Code {code}: Internal Error ({text})")

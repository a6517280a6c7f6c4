"""The board that a fake TensorRT is on, and the texts that it logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Tuple

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
    loaded_libraries: List[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """JSON has neither tuples nor sets."""
        self.compute_capability = (int(self.compute_capability[0]), int(self.compute_capability[1]))
        self.unsupported_ops = frozenset(self.unsupported_ops)
        self.dla_unsupported_ops = frozenset(self.dla_unsupported_ops)

    @property
    def has_fast_fp16(self) -> bool:
        return self.compute_capability >= (5, 3) and self.compute_capability != (6, 1)

    @property
    def has_int8(self) -> bool:
        return self.compute_capability >= (6, 1) and self.compute_capability != (6, 2)

    @property
    def plugin_ops(self) -> FrozenSet[str]:
        """The operators of libraries that the registry loaded, or that are in this process by `ctypes`."""
        mapped = Path("/proc/self/maps").read_text().split() if self.plugin_libraries else []
        loaded = [path for path in self.plugin_libraries if path in self.loaded_libraries or path in mapped]
        return frozenset(op for path in loaded for op in self.plugin_libraries[path])


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

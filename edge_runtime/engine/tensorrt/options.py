"""What a caller may choose of how a plan of TensorRT runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from edge_runtime.engine.tensorrt.memory_kind import AUTO, MODES, MeasuredMemory
from edge_runtime.errors import ConfigError, nearest
from edge_runtime.tensorrt_api import FULL

OFF = "off"
GRAPHS = (AUTO, OFF)


@dataclass(frozen=True)
class TensorRTOptions:
    """How slots of TensorRT run.

    `device` is the GPU's ordinal, `dla_core` the core of the deep learning accelerator (None: none is used). `plugins`
    are paths of libraries with operators. `allows_host_code`: the plan may bring code of its own, which the CPU runs;
    only for version-compatible plans whose origin is trusted. `measured` is what was found of this board's memory.
    `library` is the TensorRT that built the plan, by its package's name.
    """

    device: int = 0
    memory: str = AUTO
    graphs: str = AUTO
    plugins: Tuple[str, ...] = ()
    dla_core: int | None = None
    allows_host_code: bool = False
    measured: MeasuredMemory | None = None
    library: str = FULL

    def __post_init__(self) -> None:
        check_modes(self.memory, self.graphs)


def check_modes(memory: str, graphs: str) -> None:
    """Raises ConfigError unless both are modes that there are."""
    for name, value, valid in (("memory", memory, MODES), ("graphs", graphs, GRAPHS)):
        if value not in valid:
            raise ConfigError(f"engine option {name} {value!r}: {nearest(value, valid)}")

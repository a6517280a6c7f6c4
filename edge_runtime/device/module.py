"""What is known about Jetson modules and their systems on chip, by the names in the device tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Tuple

_PART = re.compile(r"\bp([0-9]{4})(?:-([0-9]{4}))?\b")


@dataclass(frozen=True)
class Soc:
    """A system on chip: its GPU, and its DLA cores (None: that depends on the module)."""

    gpu: str
    compute_capability: Tuple[int, int]
    has_tensor_cores: bool
    has_int8: bool
    dla_cores: int | None
    has_fp16: bool = True
    has_fp8: bool = False


SOCS: Dict[str, Soc] = {
    "tegra210": Soc("Maxwell", (5, 3), has_tensor_cores=False, has_int8=False, dla_cores=0),
    "tegra186": Soc("Pascal", (6, 2), has_tensor_cores=False, has_int8=False, dla_cores=0),
    "tegra194": Soc("Volta", (7, 2), has_tensor_cores=True, has_int8=True, dla_cores=2),
    "tegra234": Soc("Ampere", (8, 7), has_tensor_cores=True, has_int8=True, dla_cores=None),
    "tegra264": Soc("Blackwell", (11, 0), has_tensor_cores=True, has_int8=True, dla_cores=0, has_fp8=True),
}
# By part number; one without a variant stands for all others of its series.
_MODULES = {
    "p2180": "TX1",
    "p3448": "Nano",
    "p3448-0000": "Nano 4GB",
    "p3448-0002": "Nano 4GB eMMC",
    "p3448-0003": "Nano 2GB",
    "p3310": "TX2",
    "p3489": "TX2i or TX2 4GB",
    "p3636": "TX2 NX",
    "p2888": "AGX Xavier",
    "p3668": "Xavier NX",
    "p3701": "AGX Orin",
    "p3701-0004": "AGX Orin 32GB",
    "p3701-0005": "AGX Orin 64GB",
    "p3767-0000": "Orin NX 16GB",
    "p3767-0001": "Orin NX 8GB",
    "p3767-0003": "Orin Nano 8GB",
    "p3767-0004": "Orin Nano 4GB",
    "p3767-0005": "Orin Nano 8GB",
    "p3834": "Thor",
    # Developer kits whose device tree names the whole board alone.
    "p2371-2180": "TX1",
    "p2597-2180": "TX1",
    "p3450-0000": "Nano 4GB",
}
_DLA_CORES = {
    "AGX Orin": 2,
    "AGX Orin 32GB": 2,
    "AGX Orin 64GB": 2,
    "Orin NX 16GB": 2,
    "Orin NX 8GB": 1,
    "Orin Nano 8GB": 0,
    "Orin Nano 4GB": 0,
}


def module_from_compatible(compatible: str) -> str:
    """The module's name by the part numbers in the device tree's `compatible` text; "" where none is known."""
    for match in _PART.finditer(compatible):
        series, part = f"p{match.group(1)}", match.group(0)
        name = _MODULES.get(part) or _MODULES.get(series)
        if name is not None:
            return name
    return ""


def dla_cores_of(soc: str, module: str) -> int | None:
    """DLA cores of the named module with this system on chip; None where that isn't known."""
    known = SOCS.get(soc)
    if known is None:
        return None
    return known.dla_cores if known.dla_cores is not None else _DLA_CORES.get(module)

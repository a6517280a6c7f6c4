"""What each power mode sets, from the text of a board's nvpmodel.conf.

The file is a sequence of blocks: `< PARAM TYPE=… NAME=… >` says which file a setting goes to and has nothing about the
modes, `< POWER_MODEL ID=n NAME=x >` is followed by lines `NAME PARAMETER VALUE`.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from edge_runtime.device.files import text_of
from edge_runtime.device.power_mode import PowerMode, power_modes
from edge_runtime.device.telemetry.sample import Limits, Number

_CONFIGURATION = "etc/nvpmodel.conf"
_HEAD = re.compile(r"<\s*(\w{1,64})\b([^<>]{0,256})>")
_ID = re.compile(r"\bID=([0-9]{1,9})\b")
_CORE = re.compile(r"CORE_([0-9]{1,4})")
_NUMBER = re.compile(r"-?[0-9]{1,20}")
_LEAST_HZ = 10_000_000  # CPU clocks are in kHz and below it, those of GPU and EMC in Hz and above
_UNLIMITED_HZ = 1 << 40
_GPU, _EMC = "GPU", "EMC"


@dataclass(frozen=True)
class PowerModeSettings:
    """A mode and what it sets. A limit of None is not limited by the mode; `cores_online` None: it doesn't say.

    `cpu` is by cluster, as the file calls it. `others` are settings of other kinds, such as `TPC_POWER_GATING
    TPC_PG_MASK`, as they stand there.
    """

    mode: PowerMode
    cores_online: Tuple[int, ...] | None
    cpu: Mapping[str, Limits]
    gpu: Limits | None
    emc: Limits | None
    others: Mapping[str, str]

    def record(self) -> Dict[str, Any]:
        """As reports write it."""
        return {**asdict(self.mode), **{key: value for key, value in asdict(self).items() if key != "mode"}}


def power_mode_settings(root: Path = Path("/")) -> List[PowerModeSettings]:
    """The modes of the board whose configuration is below `root`, by id, and what each sets; empty without one."""
    lines = _lines_by_id(text_of(root / _CONFIGURATION))
    return [_settings(mode, lines.get(mode.id, [])) for mode in power_modes(root)]


def _lines_by_id(text: str) -> Dict[int, List[Tuple[str, str, str]]]:
    """Name, parameter and value of every line of each mode's block; of two blocks with one id, the last."""
    found: Dict[int, List[Tuple[str, str, str]]] = {}
    block: List[Tuple[str, str, str]] | None = None
    for line in text.splitlines():
        stripped = line.partition("#")[0].strip()
        head = _HEAD.match(stripped)
        if head is not None:
            number = _ID.search(head.group(2)) if head.group(1) == "POWER_MODEL" else None
            block = None if number is None else found.setdefault(int(number.group(1)), [])
            if block is not None:
                block.clear()
            continue
        words = stripped.split()
        if block is not None and len(words) == 3:
            block.append((words[0], words[1], words[2]))
    return found


def _settings(mode: PowerMode, lines: List[Tuple[str, str, str]]) -> PowerModeSettings:
    cores: Dict[int, bool] = {}
    clocks: Dict[str, Limits] = {}
    others: Dict[str, str] = {}
    for name, parameter, value in lines:
        core = _CORE.fullmatch(parameter)
        if name == "CPU_ONLINE" and core is not None and value in ("0", "1"):
            cores[int(core.group(1))] = value == "1"
        elif _is_clock(name) and parameter in ("MIN_FREQ", "MAX_FREQ") and _NUMBER.fullmatch(value):
            side = "min_mhz" if parameter == "MIN_FREQ" else "max_mhz"
            clocks[name] = replace(clocks.get(name, Limits(None, None)), **{side: _mhz(int(value))})
        else:
            others[f"{name} {parameter}"] = value
    return PowerModeSettings(
        mode=mode,
        cores_online=tuple(sorted(core for core, is_on in cores.items() if is_on)) if cores else None,
        cpu={name: limits for name, limits in clocks.items() if name not in (_GPU, _EMC)},
        gpu=clocks.get(_GPU),
        emc=clocks.get(_EMC),
        others=others,
    )


def _is_clock(name: str) -> bool:
    return name.startswith("CPU") or name in (_GPU, _EMC)


def _mhz(value: int) -> Number | None:
    """The clock that a mode asks for; 0, -1 and the largest numbers stand for none."""
    if value <= 0 or value >= _UNLIMITED_HZ:
        return None
    mhz = value / (1_000_000 if value >= _LEAST_HZ else 1000)
    return int(mhz) if mhz.is_integer() else mhz

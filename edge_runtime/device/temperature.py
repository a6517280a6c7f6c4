"""How hot the board is, by the kernel's thermal zones."""

from __future__ import annotations

import re
from pathlib import Path

from edge_runtime.device.files import names_in, text_of, whole_number

_ZONES = "sys/class/thermal"
_COLDEST_C = -100  # what is off reads -256 °C on a Jetson


def hottest_zone_c(root: Path = Path("/")) -> float | None:
    """The temperature of the hottest thermal zone, °C; None where none can be read."""
    found = []
    for name in names_in(root / _ZONES):
        if re.fullmatch(r"thermal_zone[0-9]+", name):
            millidegrees = whole_number(text_of(root / _ZONES / name / "temp"))
            if millidegrees is not None and millidegrees / 1000 > _COLDEST_C:
                found.append(millidegrees / 1000)
    return max(found, default=None)

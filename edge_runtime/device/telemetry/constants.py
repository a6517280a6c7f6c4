"""Zones whose number is no reading."""

from __future__ import annotations

from typing import Mapping, Tuple

_PMIC_C = (50, 100)  # JetPack 4 up to 4.5 prints 100, later ones 50, whatever the heat


def constants_in(temps_c: Mapping[str, float | None]) -> Tuple[str, ...]:
    """The names of zones that always say the same: a PMIC's."""
    return tuple(name for name, value in temps_c.items() if name.upper().startswith("PMIC") and value in _PMIC_C)

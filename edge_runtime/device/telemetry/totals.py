"""A module's power now, from its rails, by the module's own rule; None where no rule makes a claim.

An input rail is the module's alone (a Thor's VIN: the whole board's). AGX Xavier and AGX Orin have no input rail: there
it is the sum of the rails that NVIDIA names, without VDDQ_VDD2_1V8AO, which VIN_SYS_5V0 holds already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Tuple

from edge_runtime.device.telemetry.sample import Rail, TotalPower


@dataclass(frozen=True)
class _Rule:
    """The rails that together are all of the module's power."""

    rails: Tuple[str, ...]

    def total(self, rails: Mapping[str, Rail]) -> TotalPower | None:
        """Their power now; None if one of them is missing."""
        if not all(name in rails for name in self.rails):
            return None
        how = "input-rail" if len(self.rails) == 1 else "sum-of-rails"
        return TotalPower(sum(rails[name].cur_mw for name in self.rails), self.rails, how)


_VDD_IN = _Rule(("VDD_IN",))
_POM = _Rule(("POM_5V_IN",))
_THOR = _Rule(("VIN",))
_AGX_XAVIER = _Rule(("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"))
_AGX_ORIN = _Rule(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
# By what the module's name holds; the first that fits.
_BY_MODULE = (
    ("agx xavier", _AGX_XAVIER),
    ("agx orin", _AGX_ORIN),
    ("thor", _THOR),
    ("orin nano", _VDD_IN),
    ("nano", _POM),
    ("orin nx", _VDD_IN),
    ("xavier nx", _VDD_IN),
    ("tx", _VDD_IN),
)
_BY_RAILS = (_VDD_IN, _POM, _AGX_XAVIER, _AGX_ORIN, _THOR)


def total_power(rails: Mapping[str, Rail], module: str = "") -> TotalPower | None:
    """The power now and what it is made of.

    Args:
        rails: by name, as the board calls them.
        module: its name, as the device tree gives it; a known one lets only its own rule speak.
    """
    name = module.lower()
    own = next((rule for part, rule in _BY_MODULE if part in name), None)
    rules = _BY_RAILS if own is None else (own,)
    return next((total for total in (rule.total(rails) for rule in rules) if total is not None), None)

from __future__ import annotations

import pytest

from edge_runtime.device.telemetry.sample import Rail, TotalPower
from edge_runtime.device.telemetry.totals import total_power

XAVIER = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
ORIN = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
THOR = ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")


def rails(*names):
    return {name: Rail(1 << index, 0) for index, name in enumerate(names)}


@pytest.mark.parametrize(
    ("names", "counted"),
    [
        (("VDD_CPU", "VDD_IN"), ("VDD_IN",)),
        (("POM_5V_GPU", "POM_5V_IN"), ("POM_5V_IN",)),
        ((*THOR, "VIN"), ("VIN",)),
        (XAVIER, XAVIER),
        (ORIN, ORIN),
        ((*ORIN, "VDDQ_VDD2_1V8AO"), ORIN),
        (tuple(reversed(ORIN)), ORIN),
    ],
)
def test_a_total_is_of_the_rails_of_its_rule(names, counted):
    given = rails(*names)
    how = "input-rail" if len(counted) == 1 else "sum-of-rails"
    assert total_power(given) == TotalPower(sum(given[name].cur_mw for name in counted), counted, how)


@pytest.mark.parametrize("names", [(), THOR, XAVIER[:-1], ORIN[1:], ("VDD_SOC", "VDD_CPU_GPU_CV"), ("OWN", "VDD_5V")])
def test_no_claim_without_every_rail_of_a_rule(names):
    assert total_power(rails(*names)) is None


@pytest.mark.parametrize(
    ("module", "name", "is_known"),
    [
        ("Orin Nano 8GB", "VDD_IN", True),
        ("Orin NX 16GB", "VIN", False),
        ("Jetson AGX Thor", "VDD_IN", False),
        ("Nano 4GB", "POM_5V_IN", True),
        ("AGX Orin 64GB", "VDD_IN", False),
        ("TX2i or TX2 4GB", "VDD_IN", True),
        ("a board of our own", "VDD_IN", True),
    ],
)
def test_a_known_module_has_its_own_rule_only(module, name, is_known):
    assert (total_power(rails(name), module) is not None) is is_known

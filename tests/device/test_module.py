from __future__ import annotations

import pytest

from edge_runtime.device.module import SOCS, dla_cores_of, module_from_compatible


@pytest.mark.parametrize(
    ("compatible", "name"),
    [
        ("nvidia,p3449-0000-b00+p3448-0000-b00 nvidia,jetson-nano nvidia,tegra210", "Nano 4GB"),
        ("nvidia,p3449-0000-b00+p3448-0002-b00 nvidia,tegra210", "Nano 4GB eMMC"),
        ("nvidia,p3542-0000+p3448-0003 nvidia,tegra210", "Nano 2GB"),
        ("nvidia,p3450-0000 nvidia,jetson-nano nvidia,tegra210", "Nano 4GB"),
        ("nvidia,p2371-2180 nvidia,jetson-cv nvidia,tegra210", "TX1"),
        ("nvidia,p2597-0000+p3310-1000 nvidia,tegra186", "TX2"),
        ("nvidia,p3509-0000+p3636-0001 nvidia,tegra186", "TX2 NX"),
        ("nvidia,p2822-0000+p2888-0001 nvidia,tegra194", "AGX Xavier"),
        ("nvidia,p3509-0000+p3668-0001 nvidia,tegra194", "Xavier NX"),
        ("nvidia,p3737-0000+p3701-0000 nvidia,tegra234", "AGX Orin"),
        ("nvidia,p3737-0000+p3701-0005 nvidia,tegra234", "AGX Orin 64GB"),
        ("nvidia,p3768-0000+p3767-0000 nvidia,tegra234", "Orin NX 16GB"),
        ("nvidia,p3768-0000+p3767-0001 nvidia,tegra234", "Orin NX 8GB"),
        ("nvidia,p3768-0000+p3767-0005-super nvidia,p3767-0005 nvidia,tegra234", "Orin Nano 8GB"),
        ("nvidia,p4071-0000+p3834-0008 nvidia,tegra264", "Thor"),
    ],
)
def test_the_part_number_names_the_module(compatible: str, name: str) -> None:
    assert module_from_compatible(compatible) == name


@pytest.mark.parametrize(
    "compatible", ["", "nvidia,tegra234", "nvidia,p9999-0000 nvidia,tegra234", "p37670005", "brcm"]
)
def test_a_board_without_a_known_part_number_has_no_module(compatible: str) -> None:
    assert module_from_compatible(compatible) == ""


@pytest.mark.parametrize(
    ("soc", "module", "cores"),
    [
        ("tegra210", "Nano 4GB", 0),
        ("tegra186", "TX2", 0),
        ("tegra194", "", 2),
        ("tegra234", "Orin Nano 8GB", 0),
        ("tegra234", "Orin NX 8GB", 1),
        ("tegra234", "Orin NX 16GB", 2),
        ("tegra234", "AGX Orin", 2),
        ("tegra234", "", None),
        ("tegra264", "Thor", 0),
        ("", "Thor", None),
    ],
)
def test_dla_cores_follow_from_chip_and_module(soc: str, module: str, cores: int | None) -> None:
    assert dla_cores_of(soc, module) == cores


def test_only_volta_and_later_have_tensor_cores_and_int8() -> None:
    assert {name for name, soc in SOCS.items() if soc.has_tensor_cores} == {"tegra194", "tegra234", "tegra264"}
    assert {name for name, soc in SOCS.items() if soc.has_int8} == {"tegra194", "tegra234", "tegra264"}
    assert all(soc.has_fp16 for soc in SOCS.values())

from __future__ import annotations

import pytest

from edge_runtime.device.capabilities import capabilities
from edge_runtime.device.identity import DeviceInfo


def jetson(soc: str, module: str) -> DeviceInfo:
    return DeviceInfo("jetson", "board", "aarch64", "cpu", soc, module)


@pytest.mark.parametrize(
    ("device", "compute", "fp16", "int8", "fp8", "dla"),
    [
        (jetson("tegra210", "Nano 4GB"), "5.3", True, False, False, 0),
        (jetson("tegra186", "TX2"), "6.2", True, False, False, 0),
        (jetson("tegra194", "Xavier NX"), "7.2", True, True, False, 2),
        (jetson("tegra234", "Orin Nano 8GB"), "8.7", True, True, False, 0),
        (jetson("tegra234", "Orin NX 8GB"), "8.7", True, True, False, 1),
        (jetson("tegra264", "Thor"), "11.0", True, True, True, 0),
        (jetson("", ""), None, None, None, None, None),
        (DeviceInfo("nvidia", "none", "x86_64", "cpu"), None, None, None, None, 0),
        (DeviceInfo("cpu", "none", "x86_64", "cpu"), None, False, False, False, 0),
    ],
)
def test_the_table_tells_what_a_device_has(
    device: DeviceInfo,
    compute: str | None,
    fp16: bool | None,
    int8: bool | None,
    fp8: bool | None,
    dla: int | None,
) -> None:
    found = capabilities(device)
    assert (found.compute_capability, found.has_fp16, found.has_int8, found.has_fp8, found.dla_cores) == (
        compute, fp16, int8, fp8, dla
    )  # fmt: skip
    assert found.record()["has_fp8"] == fp8

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.board_trees import pc_with_rapl
from fakes.nvml import ANSWERS, CONSTANTS, REASONS, FakeNvml, NVMLError

from edge_runtime.device.telemetry.sample import Bus, Gpu, Limits, TotalPower
from edge_runtime.device.telemetry.sources.nvml import NvmlSource
from edge_runtime.device.telemetry.sources.sysfs import SysfsSource
from edge_runtime.errors import TelemetryError

NOT_SUPPORTED = NVMLError(CONSTANTS["NVML_ERROR_NOT_SUPPORTED"])
ALL_UNSUPPORTED = {name: NOT_SUPPORTED for name in ANSWERS if name != "nvmlDeviceGetName"}


def test_the_fake_has_the_names_and_constants_of_the_real_library() -> None:
    real = pytest.importorskip("pynvml")
    assert {name: getattr(real, name) for name in CONSTANTS} == CONSTANTS
    for name, bit in REASONS.items():
        assert getattr(real, f"nvmlClocksEventReason{name}") == getattr(real, f"nvmlClocksThrottleReason{name}") == bit
    assert all(callable(getattr(real, name)) for name in (*ANSWERS, "nvmlInit", "nvmlShutdown"))
    assert real.NVMLError(real.NVML_ERROR_GPU_IS_LOST).value == CONSTANTS["NVML_ERROR_GPU_IS_LOST"]


def test_the_real_library_without_a_driver_is_an_error_of_ours() -> None:
    real = pytest.importorskip("pynvml")
    try:
        real.nvmlInit()
    except real.NVMLError:
        with pytest.raises(TelemetryError, match="NVML can't be started"):
            NvmlSource()
    else:
        real.nvmlShutdown()
        pytest.skip("this machine has an NVIDIA driver")


def test_a_gpu_tells_power_clocks_load_heat_and_what_slows_it() -> None:
    sample = NvmlSource(library=FakeNvml()).read()
    assert sample.total_power == TotalPower(61500, ("gpu",), "gpu")
    assert (sample.gr3d, sample.gpu_limits) == (Gpu(87, (1830,)), Limits(None, 2100))
    assert sample.emc == Bus(41, 7001)
    assert (dict(sample.temps_c), dict(sample.trips_c)) == ({"gpu": 71.0}, {"gpu": 93.0})
    assert sorted(name for name, state in sample.cooling.items() if state) == [
        "nvml-sw-power-cap",
        "nvml-sw-thermal-slowdown",
    ]
    assert len(sample.cooling) == 5


def test_an_older_library_calls_them_throttle_reasons() -> None:
    library = FakeNvml(
        nvmlDeviceGetCurrentClocksEventReasons=None, nvmlDeviceGetCurrentClocksThrottleReasons=REASONS["HwSlowdown"]
    )
    cooling = NvmlSource(library=library).read().cooling
    assert [name for name, state in cooling.items() if state] == ["nvml-hw-slowdown"]


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "nvmlDeviceGetName"])
def test_what_isnt_supported_is_unknown_and_not_asked_again(name: str) -> None:
    library = FakeNvml(**{name: NOT_SUPPORTED})
    source = NvmlSource(library=library)
    asked = library.calls.count(name)
    sample = source.read()
    assert library.calls.count(name) == asked
    assert 0 not in (sample.gr3d.load_pct, sample.emc.load_pct)


def test_a_question_that_fails_once_is_asked_again() -> None:
    library = FakeNvml()
    source = NvmlSource(library=library)
    library.answers["nvmlDeviceGetPowerUsage"] = NVMLError(CONSTANTS["NVML_ERROR_TIMEOUT"])
    assert source.read().total_power is None
    library.answers["nvmlDeviceGetPowerUsage"] = 0
    assert source.read().total_power == TotalPower(0, ("gpu",), "gpu")


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (FakeNvml(starts=CONSTANTS["NVML_ERROR_DRIVER_NOT_LOADED"]), "can't be started"),
        (FakeNvml(gpus=0), "NVML has no GPU 0"),
        (FakeNvml(**ALL_UNSUPPORTED), "tells nothing about NVIDIA Made-Up 1"),
        (FakeNvml(nvmlDeviceGetPowerUsage=NVMLError(15)), "NVML lost NVIDIA Made-Up 1"),
    ],
)
def test_a_gpu_that_tells_nothing_is_no_source_and_leaves_no_connection(library: FakeNvml, message: str) -> None:
    with pytest.raises(TelemetryError, match=message):
        NvmlSource(library=library)
    assert library.connections == 0


def test_a_gpu_that_is_lost_is_an_error_at_each_reading() -> None:
    library = FakeNvml()
    source = NvmlSource(library=library)
    library.answers["nvmlDeviceGetPowerUsage"] = NVMLError(CONSTANTS["NVML_ERROR_GPU_IS_LOST"])
    for _ in range(2):
        with pytest.raises(TelemetryError, match="NVML lost"):
            source.read()
    source.close()
    source.close()
    assert library.connections == 0


def test_the_host_gives_what_isnt_the_gpus(tmp_path: Path) -> None:
    source = NvmlSource(SysfsSource(pc_with_rapl(tmp_path)), library=FakeNvml(nvmlDeviceGetName=b"Made-Up"))
    sample = source.read()
    assert (source.origin.source, source.origin.module) == ("nvml", "Made-Up")
    assert dict(sample.temps_c) == {"x86_pkg_temp": 51.0, "coretemp-Package-id-0": 51.0, "gpu": 71.0}
    assert (sample.ram.total_mb, len(sample.cpus), sample.cooling["Processor"]) == (16384, 2, 0)
    source.close()

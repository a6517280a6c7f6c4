from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Callable, Iterator

import pytest
from fakes.board_trees import (
    agx_xavier_jp5,
    files,
    nano_jp4,
    orin_nano_jp6,
    pc_with_rapl,
    stat,
    thor_jp7,
    zones,
)
from fakes.boards import tree

from edge_runtime.device.telemetry.sample import Bus, Gpu, Limits
from edge_runtime.device.telemetry.sources.sysfs import SysfsSource
from edge_runtime.device.telemetry.sources.sysfs_thermal import zone_name
from edge_runtime.errors import TelemetryError


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., SysfsSource]]:
    sources = []

    def build(make: Callable[[Path], Path], *more: object) -> SysfsSource:
        sources.append(SysfsSource(make(tmp_path), *more))
        return sources[-1]

    yield build
    for source in sources:
        source.close()


@pytest.mark.parametrize(
    ("make", "module", "total_mw", "how", "rails"),
    [
        (nano_jp4, "Nano 4GB", 6759, "input-rail", 3),
        (agx_xavier_jp5, "AGX Xavier", 32835, "sum-of-rails", 6),
        (orin_nano_jp6, "Orin Nano 8GB", 13800, "input-rail", 3),
        (thor_jp7, "Thor", 19780, "input-rail", 4),
    ],
)
def test_rails_of_every_release_are_found_by_label(
    opened: Callable[..., SysfsSource],
    make: Callable[[Path], Path],
    module: str,
    total_mw: int,
    how: str,
    rails: int,
) -> None:
    source = opened(make)
    sample = source.read()
    assert (source.origin.source, source.origin.module) == ("sysfs", module)
    assert sample.total_power is not None
    assert (sample.total_power.cur_mw, sample.total_power.how) == (total_mw, how)
    assert len(sample.power_mw) == rails


def test_limits_of_a_rail_are_read_with_and_without_a_unit(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    assert [(r.warn_ma, r.crit_ma) for r in opened(orin_nano_jp6).rails] == [(4050, 4980)] * 3
    assert [(r.warn_ma, r.crit_ma) for r in SysfsSource(nano_jp4(tmp_path / "nano")).rails] == [(4000, 5000)] * 3


def test_unconnected_channels_and_a_second_rail_of_one_name_are_left_out(
    opened: Callable[..., SysfsSource], tmp_path: Path
) -> None:
    orin_nano_jp6(tmp_path)
    folder = tmp_path / "sys/class/hwmon"
    tree(folder / "hwmon8", {"name": "ina3221\n", "in1_label": "NC\n", "in1_input": "0\n", "curr1_input": "0\n"})
    tree(folder / "hwmon9", {"name": "ina3221\n", "in1_label": "VDD_IN\n", "in1_input": "1\n", "curr1_input": "1\n"})
    sample = opened(lambda root: root).read()
    assert {name: rail.cur_mw for name, rail in sample.power_mw.items()} == {
        "VDD_IN": 13800,
        "VDD_CPU_GPU_CV": 5530,
        "VDD_SOC": 2830,
    }


def test_a_negative_current_is_real(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    thor_jp7(tmp_path)
    (tmp_path / "sys/bus/i2c/drivers/ina3221/2-0040/hwmon/hwmon2/curr1_input").write_text("-44\n")
    assert opened(lambda root: root).read().power_mw["VDD_GPU"].cur_mw == -396


def test_a_raised_current_alarm_is_marked(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    source = opened(orin_nano_jp6)
    assert source.read().cooling["VDD_IN-crit-alarm"] == 0
    (tmp_path / "sys/class/hwmon/hwmon1/curr1_crit_alarm").write_text("1\n")
    assert source.read().cooling["VDD_IN-crit-alarm"] == 1


def test_a_sum_with_a_rail_missing_is_no_total(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    source = opened(agx_xavier_jp5)
    (tmp_path / "sys/bus/i2c/drivers/ina3221/2-0041/hwmon/hwmon2/curr2_input").unlink()
    sample = source.read()
    assert "VDDRQ" not in sample.power_mw
    assert sample.total_power is None


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("cpu-thermal", "cpu"),
        ("CPU-therm", "CPU"),
        ("tj-thermal", "tj"),
        ("soc012-thermal", "soc012"),
        ("Tboard_tegra", "Tboard"),
        ("PMIC-Die", "PMIC"),
        ("thermal-fan-est", "thermal"),
        ("thermal-fan-est.46", "thermal"),
        (".46", ".46"),
        ("iwlwifi_1", "iwlwifi"),
        ("x86_pkg_temp", "x86_pkg_temp"),
        ("-thermal", "-thermal"),
    ],
)
def test_zones_are_named_as_tegrastats_prints_them(kind: str, name: str) -> None:
    assert zone_name(kind) == name


@pytest.mark.parametrize(
    ("make", "hottest_c", "constants", "trips_c"),
    [
        (nano_jp4, 60.0, ("PMIC",), {"GPU": 101.0}),
        (agx_xavier_jp5, 54.5, ("PMIC",), {"CPU": 86.0, "GPU": 88.0}),
        (orin_nano_jp6, 67.406, (), {"cpu": 99.0, "gpu": 99.0}),
        (thor_jp7, 38.875, (), {"gpu": 109.0}),
    ],
)
def test_heat_is_read_without_constants_and_fans(
    opened: Callable[..., SysfsSource],
    make: Callable[[Path], Path],
    hottest_c: float,
    constants: tuple,
    trips_c: dict,
) -> None:
    sample = opened(make).read()
    assert (sample.hottest_c, sample.constants, dict(sample.trips_c)) == (hottest_c, constants, trips_c)


def test_a_sensor_that_is_off_is_none(opened: Callable[..., SysfsSource]) -> None:
    assert opened(orin_nano_jp6).read().temps_c["cv0"] is None


def test_two_zones_of_one_type_are_both_kept(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    tree(tmp_path, zones([("acpitz", 40000), ("acpitz", 50000)], {}))
    assert dict(opened(lambda root: root).read().temps_c) == {"acpitz": 40.0, "acpitz-2": 50.0}


def test_a_zone_that_vanishes_is_none_until_it_is_back_under_any_number(
    opened: Callable[..., SysfsSource], tmp_path: Path
) -> None:
    clock = Clock()
    source = opened(thor_jp7, clock)
    thermal = tmp_path / "sys/class/thermal"
    assert source.read().temps_c["gpu"] == 38.875
    (thermal / "thermal_zone3").rename(thermal / "gone")
    clock.now_ns += 3_000_000_000
    assert source.read().temps_c["gpu"] is None
    (thermal / "gone").rename(thermal / "thermal_zone11")
    (thermal / "thermal_zone11/temp").write_text("41000\n")
    clock.now_ns += 3_000_000_000
    assert source.read().temps_c["gpu"] == 41.0


def test_a_file_that_vanishes_and_comes_back_is_opened_anew(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    source = opened(thor_jp7)
    path = tmp_path / "sys/class/thermal/thermal_zone3/temp"
    assert source.read().temps_c["gpu"] == 38.875
    path.unlink()
    assert source.read().temps_c["gpu"] is None
    path.write_text("42000\n")
    assert source.read().temps_c["gpu"] == 42.0


@pytest.mark.parametrize(
    ("make", "gpu", "limits"),
    [
        (nano_jp4, Gpu(22, (921.6,)), Limits(76.8, 921.6)),
        (agx_xavier_jp5, Gpu(95, (1377,)), Limits(114.75, 1377)),
        (orin_nano_jp6, Gpu(99, (624.75,)), Limits(306, 624.75)),
        (thor_jp7, Gpu(None, (314,)), Limits(314, 1575)),
        (pc_with_rapl, None, None),
    ],
)
def test_the_gpu_is_found_by_its_device(
    opened: Callable[..., SysfsSource], make: Callable[[Path], Path], gpu: Gpu | None, limits: Limits | None
) -> None:
    sample = opened(make).read()
    assert (sample.gr3d, sample.gpu_limits) == (gpu, limits)


def test_a_load_out_of_its_range_is_unknown(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    source = opened(orin_nano_jp6)
    (tmp_path / "sys/class/devfreq/17000000.gpu/device/load").write_text("4294967295\n")
    assert source.read().gr3d == Gpu(None, (624.75,))


def test_of_several_cooling_devices_of_a_kind_the_highest_state_counts(opened: Callable[..., SysfsSource]) -> None:
    sample = opened(agx_xavier_jp5).read()
    assert (sample.cooling["cpufreq-cpu0"], sample.cooling["pwm-fan"]) == (1, 3)


def test_over_current_counters_are_those_since_boot(opened: Callable[..., SysfsSource]) -> None:
    assert dict(opened(orin_nano_jp6).read().over_current_events) == {"oc1": 0, "oc2": 0, "oc3": 17}


def test_the_first_load_of_a_core_is_unknown_and_the_next_is_the_difference(
    opened: Callable[..., SysfsSource], tmp_path: Path
) -> None:
    source = opened(nano_jp4)
    assert [cpu.load_pct for cpu in source.read().cpus] == [None] * 4
    tree(tmp_path, stat([(0, 50, 60), (1, 28, 82), (2, 65, 45), (3, 41, 61)]))
    assert [cpu.load_pct for cpu in source.read().cpus] == [100, 0, 50, None]


def test_cores_that_are_off_stay_in_their_place(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    source = opened(nano_jp4)
    source.read()
    tree(tmp_path, stat([(0, 50, 60), (2, 65, 45), (3, 50, 70)]))
    assert [cpu is None for cpu in source.read().cpus] == [False, True, False, False]
    tree(tmp_path, stat([(0, 50, 60), (1, 90, 90), (2, 65, 45), (3, 50, 70)]))
    assert source.read().cpus[1].load_pct is None


def test_without_proc_cores_are_on_by_their_own_files(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    source = opened(nano_jp4)
    (tmp_path / "proc/stat").unlink()
    (tmp_path / "sys/devices/system/cpu/cpu1/online").write_text("0\n")
    assert [cpu and (cpu.load_pct, cpu.freq_mhz) for cpu in source.read().cpus] == [
        (None, 1479), None, (None, 1479), (None, 1479)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["cpu0 1 2", "cpu0 a b c d e", "cpu 1 2 3 4", "cpu9999 1 2 3 4 5", "cpu0 -1 2 3 4 5", "cpu-1 1 2 3 4 5", "cpu"],
)
def test_lines_that_are_no_counters_are_no_cores(opened: Callable[..., SysfsSource], tmp_path: Path, text: str) -> None:
    tree(tmp_path, {"proc/stat": f"{text}\n", "proc/meminfo": "MemTotal: 8 kB\nMemFree: 4 kB\n"})
    assert opened(lambda root: root).read().cpus is None


def test_cores_of_one_cluster_share_its_clock(opened: Callable[..., SysfsSource]) -> None:
    sample = opened(agx_xavier_jp5).read()
    assert [cpu.freq_mhz for cpu in sample.cpus] == [1190.4] * 4 + [1574.4] * 4
    assert sample.cpu_limits == (Limits(1190.4, 2265.6),) * 8


def test_memory_is_counted_as_tegrastats_does(opened: Callable[..., SysfsSource]) -> None:
    sample = opened(orin_nano_jp6).read()
    assert (sample.ram.used_mb, sample.ram.total_mb) == (5530, 7607)
    assert (sample.swap.used_mb, sample.swap.total_mb) == (436, 3804)


def test_the_memory_controllers_clock_is_read_where_it_may_be(opened: Callable[..., SysfsSource]) -> None:
    assert opened(agx_xavier_jp5).read().emc == Bus(None, 2133)


def test_a_pc_has_everything_but_power(opened: Callable[..., SysfsSource]) -> None:
    sample = opened(pc_with_rapl).read()
    assert (sample.total_power, dict(sample.power_mw)) == (None, {})
    assert dict(sample.temps_c) == {"x86_pkg_temp": 51.0, "coretemp-Package-id-0": 51.0}
    assert [cpu.freq_mhz for cpu in sample.cpus] == [2400, 2500]
    assert dict(sample.cooling) == {"Processor": 0}


def test_parts_that_did_not_change_are_shared_by_samples(opened: Callable[..., SysfsSource]) -> None:
    source = opened(orin_nano_jp6)
    one, other = source.read(), source.read()
    assert one.cooling is other.cooling
    assert one.cpu_limits is other.cpu_limits


@pytest.mark.parametrize("make", [nano_jp4, orin_nano_jp6, thor_jp7])
def test_a_tree_that_is_gone_is_said(
    opened: Callable[..., SysfsSource], tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    clock = Clock()
    source = opened(make, clock)
    source.read()
    shutil.rmtree(tmp_path / "sys")
    shutil.rmtree(tmp_path / "proc")
    for clock.now_ns in (0, 5_000_000_000):
        with pytest.raises(TelemetryError, match="can be read; mount them"):
            source.read()


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(TelemetryError, match=r"nothing of .* can be read; mount them"):
        SysfsSource(tmp_path).read()


def test_closing_gives_every_descriptor_back(tmp_path: Path) -> None:
    before = descriptors()
    source = SysfsSource(orin_nano_jp6(tmp_path))
    source.read()
    assert descriptors() > before
    source.close()
    assert descriptors() == before


@pytest.mark.parametrize("damage", ["folder", "loop", "fifo", "huge", "empty", "text", "dangling", "number"])
@pytest.mark.parametrize("make", [nano_jp4, orin_nano_jp6, pc_with_rapl])
def test_no_kind_of_file_makes_a_reading_raise_or_wait(
    tmp_path: Path, make: Callable[[Path], Path], damage: str
) -> None:
    """All of a tree, one half of its files at a time, is damaged; what is left is read."""
    for share in range(2):
        root = make(tmp_path / str(share))
        found = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        for path in found[share::2]:
            spoil(path, damage)
        source = SysfsSource(root)
        try:
            source.read()
            source.read()
        except TelemetryError:
            continue
        finally:
            source.close()


def spoil(path: Path, damage: str) -> None:
    if damage in ("empty", "text", "number"):
        path.write_bytes({"empty": b"", "text": b"\xff\0no number\n", "number": b"9" * 60}[damage])
        return
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "fifo":
        os.mkfifo(path)
    elif damage == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.symlink_to(path if damage == "loop" else "nowhere")


def test_a_sensor_whose_file_may_not_be_read_is_unknown(
    opened: Callable[..., SysfsSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(orin_nano_jp6)
    real_open = os.open

    def refuse(path: object, *rest: int) -> int:
        if str(path).endswith("curr1_input"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *rest)

    monkeypatch.setattr("edge_runtime.device.telemetry.sources.attribute.os.open", refuse)
    assert "VDD_IN" not in source.read().power_mw


def test_a_zone_that_asks_to_try_again_keeps_its_descriptor(
    opened: Callable[..., SysfsSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(thor_jp7)
    source.read()
    before = descriptors()

    read = os.pread

    def busy(descriptor: int, *more: int) -> bytes:
        if "thermal" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return read(descriptor, *more)

    monkeypatch.setattr("edge_runtime.device.telemetry.sources.attribute.os.pread", busy)
    assert source.read().temps_c["gpu"] is None
    assert descriptors() == before


def test_files_of_another_kind_of_hwmon_are_no_rails(opened: Callable[..., SysfsSource], tmp_path: Path) -> None:
    tree(tmp_path, files("sys/class/hwmon/hwmon0", name="nct6775", in1_label="VIN1", in1_input=1, curr1_input=1))
    assert opened(pc_with_rapl).rails == ()

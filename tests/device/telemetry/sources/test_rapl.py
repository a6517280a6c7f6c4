from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fakes.board_trees import files, pc_with_rapl, rapl
from fakes.boards import tree

from edge_runtime.device.telemetry.sample import TotalPower
from edge_runtime.device.telemetry.sources.rapl import RaplSource
from edge_runtime.device.telemetry.sources.sysfs import SysfsSource
from edge_runtime.errors import TelemetryError

PACKAGE = "sys/class/powercap/intel-rapl:0"


class Watched:
    """A source and the clock that it goes by."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_ns = 0
        self.source = RaplSource(root, SysfsSource(root), lambda: self.now_ns)

    def after(self, seconds: float, package_uj: int, core_uj: int = 1_000_000) -> TotalPower | None:
        self.now_ns += round(seconds * 1e9)
        tree(self.root, rapl(package_uj, core_uj))
        return self.source.read().total_power


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(pc_with_rapl(tmp_path))


def test_the_first_sample_has_no_power_and_the_next_the_mean_since(watched: Watched) -> None:
    assert watched.after(0, 5_000_000) is None
    assert watched.after(0.5, 12_500_000, 3_000_000) == TotalPower(15000, ("package-0",), "package")
    rails = watched.source.read().power_mw
    assert {name: rail.cur_mw for name, rail in rails.items()} == {"package-0": 15000, "core": 4000, "psys": 0}


def test_a_counter_that_begins_again_goes_on(watched: Watched) -> None:
    watched.after(0, 262143328850 - 4_000_000)
    assert watched.after(1, 6_000_000) == TotalPower(10000, ("package-0",), "package")


def test_one_that_goes_back_without_a_known_range_is_unknown(watched: Watched) -> None:
    (watched.root / PACKAGE / "max_energy_range_uj").write_text("")
    watched.source = RaplSource(watched.root, None, lambda: watched.now_ns)
    for seconds, energy_uj in ((0, 9_000_000), (1, 1_000_000)):
        watched.now_ns += seconds * 10**9
        (watched.root / PACKAGE / "energy_uj").write_text(str(energy_uj))
        assert watched.source.read().total_power is None


def test_readings_too_close_to_tell_keep_the_power_before(watched: Watched) -> None:
    watched.after(0, 5_000_000)
    watched.after(1, 15_000_000)
    assert watched.after(0.001, 15_000_000) == TotalPower(10000, ("package-0",), "package")
    assert watched.after(0.999, 25_000_000) == TotalPower(10000, ("package-0",), "package")


def test_two_packages_are_added_and_their_parts_told_apart(tmp_path: Path) -> None:
    pc_with_rapl(tmp_path)
    base = "sys/class/powercap"
    tree(
        tmp_path,
        files(f"{base}/intel-rapl:2", name="package-1", energy_uj=0, max_energy_range_uj=1 << 40),
        files(f"{base}/intel-rapl:2:0", name="core", energy_uj=0, max_energy_range_uj=1 << 40),
    )
    watched = Watched(tmp_path)
    watched.after(0, 0)
    (tmp_path / base / "intel-rapl:2/energy_uj").write_text("3000000")
    assert watched.after(1, 2_000_000) == TotalPower(5000, ("package-0", "package-1"), "package")
    assert set(watched.source.read().power_mw) == {"package-0", "core", "package-1", "2-core", "psys"}


def test_the_host_gives_the_rest(watched: Watched) -> None:
    sample = watched.source.read()
    assert (len(sample.cpus), sample.temps_c["x86_pkg_temp"]) == (2, 51.0)


def test_a_machine_without_counters_is_said(tmp_path: Path) -> None:
    with pytest.raises(TelemetryError, match="no RAPL counter"):
        RaplSource(tmp_path)


def test_counters_that_may_not_be_read_are_said_with_the_remedy(tmp_path: Path) -> None:
    pc_with_rapl(tmp_path)
    for path in (tmp_path / "sys/class/powercap").glob("*/energy_uj"):
        path.unlink()
        path.mkdir()  # root may read what no mode lets others read: a folder stands for it
    with pytest.raises(TelemetryError, match=r"run: sudo chmod a\+r .*energy_uj"):
        RaplSource(tmp_path)


def test_counters_that_go_are_an_error(watched: Watched) -> None:
    watched.after(0, 5_000_000)
    shutil.rmtree(watched.root / "sys/class/powercap")
    watched.now_ns += 10**9
    with pytest.raises(TelemetryError, match="can't be read any more"):
        watched.source.read()
    watched.source.close()

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.server.memory.growth import MemoryGrowth
from edge_runtime.server.memory.needs import MemoryNeeds

MIB = 1 << 20


def test_what_was_measured_is_known_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "state" / "needs.json"
    MemoryNeeds(path).learn("k", 5 * MIB)
    found = MemoryNeeds(path).measured("k")
    assert found is not None
    assert (found.nbytes, found.is_measured) == (5 * MIB, True)
    assert MemoryNeeds(path).measured("other") is None


def test_a_larger_measurement_stays() -> None:
    needs = MemoryNeeds()
    for nbytes in (2, 3, 1):
        needs.learn("k", nbytes)
    assert needs.measured("k") == needs.measured("k")
    assert needs.measured("k").nbytes == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["{", "[]", '{"k": "many"}', '{"k": -1}', '{"k": true}', "[" * 100_000, "\0"])
def test_a_file_that_isnt_ours_is_measured_anew_and_replaced(tmp_path: Path, text: str, logged_warnings) -> None:
    path = tmp_path / "needs.json"
    path.write_text(text)
    needs = MemoryNeeds(path)
    assert needs.measured("k") is None
    needs.learn("k", 7)
    assert json.loads(path.read_text()) == {"k": 7}
    assert "measured anew" in logged_warnings()


def test_a_place_that_cant_be_written_costs_only_the_memory_of_it(tmp_path: Path, logged_warnings) -> None:
    (tmp_path / "file").write_text("")
    needs = MemoryNeeds(tmp_path / "file" / "needs.json")
    needs.learn("k", 7)
    assert needs.measured("k") is not None
    assert "isn't kept" in logged_warnings()


def test_only_so_many_are_kept_the_newest_ones(tmp_path: Path) -> None:
    needs = MemoryNeeds(tmp_path / "needs.json")
    for number in range(300):
        needs.learn(str(number), 1)
    found = json.loads((tmp_path / "needs.json").read_text())
    assert (len(found), min(map(int, found))) == (256, 44)


@pytest.fixture
def logged_warnings(caplog):
    return lambda: caplog.text


def test_the_peak_of_this_process_is_seen_though_its_memory_is_freed_again() -> None:
    growth = MemoryGrowth(of_machine=False)
    np.ones(64 * MIB, np.uint8).sum()
    assert 60 * MIB < growth.nbytes() < 90 * MIB


def status(root: Path, resident_kb: int, peak_kb: int) -> None:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/status").write_text(f"Name:\tx\nVmHWM:\t{peak_kb} kB\nVmRSS:\t{resident_kb} kB\n")


def test_where_the_peak_cant_be_forgotten_what_is_resident_counts(tmp_path: Path) -> None:
    status(tmp_path, 1000, 900_000)
    growth = MemoryGrowth(of_machine=False, root=tmp_path)
    status(tmp_path, 3048, 900_000)
    assert growth.nbytes() == 2048 << 10
    assert not (tmp_path / "proc/self/clear_refs").exists()


def test_what_the_machine_has_less_of_counts_for_a_gpu(tmp_path: Path) -> None:
    status(tmp_path, 1, 1)
    meminfo = tmp_path / "proc/meminfo"
    meminfo.write_text("MemFree: 1 kB\nMemAvailable: 3000 kB\n")
    growth = MemoryGrowth(of_machine=True, root=tmp_path)
    meminfo.write_text("MemFree: 1 kB\nMemAvailable: 1000 kB\n")
    assert growth.nbytes() == 2000 << 10
    meminfo.write_text("MemAvailable: 9000 kB\n")
    assert growth.nbytes() == 0

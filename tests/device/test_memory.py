from __future__ import annotations

from pathlib import Path

import pytest
from fakes.boards import meminfo, orin_container, orin_nano_jp6, tree

from edge_runtime.device.memory import available_nbytes, read_memory

GIB = 1 << 30
UNLIMITED_V1 = 9_223_372_036_854_771_712


def test_the_memory_of_a_jetson_is_read(tmp_path: Path) -> None:
    memory = read_memory(orin_nano_jp6(tmp_path))
    assert memory.total_nbytes == 7_789_000 * 1024
    assert memory.available_nbytes == 5_123_456 * 1024
    assert (memory.swap_total_nbytes, memory.swap_free_nbytes) == (3_894_496 * 1024, 1_947_248 * 1024)
    assert memory.nvmap_used_nbytes == 805_068 * 1024
    assert memory.cgroup_limit_nbytes is None


def test_what_is_not_written_is_unknown_and_not_zero(tmp_path: Path) -> None:
    memory = read_memory(tree(tmp_path, {"proc/meminfo": "MemTotal: 12 MB\nSwapTotal: x kB\nMemAvailable: -5 kB\n"}))
    assert memory.total_nbytes is None
    assert memory.available_nbytes is None
    assert memory.swap_total_nbytes is None
    assert memory.nvmap_used_nbytes is None


def test_no_swap_is_zero(tmp_path: Path) -> None:
    assert read_memory(tree(tmp_path, meminfo(1000, 500, 0))).swap_total_nbytes == 0


def test_a_container_may_take_what_its_limit_leaves_with_the_cache_counted_as_free(tmp_path: Path) -> None:
    memory = read_memory(orin_container(tmp_path))
    assert memory.cgroup_limit_nbytes == 2 * GIB
    assert memory.available_nbytes == available_nbytes(tmp_path) == GIB


def test_the_machine_counts_where_it_has_less_than_the_limit_leaves(tmp_path: Path) -> None:
    assert available_nbytes(tree(orin_container(tmp_path), meminfo(15_900_000, 1000, 0))) == 1000 * 1024


@pytest.mark.parametrize(("own", "above"), [("max", 3 * GIB), (5 * GIB, 3 * GIB), (3 * GIB, "max")])
def test_the_tightest_limit_of_a_group_and_those_above_it_counts(tmp_path: Path, own: object, above: object) -> None:
    files = {
        "proc/self/cgroup": "0::/system.slice/edge.service\n",
        "sys/fs/cgroup/system.slice/memory.max": f"{above}\n",
        "sys/fs/cgroup/system.slice/edge.service/memory.max": f"{own}\n",
    }
    assert read_memory(tree(tmp_path, files)).cgroup_limit_nbytes == 3 * GIB


@pytest.mark.parametrize("folder", ["memory/docker/abc", "memory"])
def test_a_limit_of_version_1_is_found_under_the_group_or_at_the_mount(tmp_path: Path, folder: str) -> None:
    files = {
        "proc/self/cgroup": "12:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/system.slice\n",
        f"sys/fs/cgroup/{folder}/memory.limit_in_bytes": f"{GIB}\n",
        f"sys/fs/cgroup/{folder}/memory.usage_in_bytes": f"{GIB // 2}\n",
        f"sys/fs/cgroup/{folder}/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 4}\n",
    }
    memory = read_memory(tree(tmp_path, files))
    assert (memory.cgroup_limit_nbytes, memory.available_nbytes) == (GIB, GIB * 3 // 4)


@pytest.mark.parametrize("text", [str(UNLIMITED_V1), "max", "", "-1", "9" * 40])
def test_no_limit_is_none(tmp_path: Path, text: str) -> None:
    files = {"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": text}
    assert read_memory(tree(tmp_path, files)).cgroup_limit_nbytes is None


def test_a_group_that_leads_out_of_its_mount_is_not_followed(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/../../../outside\n",
        "outside/memory.max": "5\n",
        "sys/fs/cgroup/memory.max": "7\n",
    }
    assert read_memory(tree(tmp_path, files)).cgroup_limit_nbytes == 7


def test_a_group_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory.current": f"{9 * GIB}\n", "sys/fs/cgroup/memory.stat": ""}
    assert available_nbytes(tree(orin_container(tmp_path), files)) == 0

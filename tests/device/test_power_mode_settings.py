from __future__ import annotations

from pathlib import Path

import pytest
from fakes.boards import tree
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.device.power_mode import PowerMode
from edge_runtime.device.power_mode_settings import power_mode_settings
from edge_runtime.device.telemetry.sample import Limits

# Made up, in the form of nvpmodel.conf: no board's file is shipped with this project.
CONF = """# made-up configuration
# < POWER_MODEL ID=id_num NAME=mode_name >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
CORE_1 /sys/devices/system/cpu/cpu1/online

< PARAM TYPE=CLOCK NAME=CPU_A78_0 >
FREQ_TABLE /sys/devices/system/cpu/cpu0/cpufreq/scaling_available_frequencies
MAX_FREQ /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq
MAX_FREQ_KNEXT /sys/kernel/nvpmodel 1

< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
CPU_A78_0 MIN_FREQ 0
CPU_A78_0 MAX_FREQ -1
GPU MIN_FREQ 0
GPU MAX_FREQ -1
EMC MAX_FREQ 0

< POWER_MODEL ID=0 NAME=15W >
FBP_POWER_GATING FBP_PG_MASK 2
TPC_POWER_GATING TPC_PG_MASK 252
CPU_ONLINE CORE_0 1   # the boot core
CPU_ONLINE CORE_1 0
CPU_A78_0 MIN_FREQ 729600
CPU_A78_0 MAX_FREQ 1510400
CPU_A78_1 MAX_FREQ 1510400
GPU MIN_FREQ 306000000
GPU MAX_FREQ 624750000
EMC MAX_FREQ 2133000000
DLA0_CORE MAX_FREQ 614400000

< PM_CONFIG DEFAULT=0 >
< FAN_CONFIG DEFAULT=quiet >
GPU MAX_FREQ 1
"""


def test_each_mode_says_what_it_sets(tmp_path: Path) -> None:
    limited, unlimited = power_mode_settings(tree(tmp_path, {"etc/nvpmodel.conf": CONF}))
    assert limited.mode == PowerMode(0, "15W")
    assert limited.cores_online == (0,)
    assert limited.cpu == {"CPU_A78_0": Limits(729.6, 1510.4), "CPU_A78_1": Limits(None, 1510.4)}
    assert (limited.gpu, limited.emc) == (Limits(306, 624.75), Limits(None, 2133))
    assert limited.others == {
        "FBP_POWER_GATING FBP_PG_MASK": "2",
        "TPC_POWER_GATING TPC_PG_MASK": "252",
        "DLA0_CORE MAX_FREQ": "614400000",
    }
    assert (unlimited.mode, unlimited.cores_online) == (PowerMode(2, "MAXN_SUPER"), (0, 1))
    assert (unlimited.cpu, unlimited.gpu) == ({"CPU_A78_0": Limits(None, None)}, Limits(None, None))


def test_a_mode_that_sets_nothing_says_nothing(tmp_path: Path) -> None:
    (mode,) = power_mode_settings(tree(tmp_path, {"etc/nvpmodel.conf": "< POWER_MODEL ID=7 NAME=X >\n"}))
    assert (mode.cores_online, mode.cpu, mode.gpu, mode.emc, mode.others) == (None, {}, None, None, {})
    assert mode.record() == {
        "id": 7, "name": "X", "cores_online": None, "cpu": {}, "gpu": None, "emc": None, "others": {}
    }  # fmt: skip


def test_of_two_blocks_with_one_id_the_last_counts(tmp_path: Path) -> None:
    text = "< POWER_MODEL ID=0 NAME=A >\nGPU MAX_FREQ 10000000\n< POWER_MODEL ID=0 NAME=B >\nEMC MAX_FREQ 20000000\n"
    (mode,) = power_mode_settings(tree(tmp_path, {"etc/nvpmodel.conf": text}))
    assert (mode.mode.name, mode.gpu, mode.emc) == ("B", None, Limits(None, 20))


def test_a_board_without_a_configuration_has_no_modes(tmp_path: Path) -> None:
    assert power_mode_settings(tmp_path) == []


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from([*CONF.splitlines(keepends=True), "<", " >", "\0", "GPU MAX_FREQ 9" * 9]), max_size=12))
def test_no_configuration_makes_the_reader_raise(tmp_path_factory: pytest.TempPathFactory, pieces: list) -> None:
    root = tree(tmp_path_factory.getbasetemp() / "any", {"etc/nvpmodel.conf": "".join(pieces)})
    assert all(mode.record()["id"] >= 0 for mode in power_mode_settings(root))

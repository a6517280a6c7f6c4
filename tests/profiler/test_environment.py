from __future__ import annotations

import json
import os

import pytest

from edge_runtime.profiler.environment import read_environment

FILES = {
    "proc/meminfo": "MemTotal:        7822000 kB\nMemFree: 1 kB\n",
    "proc/loadavg": "0.25 0.10 0.05 1/100 4242\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1510400\n",
}


@pytest.fixture
def root(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_machine_is_read_from_its_files(root):
    found = read_environment(root)
    assert found.memory_total_bytes == 7822000 * 1024
    assert (found.cpu_governor, found.cpu_max_clock_mhz, found.load_average_1_min) == ("schedutil", 1510, 0.25)
    assert found.device.cpu == "ARMv8 Processor rev 1 (v8l)"
    assert found.cores_usable == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("text", [None, "", "nonsense", "MemTotal: many kB\n", "MemTotal:\n"])
def test_what_cannot_be_read_is_unknown_and_never_zero(tmp_path, text):
    if text is not None:
        for name in FILES:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text if "governor" not in name else "")
    found = read_environment(tmp_path).record()
    unknown = ("memory_total_bytes", "load_average_1_min", "cpu_governor", "cpu_max_clock_mhz", "power_mode")
    assert [found[name] for name in unknown] == [None] * 5


def test_the_record_is_json_and_names_the_versions(root):
    record = json.loads(json.dumps(read_environment(root).record()))
    assert set(record["versions"]) >= {"edge_runtime", "numpy", "onnxruntime"}
    assert all(record["versions"].values())
    assert record["board"] == "none"


def test_the_power_mode_of_a_board_is_its_name(root):
    for name, text in {
        "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=25W >\n",
        "var/lib/nvpmodel/status": "pmode:0002",
    }.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text)
    found = read_environment(root)
    assert found.record()["power_mode"] == dict(found.rows())["power mode"] == "25W"


def test_rows_say_what_was_not_measured(root):
    rows = dict(read_environment(root).rows())
    assert rows["power mode"] == "not measured"
    assert rows["memory"] == "7.5 GiB"
    assert rows["clocks"] == "schedutil, 1510 MHz at most"

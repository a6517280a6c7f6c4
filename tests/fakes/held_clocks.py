"""A made-up board whose clocks jetson_clocks holds."""

from __future__ import annotations

from pathlib import Path

from fakes.boards import tree


def held_board(root: Path) -> Path:
    """An Orin Nano's two CPU clusters and its GPU, each with its lowest clock at its highest."""
    files = {}
    for policy in (0, 4):
        folder = f"sys/devices/system/cpu/cpufreq/policy{policy}"
        files[f"{folder}/scaling_min_freq"] = files[f"{folder}/scaling_max_freq"] = "1510400\n"
        files[f"{folder}/cpuinfo_min_freq"] = "115200\n"
    gpu = "sys/class/devfreq/17000000.gpu"
    files[f"{gpu}/min_freq"] = files[f"{gpu}/max_freq"] = "624750000\n"
    files[f"{gpu}/available_frequencies"] = "306000000 408000000 510000000 612000000 624750000\n"
    return tree(root, files)

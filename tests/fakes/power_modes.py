"""A made-up board with four power modes, in the form of nvpmodel.conf."""

from __future__ import annotations

from pathlib import Path

from fakes.boards import tree

# Name, cores on, CPU kHz, GPU Hz, mask of the GPU's parts without power; -1 is unlimited.
MODES = {
    0: ("MAXN", 6, -1, -1, 0),
    1: ("25W", 6, 1344000, 918000000, 0),
    2: ("15W", 6, 1190400, 612000000, 0),
    3: ("7W", 4, 960000, 408000000, 0),
    4: ("gated", 6, 1190400, 510000000, 252),
}


def board_with_modes(root: Path, current: int | None = 1) -> Path:
    """The board, in one of its modes; the hardware goes up to 1728 MHz (CPU) and 1020 MHz (GPU)."""
    blocks = []
    for number, (name, cores, cpu, gpu, mask) in MODES.items():
        online = "".join(f"CPU_ONLINE CORE_{core} {int(core < cores)}\n" for core in range(6))
        blocks.append(
            f"< POWER_MODEL ID={number} NAME={name} >\n{online}CPU_A78_0 MAX_FREQ {cpu}\nGPU MAX_FREQ {gpu}\n"
            f"EMC MAX_FREQ 2133000000\nTPC_POWER_GATING TPC_PG_MASK {mask}\n\n"
        )
    files = {
        "etc/nvpmodel.conf": "# made up\n" + "".join(blocks) + "< PM_CONFIG DEFAULT=1 >\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1728000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "115200\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1728000\n",
        "sys/class/devfreq/17000000.gpu/available_frequencies": "306000000 612000000 1020000000\n",
    }
    if current is not None:
        files["var/lib/nvpmodel/status"] = f"pmode:000{current}\n"
    return tree(root, files)

"""Trees of files as boards have them, to be read in place of `/`.

The texts of releases, modules, power modes and memory follow what boards were seen to have; sizes that stand for
nothing in particular, and all of `damaged`, are made up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Union

Content = Union[str, bytes]
Files = Dict[str, Content]

GROUPS = "root:x:0:\nsudo:x:27:user\nvideo:x:44:user\nrender:x:104:\n"
NVHOST_NODES: Files = {
    f"dev/{name}": ""
    for name in ("nvhost-ctrl", "nvhost-ctrl-gpu", "nvhost-as-gpu", "nvhost-gpu", "nvhost-dbg-gpu", "nvmap")
}


def tree(root: Path, *parts: Files) -> Path:
    """Writes the files of all parts below `root`, later ones over earlier ones."""
    for part in parts:
        for name, content in part.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def device_tree(model: str, *compatible: str) -> Files:
    return {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": "".join(f"{name}\0" for name in compatible),
    }


def release(major: int, revision: str) -> Files:
    text = (
        f"# R{major} (release), REVISION: {revision}, GCID: 38171779, BOARD: generic, EABI: aarch64, DATE: Thu Sep 18\n"
    )
    return {"etc/nv_tegra_release": text}


def package(version: str, status: str = "install ok installed", name: str = "nvidia-l4t-core") -> Files:
    entry = f"Package: {name}\nStatus: {status}\nArchitecture: arm64\nVersion: {version}\nDescription: Core\n"
    other = "Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.2.11\n"
    return {"var/lib/dpkg/status": f"{other}\n{entry}\n{other}"}


def meminfo(total_kb: int, available_kb: int, swap_kb: int, nvmap_kb: int | None = None) -> Files:
    nvmap = "" if nvmap_kb is None else f"NvMapMemFree:       1020 kB\nNvMapMemUsed:     {nvmap_kb} kB\n"
    text = (
        f"MemTotal:        {total_kb} kB\nMemFree:          123456 kB\nMemAvailable:    {available_kb} kB\n"
        f"SwapTotal:       {swap_kb} kB\nSwapFree:        {swap_kb // 2} kB\n{nvmap}HugePages_Total:       0\n"
    )
    return {"proc/meminfo": text}


def power(status: str | None, modes: Dict[int, str], default: int) -> Files:
    blocks = "".join(f"< POWER_MODEL ID={n} NAME={name} >\nCPU_ONLINE CORE_0 1\n\n" for n, name in modes.items())
    text = f"# made-up header\n# < POWER_MODEL ID=id_num NAME=mode_name >\n{blocks}< PM_CONFIG DEFAULT={default} >\n"
    return {"etc/nvpmodel.conf": text, **({} if status is None else {"var/lib/nvpmodel/status": status})}


def clocks(*minimum_and_maximum: tuple) -> Files:
    files: Files = {}
    for core, (lowest, highest) in enumerate(minimum_and_maximum):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        files[f"{folder}/scaling_min_freq"] = f"{lowest}\n"
        files[f"{folder}/scaling_max_freq"] = f"{highest}\n"
    return files


def nano_jp4(root: Path) -> Path:
    return tree(
        root,
        device_tree(
            "NVIDIA Jetson Nano Developer Kit",
            "nvidia,p3449-0000-b00+p3448-0000-b00",
            "nvidia,jetson-nano",
            "nvidia,tegra210",
        ),
        release(32, "7.1"),
        package("32.7.1-20220219090432"),
        NVHOST_NODES,
        {"etc/group": GROUPS, "usr/lib/python3.6/dist-packages/tensorrt/__init__.py": ""},
        meminfo(4_059_196, 2_500_000, 2_029_592),
        power("pmode:0000", {0: "MAXN", 1: "5W"}, 0),
        {"usr/bin/tegrastats": ""},
    )


def xavier_nx_jp5(root: Path) -> Path:
    return tree(
        root,
        device_tree("NVIDIA Jetson Xavier NX Developer Kit", "nvidia,p3509-0000+p3668-0000", "nvidia,tegra194"),
        release(35, "4.1"),
        package("35.4.1-20230801124926"),
        NVHOST_NODES,
        {"etc/group": GROUPS, "usr/lib/python3.8/dist-packages/tensorrt/__init__.py": ""},
        meminfo(7_118_312, 5_000_000, 3_559_152, 65_536),
        power("pmode:0008", {0: "MODE_15W_2CORE", 8: "MODE_20W_6CORE"}, 8),
    )


def orin_nano_jp6(root: Path) -> Path:
    return tree(
        root,
        device_tree(
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "nvidia,p3768-0000+p3767-0005-super",
            "nvidia,p3767-0005",
            "nvidia,tegra234",
        ),
        release(36, "4.7"),
        package("36.4.7-20250918154033"),
        NVHOST_NODES,
        {"dev/nvgpu/igpu0/ctrl": "", "dev/nvgpu/igpu0/power": "", "dev/dri/renderD128": "", "etc/group": GROUPS},
        {"usr/lib/python3.10/dist-packages/tensorrt/__init__.py": ""},
        meminfo(7_789_000, 5_123_456, 3_894_496, 805_068),
        power("pmode:0002", {0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"}, 1),
        clocks((729600, 1728000), (729600, 1728000)),
    )


def orin_nx_jp6(root: Path, part: str = "p3767-0000") -> Path:
    return tree(
        root,
        device_tree("NVIDIA Jetson Orin NX", f"nvidia,p3768-0000+{part}", f"nvidia,{part}", "nvidia,tegra234"),
        release(36, "4.3"),
        meminfo(15_900_000, 12_000_000, 7_900_000, 0),
        power("pmode:0000", {0: "MAXN_SUPER", 4: "40W"}, 4),
    )


def agx_orin_jp7(root: Path) -> Path:
    return tree(
        root,
        device_tree(
            "NVIDIA Jetson AGX Orin Developer Kit",
            "nvidia,p3737-0000+p3701-0005",
            "nvidia,p3701-0005",
            "nvidia,tegra234",
        ),
        release(39, "2.0"),
        {
            "usr/lib/python3.12/dist-packages/tensorrt/__init__.py": "",
            "dev/nvhost-ctrl-gpu": "",
            "dev/nvgpu/igpu0/ctrl": "",
        },
        meminfo(64_350_000, 50_000_000, 0),
        power("pmode:0003", {0: "MAXN", 1: "MODE_15W", 2: "MODE_30W", 3: "MODE_50W"}, 3),
        clocks((2201600, 2201600), (2201600, 2201600)),
    )


def thor_jp7(root: Path) -> Path:
    return tree(
        root,
        device_tree(
            "NVIDIA Jetson AGX Thor Developer Kit",
            "nvidia,p4071-0000+p3834-0008",
            "nvidia,p3834-0008",
            "nvidia,tegra264",
        ),
        release(38, "4.0"),
        {"dev/nvidia0": "", "dev/nvidiactl": "", "dev/nvidia-uvm": ""},
        meminfo(128_790_000, 120_000_000, 0),
        power("pmode:0000", {0: "MAXN", 1: "120W"}, 1),
    )


def pc(root: Path) -> Path:
    nodes = {f"dev/{name}": "" for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "dri/renderD128")}
    cpuinfo = "processor\t: 0\nmodel name\t: AMD Ryzen 9\n"
    return tree(root, {**nodes, "proc/cpuinfo": cpuinfo, "etc/group": GROUPS}, meminfo(32_000_000, 20_000_000, 0))


def orin_container(root: Path) -> Path:
    """A container on an Orin NX under 2 GiB, 1.5 GiB of it used, half a GiB of that cache."""
    (root / "dev").mkdir(parents=True, exist_ok=True)
    group = "sys/fs/cgroup"
    return tree(
        root,
        device_tree("NVIDIA Jetson Orin NX", "nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"),
        meminfo(15_900_000, 12_000_000, 7_900_000),
        {
            ".dockerenv": "",
            "proc/self/cgroup": "0::/\n",
            f"{group}/memory.max": f"{2 << 30}\n",
            f"{group}/memory.current": f"{3 << 29}\n",
            f"{group}/memory.stat": f"anon 1\ninactive_file {1 << 29}\n",
        },
    )


def cpu(root: Path) -> Path:
    return tree(root, {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel\n"}, meminfo(16_000_000, 9_000_000, 0))


READ_FILES = (
    "etc/group",
    "etc/nv_tegra_release",
    "etc/nvpmodel.conf",
    "proc/cpuinfo",
    "proc/device-tree/compatible",
    "proc/device-tree/model",
    "proc/meminfo",
    "proc/self/cgroup",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq",
    "sys/fs/cgroup/memory.current",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.stat",
    "var/lib/dpkg/status",
    "var/lib/nvpmodel/status",
)
BOARDS = (nano_jp4, xavier_nx_jp5, orin_nano_jp6, orin_nx_jp6, agx_orin_jp7, thor_jp7, pc, orin_container, cpu)

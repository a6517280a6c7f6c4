"""Trees of /sys and /proc as boards have them, for what reads power, heat and clocks.

No board was at hand: the layout is the documented one of each release, the values are those of real lines of
tegrastats of that module. Limits, trip points and cooling devices are made up where the line doesn't have them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterable, Mapping, Sequence, Tuple

from fakes.boards import Files, device_tree, release, tree

STAT_FIELDS = "{user} 0 0 {idle} 0 0 0 0 0 0"


def files(folder: str, **contents: object) -> Files:
    return {f"{folder}/{name}": f"{content}\n" for name, content in contents.items()}


def ina3221(chip: str, rails: Mapping[int, Tuple[str, int, int]], class_number: int | None = None) -> Files:
    """A monitor by hwmon: label, mV and mA of each channel, and the shunt channels that are to be left alone."""
    bus = f"sys/bus/i2c/drivers/ina3221/{chip}/hwmon/hwmon{chip[0]}"
    folder = bus if class_number is None else f"sys/class/hwmon/hwmon{class_number}"
    found = files(folder, name="ina3221")
    for number, (label, millivolts, milliamperes) in rails.items():
        found.update(
            files(
                folder,
                **{
                    f"in{number}_label": label,
                    f"in{number}_input": millivolts,
                    f"curr{number}_input": milliamperes,
                    f"curr{number}_max": 4050,
                    f"curr{number}_crit": 4980,
                    f"curr{number}_max_alarm": 0,
                    f"curr{number}_crit_alarm": 0,
                    f"in{number + 3}_input": 12,
                },
            )
        )
    found.update(files(folder, in7_label="sum of shunt voltages", in7_input=40))
    return found


def ina3221x(chip: str, rails: Mapping[int, Tuple[str, int]]) -> Files:
    """A monitor by iio: name and mW of each channel."""
    folder = f"sys/bus/i2c/drivers/ina3221x/{chip}/iio:device{chip[0]}"
    found = files(folder, name="ina3221x")
    for number, (name, milliwatts) in rails.items():
        found.update(
            files(
                folder,
                **{
                    f"rail_name_{number}": name,
                    f"in_power{number}_input": milliwatts,
                    f"warn_current_limit_{number}": "4000 ma",
                    f"crit_current_limit_{number}": "5000 ma",
                },
            )
        )
    return found


def zones(temperatures: Sequence[Tuple[str, object]], trips: Mapping[str, Sequence[Tuple[str, int]]]) -> Files:
    """Thermal zones: type and m°C; trip points by type."""
    found: Files = {}
    for number, (kind, millidegrees) in enumerate(temperatures):
        folder = f"sys/class/thermal/thermal_zone{number}"
        found.update(files(folder, type=kind, temp=millidegrees))
        for index, (trip, limit) in enumerate(trips.get(kind, ())):
            found.update(files(folder, **{f"trip_point_{index}_type": trip, f"trip_point_{index}_temp": limit}))
    return found


def cooling(devices: Sequence[Tuple[str, int]]) -> Files:
    found: Files = {}
    for number, (kind, state) in enumerate(devices):
        found.update(files(f"sys/class/thermal/cooling_device{number}", type=kind, cur_state=state, max_state=2))
    return found


def over_current(number: int, counts: Mapping[str, int], name: str = "soctherm_oc") -> Files:
    folder = f"sys/class/hwmon/hwmon{number}"
    counters = {f"{key}_event_cnt": count for key, count in counts.items()}
    return files(folder, name=name, **counters, **{f"{key}_throt_en": 1 for key in counts})


def gpu(device: str, hertz: int, lowest: int, highest: int, load: int | None = None, at: str = "") -> Files:
    found = files(f"sys/class/devfreq/{device}", cur_freq=hertz, min_freq=lowest, max_freq=highest)
    if load is not None:
        found.update(files(at or f"sys/class/devfreq/{device}/device", load=load))
    return found


def stat(ticks: Iterable[Tuple[int, int, int]]) -> Files:
    """/proc/stat: core, busy and idle ticks."""
    lines = [f"cpu{core} {STAT_FIELDS.format(user=user, idle=idle)}" for core, user, idle in ticks]
    return {"proc/stat": "\n".join(["cpu  9 9 9 9 0 0 0 0 0 0", *lines, "intr 1 2 3", "ctxt 5", ""])}


def meminfo(total: int, free: int, buffers: int, cached: int, swap: Tuple[int, int] = (0, 0)) -> Files:
    fields = {"MemTotal": total, "MemFree": free, "MemAvailable": free, "Buffers": buffers, "Cached": cached}
    fields.update({"SwapCached": 0, "SwapTotal": swap[0], "SwapFree": swap[1]})
    return {"proc/meminfo": "".join(f"{name + ':':<16}{value:>9} kB\n" for name, value in fields.items())}


def cores(root: Path, policies: Mapping[int, Tuple[int, int, int]], count: int, off: Sequence[int] = ()) -> None:
    """Cores with links to the policies that they share: first core of each, and its kHz now, at least, at most."""
    base = root / "sys/devices/system/cpu"
    firsts = sorted(policies)
    for first in firsts:
        now, lowest, highest = policies[first]
        found = files("", scaling_cur_freq=now, scaling_min_freq=lowest, scaling_max_freq=highest)
        tree(base / f"cpufreq/policy{first}", {name.lstrip("/"): text for name, text in found.items()})
    for core in range(count):
        tree(base, {f"cpu{core}/online": "0\n" if core in off else "1\n"})
        if core not in off:
            first = max(each for each in firsts if each <= core)
            (base / f"cpu{core}/cpufreq").symlink_to(f"../cpufreq/policy{first}")


def nano_jp4(root: Path) -> Path:
    """A Nano at 6759 mW, nano-jp4.log line 3."""
    cores(root, {0: (1479000, 102000, 1479000)}, 4)
    return tree(
        root,
        device_tree("NVIDIA Jetson Nano Developer Kit", "nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,tegra210"),
        release(32, "7.1"),
        ina3221x("6-0040", {0: ("POM_5V_IN", 6759), 1: ("POM_5V_GPU", 2016), 2: ("POM_5V_CPU", 1432)}),
        zones(
            [
                ("AO-therm", 60000),
                ("CPU-therm", 53000),
                ("GPU-therm", 51000),
                ("PLL-therm", 48500),
                ("PMIC-Die", 100000),
                ("thermal-fan-est", 51750),
            ],
            {
                "GPU-therm": [("critical", 102500), ("passive", 101000)],
                "PMIC-Die": [("hot", 140000)],
                "thermal-fan-est": [("active", 51000)],
            },
        ),
        cooling([("pwm-fan", 2), ("cpu-balanced", 0), ("gpu-balanced", 0)]),
        gpu("57000000.gpu", 921600000, 76800000, 921600000, 220, "sys/devices/gpu.0"),
        stat([(0, 40, 60), (1, 28, 72), (2, 60, 40), (3, 40, 60)]),
        meminfo(3964 << 10, 1000 << 10, 89 << 10, 500 << 10, (1982 << 10, 1980 << 10)),
    )


def agx_xavier_jp5(root: Path) -> Path:
    """An AGX Xavier at 32850 mW in all, agx-xavier-jp4.log line 3, in the files of JetPack 5."""
    cores(root, {0: (1190400, 1190400, 2265600), 4: (1574400, 1190400, 2265600)}, 8)
    return tree(
        root,
        device_tree("Jetson-AGX", "nvidia,p2972-0000", "nvidia,p2822-0000+p2888-0001", "nvidia,tegra194"),
        release(35, "4.1"),
        ina3221("1-0040", {1: ("GPU", 19080, 964), 2: ("CPU", 19072, 121), 3: ("SOC", 19064, 241)}),
        ina3221("2-0041", {1: ("CV", 19000, 0), 2: ("VDDRQ", 19000, 153), 3: ("SYS5V", 4992, 928)}),
        zones(
            [
                ("CPU-therm", 49000),
                ("GPU-therm", 54500),
                ("AUX-therm", 46000),
                ("AO-therm", 48000),
                ("PMIC-Die", 50000),
                ("Tboard_tegra", 47000),
                ("Tdiode_tegra", 53250),
                ("thermal-fan-est", 49450),
            ],
            {"CPU-therm": [("passive", 86000), ("critical", 96500)], "GPU-therm": [("hot", 88000), ("passive", 90000)]},
        ),
        cooling([("pwm-fan", 3), ("cpufreq-cpu0", 0), ("cpufreq-cpu0", 1), ("17000000.gv11b", 0)]),
        gpu("17000000.gv11b", 1377000000, 114750000, 1377000000, 950),
        over_current(4, {"oc1": 0, "oc2": 3}),
        stat((core, 17, 83) for core in range(8)),
        meminfo(31919 << 10, 16920 << 10, 118 << 10, 4000 << 10, (15959 << 10, 15959 << 10)),
        {"sys/kernel/debug/bpmp/debug/clk/emc/rate": "2133000000\n"},
    )


def orin_nano_jp6(root: Path) -> Path:
    """An Orin Nano at 13798 mW, orin-nano-jp6.log line 3; hwmon by class alone, its GPU's load behind devfreq."""
    cores(root, {0: (1510400, 729600, 1510400), 4: (1510400, 729600, 1510400)}, 6)
    domains = ("cpu", "gpu", "cv0", "cv1", "cv2", "soc0", "soc1", "soc2")
    return tree(
        root,
        device_tree(
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "nvidia,p3768-0000+p3767-0005-super",
            "nvidia,tegra234",
        ),
        release(36, "5.0"),
        ina3221("1-0040", {1: ("VDD_IN", 5000, 2760), 2: ("VDD_CPU_GPU_CV", 5000, 1106), 3: ("VDD_SOC", 4992, 567)}, 1),
        files("sys/class/hwmon/hwmon0", name="pwmfan", pwm1=120),
        over_current(2, {"oc1": 0, "oc2": 0, "oc3": 17}),
        zones(
            [
                ("cpu-thermal", 66000),
                ("gpu-thermal", 67406),
                ("cv0-thermal", -256000),
                ("soc0-thermal", 62593),
                ("soc1-thermal", 64156),
                ("soc2-thermal", 65093),
                ("tj-thermal", 67406),
            ],
            {
                "cpu-thermal": [("critical", 104500), ("passive", 99000)],
                "gpu-thermal": [("passive", 99000)],
                "tj-thermal": [("active", 51000), ("active", 74000), ("critical", 104500)],
            },
        ),
        cooling([("pwm-fan", 1), *((f"{name}-throttle-alert", 0) for name in domains), ("hot-surface-alert", 0)]),
        gpu("17000000.gpu", 624750000, 306000000, 624750000, 990),
        files("sys/class/devfreq/15340000.vic", cur_freq=115200000, min_freq=1, max_freq=2),
        stat((core, 0, 100) for core in range(6)),
        meminfo(7607 << 10, 500 << 10, 77 << 10, 1500 << 10, (3804 << 10, 3368 << 10)),
    )


def thor_jp7(root: Path) -> Path:
    """A Thor at 19780 mW, thor-r38.log line 4: an INA238 for the board's input, no load of the GPU."""
    cores(root, {0: (972000, 972000, 2601000)}, 14)
    return tree(
        root,
        device_tree("NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008", "nvidia,tegra264"),
        release(38, "4.0"),
        ina3221(
            "2-0040", {1: ("VDD_GPU", 9000, 218), 2: ("VDD_CPU_SOC_MSS", 9000, 654), 3: ("VIN_SYS_5V0", 5000, 1127)}
        ),
        files("sys/class/hwmon/hwmon3", name="ina238", in1_input=20000, curr1_input=989, power1_input=19780000),
        files("sys/class/hwmon/hwmon5", name="tmp451", temp1_input=33000, temp2_input=36500),
        zones(
            [
                ("cpu-thermal", 37343),
                ("tj-thermal", 38875),
                ("soc012-thermal", 37468),
                ("gpu-thermal", 38875),
                ("soc345-thermal", 37406),
            ],
            {"gpu-thermal": [("passive", 109000), ("critical", 114500)]},
        ),
        cooling([("gpu-throttle-alert", 0), ("soc012-throttle-alert", 0), ("devfreq-gpu-gpc-0", 0)]),
        gpu("gpu-gpc-0", 314000000, 314000000, 1575000000),
        gpu("gpu-nvd-0", 314000000, 314000000, 1575000000),
        stat((core, 0, 100) for core in range(14)),
        meminfo(125772 << 10, 15000 << 10, 507 << 10, 5000 << 10),
    )


def pc_with_rapl(root: Path) -> Path:
    """A PC: coretemp, cpufreq without a limit file, RAPL of one package with its cores. All of it made up."""
    base = "sys/class/powercap"
    return tree(
        root,
        {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Core(TM)\n"},
        files("sys/class/hwmon/hwmon0", name="coretemp", temp1_label="Package id 0", temp1_input=51000),
        files("sys/class/thermal/thermal_zone0", type="x86_pkg_temp", temp=51000),
        cooling([("Processor", 0), ("Processor", 0), ("intel_powerclamp", -1)]),
        files("sys/devices/system/cpu/cpu0/cpufreq", scaling_cur_freq=2400000),
        files("sys/devices/system/cpu/cpu1/cpufreq", scaling_cur_freq=2500000),
        rapl(5_000_000, 1_000_000),
        files(f"{base}/intel-rapl:1", name="psys", energy_uj=9_000_000, max_energy_range_uj=262143328850),
        stat([(0, 10, 90), (1, 20, 80)]),
        meminfo(16 << 20, 8 << 20, 1 << 10, 2 << 20),
    )


def rapl(package_uj: int, core_uj: int) -> Files:
    base = "sys/class/powercap"
    return {
        **files(f"{base}/intel-rapl:0", name="package-0", energy_uj=package_uj, max_energy_range_uj=262143328850),
        **files(f"{base}/intel-rapl:0:0", name="core", energy_uj=core_uj, max_energy_range_uj=262143328850),
    }


TREES: Dict[str, object] = {
    "Nano, JetPack 4": nano_jp4,
    "AGX Xavier, JetPack 5": agx_xavier_jp5,
    "Orin Nano, JetPack 6": orin_nano_jp6,
    "Thor, JetPack 7": thor_jp7,
    "PC": pc_with_rapl,
}

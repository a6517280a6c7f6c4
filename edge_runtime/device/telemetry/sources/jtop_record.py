"""A telemetry sample from what a jtop client holds."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Tuple

from edge_runtime.device.telemetry.sample import (
    Bus,
    Cpu,
    Gpu,
    HardwareEngine,
    Limits,
    Number,
    Rail,
    Ram,
    Swap,
    TelemetrySample,
)
from edge_runtime.device.telemetry.totals import total_power

_COLDEST_C = -100
_LFB_BLOCK_KB = 4096
_BY_NVML = ("nvml", "runtime_pm")


def sample_from_jtop(client: Any, module: str) -> TelemetrySample:
    """The sample; what jtop has no word for, or a 0 where it means that it doesn't know, is None."""
    rails = dict(_rails(client.power))
    memory: Mapping[str, Any] = client.memory
    gpu = next(iter(client.gpu.values()), None)
    cores = [dict(core) for core in client.cpu.get("cpu", ())]
    return TelemetrySample(
        ram=_ram(memory.get("RAM")),
        swap=_swap(memory.get("SWAP")),
        cpus=tuple(_cpu(core) for core in cores) or None,
        cpu_limits=tuple(_limits(core.get("freq", {})) for core in cores),
        emc=_bus(memory.get("EMC")),
        gr3d=None if gpu is None else _gpu(gpu),
        gpu_limits=None if gpu is None or _is_by_nvml(gpu) else _limits(gpu.get("freq", {})),
        engines=dict(_engines(client.engine)),
        temps_c={name: _celsius(zone) for name, zone in client.temperature.items()},
        power_mw=rails,
        total_power=total_power(rails, module),
    )


def _rails(power: Mapping[str, Any]) -> Iterator[Tuple[str, Rail]]:
    """The rails; jtop takes an input rail out of them and calls it the total; a total without a name is its own sum."""
    rails: Dict[str, Any] = dict(power.get("rail", {}))
    total = power.get("tot", {})
    if "name" in total:
        rails[total["name"]] = total
    for name, rail in rails.items():
        is_supply = "status" in rail or name.startswith("ucsi")  # USB-C and batteries are listed with the rails
        if rail.get("online", True) and not is_supply:
            yield name, Rail(rail["power"])


def _ram(ram: Mapping[str, Any] | None) -> Ram | None:
    if ram is None:
        return None
    lfb = ram.get("lfb")
    return Ram(ram["used"] // 1024, ram["tot"] // 1024, lfb, None if lfb is None else _LFB_BLOCK_KB)


def _swap(swap: Mapping[str, Any] | None) -> Swap | None:
    if not swap or not swap["tot"]:
        return None
    return Swap(swap["used"] // 1024, swap["tot"] // 1024, swap.get("cached", 0) // 1024)


def _cpu(core: Mapping[str, Any]) -> Cpu | None:
    if not core.get("online", True):
        return None
    parts = [core[name] for name in ("user", "nice", "system") if name in core]
    return Cpu(round(sum(parts), 1) if parts else None, _mhz(core.get("freq", {}).get("cur")))


def _bus(emc: Mapping[str, Any] | None) -> Bus | None:
    return None if emc is None else Bus(emc.get("val"), _mhz(emc.get("cur")))


def _gpu(gpu: Mapping[str, Any]) -> Gpu:
    load, freq = gpu.get("status", {}).get("load"), gpu.get("freq", {})
    if _is_by_nvml(gpu):  # there MHz, and 0 for what it doesn't know
        return Gpu(load or None, (freq["cur"],) if freq.get("cur") else None)
    clusters = tuple(mhz for mhz in map(_mhz, freq.get("GPC") or [freq.get("cur")]) if mhz is not None)
    return Gpu(load, clusters or None)


def _is_by_nvml(gpu: Mapping[str, Any]) -> bool:
    return gpu.get("power_control") in _BY_NVML


def _engines(groups: Mapping[str, Any]) -> Iterator[Tuple[str, HardwareEngine]]:
    for group in groups.values():
        for name, engine in group.items():
            is_on = bool(engine.get("online"))
            yield name, HardwareEngine(is_on, None, _mhz(engine.get("cur")) if is_on else None)


def _celsius(zone: Mapping[str, Any]) -> float | None:
    celsius = zone.get("temp")
    return None if celsius is None or not zone.get("online", True) or celsius < _COLDEST_C else float(celsius)


def _limits(freq: Mapping[str, Any]) -> Limits | None:
    lowest, highest = _mhz(freq.get("min")), _mhz(freq.get("max"))
    return None if lowest is None and highest is None else Limits(lowest, highest)


def _mhz(kilohertz: Number | None) -> Number | None:
    if kilohertz is None:
        return None
    return kilohertz // 1000 if kilohertz % 1000 == 0 else kilohertz / 1000

"""Figures of a sample that more than one page shows."""

from __future__ import annotations

from typing import Dict

from edge_runtime.device.telemetry.sample import Number, TelemetrySample


def clocks_mhz(sample: TelemetrySample) -> Dict[str, Number]:
    """Clocks by part: `gpu` (`gpu0`, … where it has several), `emc`, `cpu0`, …; those that aren't known left out."""
    found: Dict[str, Number] = {}
    gpu = () if sample.gr3d is None else sample.gr3d.freq_mhz or ()
    for index, value in enumerate(gpu):
        found["gpu" if len(gpu) == 1 else f"gpu{index}"] = value
    if sample.emc is not None and sample.emc.freq_mhz is not None:
        found["emc"] = sample.emc.freq_mhz
    for index, cpu in enumerate(sample.cpus or ()):
        if cpu is not None and cpu.freq_mhz is not None:
            found[f"cpu{index}"] = cpu.freq_mhz
    return found

"""Which module a tegrastats line probably comes from. A hint, never proof: only the device tree knows."""

from __future__ import annotations

from typing import FrozenSet, Tuple

from edge_runtime.device.telemetry.sample import TelemetrySample

# Family -> modules by the least and the most memory in MB, and the number of cores (0: any).
_BY_MEMORY: dict[str, Tuple[Tuple[int, int, int, str], ...]] = {
    "thor": ((90_000, 140_000, 0, "AGX Thor"),),
    "orin": (
        (3_000, 4_000, 6, "Orin Nano 4GB"),
        (7_400, 7_900, 6, "Orin Nano 8GB"),
        (6_500, 7_400, 6, "Orin NX 8GB"),
        (15_000, 16_400, 8, "Orin NX 16GB"),
        (30_000, 32_800, 0, "AGX Orin 32GB"),
        (60_000, 65_600, 0, "AGX Orin 64GB"),
    ),
    "xavier": (
        (6_500, 8_200, 6, "Xavier NX 8GB"),
        (15_000, 16_400, 6, "Xavier NX 16GB"),
        (15_000, 16_400, 8, "AGX Xavier 16GB"),
        (30_000, 32_800, 8, "AGX Xavier 32GB"),
        (60_000, 65_600, 8, "AGX Xavier 64GB"),
    ),
    "tx2": (
        (3_700, 4_000, 6, "TX2 NX or TX2 4GB"),
        (7_500, 8_200, 6, "TX2 8GB"),
    ),
    "tx1": ((3_700, 4_100, 4, "TX1"),),
    "tk1": ((1_700, 2_100, 4, "TK1"),),
    "nano": (
        (1_800, 2_100, 4, "Nano 2GB"),
        (3_700, 4_100, 4, "Nano 4GB"),
    ),
}
# The family by a zone or a rail that it alone has, of those that are left.
_FAMILIES: Tuple[Tuple[str, FrozenSet[str], FrozenSet[str]], ...] = (
    ("thor", frozenset(("soc012",)), frozenset(("VDD_CPU_SOC_MSS",))),
    ("orin", frozenset(("soc0", "soc1", "soc2")), frozenset(("VDD_GPU_SOC",))),
    ("xavier", frozenset(("aux",)), frozenset(("SYS5V",))),
    ("tx2", frozenset(("bcpu", "mcpu")), frozenset(("VDD_SYS_GPU", "VDD_WIFI"))),
    ("nano", frozenset(), frozenset(("POM_5V_IN",))),
    ("tx1", frozenset(), frozenset(("VDD_IN",))),
)
_LEAST_OF_A_TX1_MB = 3_975
_MOST_OF_A_TK1_MB = 2_100  # a Nano has as much, but never printed an EDP limit


def module_hint(sample: TelemetrySample) -> str | None:
    """The module by zones, rails, memory and cores; None where these don't fit one that is known."""
    if sample.ram is None:
        return None
    total_mb, cores = sample.ram.total_mb, len(sample.cpus or ())
    family = _family(sample, total_mb)
    for least, most, count, name in _BY_MEMORY[family]:
        if least <= total_mb <= most and (not count or not cores or count == cores):
            return name
    return None


def _family(sample: TelemetrySample, total_mb: int) -> str:
    zones, rails = frozenset(name.lower() for name in sample.temps_c), frozenset(sample.power_mw)
    found = next((name for name, own_zones, own_rails in _FAMILIES if zones & own_zones or rails & own_rails), None)
    if found is None and sample.edp_limit_mhz is not None and total_mb <= _MOST_OF_A_TK1_MB:
        return "tk1"
    return found or ("tx1" if total_mb >= _LEAST_OF_A_TX1_MB else "nano")

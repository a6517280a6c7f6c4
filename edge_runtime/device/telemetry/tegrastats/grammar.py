"""The words that tegrastats prints, each as one pattern over a line whose blanks are single.

A word is told by what follows its name, since zones, rails and processors share names on an AGX Xavier (`CPU [..]`,
`CPU@42C`, `CPU 311/311`).
"""

from __future__ import annotations

import re
from typing import Dict, Pattern, Tuple

_END = r"(?= |$)"
_WHOLE = r"([0-9]{1,9})"
_DEGREES = r"(-?[0-9]{1,3}(?:\.[0-9]{1,6})?)C"
_MILLIWATTS = r"(-?[0-9]{1,9})"
_LOAD = r"(?:([0-9]{1,3})%)?(?:@([0-9]{1,9}|\[[0-9]{1,9}(?:,[0-9]{1,9}){0,15}\]))?"


def _word(pattern: str) -> Pattern[str]:
    return re.compile(pattern + _END)


def _bracket(pattern: str) -> str:
    """What a word may have in brackets behind it; one that is never closed is its own, cut."""
    return rf"(?: ?\({pattern}\)|(?! \([^()]*$))"


STAMP = _word(r"([0-9]{2})-([0-9]{2})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")
ZONE = _word(rf"([A-Za-z][A-Za-z0-9_.+-]{{0,63}})@{_DEGREES}(?:/{_DEGREES})?")
RAIL = _word(
    rf"([A-Za-z][A-Za-z0-9_.+-]{{0,63}}) (?:{_MILLIWATTS}mW/{_MILLIWATTS}mW(?:/{_MILLIWATTS}mW)?"
    rf"|{_MILLIWATTS}/{_MILLIWATTS})"
)
ENGINE = _word(
    r"((?:NV(?:ENC|DEC|JPG|DLA|CSI)|MSENC|VDE|VIC|OFA|PVA|SE|TSEC|ISP)[0-9]{0,2})(?:_FREQ)? "
    r"(?:(off)|([0-9]{1,3})%(?:@([0-9]{1,9}))?|@?([0-9]{1,9})"
    r"|\[([0-9]{1,3}%(?:,[0-9]{1,3}%){0,7})(?:@([0-9]{1,9})\]|\](?:@([0-9]{1,9}))?))"  # a PVA's vector units
)
_CPU_CLOCK = r"(?:@(?:-1|([0-9]{1,9})))?"  # -1: a TK1 that can't read it
CPU_ITEM = re.compile(rf"([0-9]{{1,3}})%{_CPU_CLOCK}")
_CPUS = ("cpus", _word(rf"(?:CPU|cpu) \[([^\] ]*)\]{_CPU_CLOCK}"))

# By the first word; what isn't here is an engine, a zone or a rail.
BY_NAME: Dict[str, Tuple[str, Pattern[str]]] = {
    "RAM": ("ram", _word(rf"RAM {_WHOLE}/{_WHOLE}MB" + _bracket(rf"lfb {_WHOLE}x{_WHOLE}([kM])B"))),
    "SWAP": ("swap", _word(rf"SWAP {_WHOLE}/{_WHOLE}MB" + _bracket(rf"cached {_WHOLE}MB"))),
    "IRAM": ("iram", _word(rf"IRAM {_WHOLE}/{_WHOLE}kB" + _bracket(rf"lfb {_WHOLE}kB"))),
    "CPU": _CPUS,
    "cpu": _CPUS,
    "EMC": ("emc", _word(rf"EMC (?=[0-9@]){_LOAD}")),
    "EMC_FREQ": ("emc", _word(rf"EMC_FREQ (?=[0-9@]){_LOAD}")),
    "GR3D": ("gr3d", _word(rf"GR3D (?=[0-9@]){_LOAD}")),
    "GR3D_FREQ": ("gr3d", _word(rf"GR3D_FREQ (?=[0-9@]){_LOAD}")),
    "GR3D2": ("gr3d2", _word(rf"GR3D2 (?=[0-9@]){_LOAD}")),
    "GR3D2_FREQ": ("gr3d2", _word(rf"GR3D2_FREQ (?=[0-9@]){_LOAD}")),
    "AVP": ("avp", _word(rf"AVP (?=[0-9@]){_LOAD}")),
    "APE": ("ape_mhz", _word(rf"APE {_WHOLE}")),
    "MTS": ("mts_pct", _word(r"MTS fg ([0-9]{1,3})% bg ([0-9]{1,3})%")),
    "EDP": ("edp_limit_mhz", _word(rf"EDP limit {_WHOLE}")),
}
# Names that a cut word could turn into a rail: `SWAP 0/78`.
NEVER_RAILS = frozenset(BY_NAME) - {"CPU"} | {"lfb", "cached", "limit", "fg", "bg"}
# The rails of each board whose tegrastats prints no unit, in the order in which it prints them.
UNITLESS_RAILS: Tuple[Tuple[str, ...], ...] = (
    ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"),
    ("VDD_IN", "VDD_CPU", "VDD_GPU"),
    ("VDD_IN", "VDD_CPU", "VDD_GPU", "VDD_SOC", "VDD_WIFI", "VDD_DDR"),
    ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"),
    ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"),
    ("VDD_IN", "VDD_CPU_GPU", "VDD_SOC"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
KNOWN_RAILS = frozenset(name for rails in UNITLESS_RAILS for name in rails) | frozenset(
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO", "VDD_CPU_SOC_MSS", "VIN", "NC")
)
KNOWN_ZONES = frozenset(
    "ao aux bcpu cpu cv0 cv1 cv2 gpu iwlwifi mcpu pll pmic "
    "soc0 soc1 soc2 soc012 soc345 tboard tdiode thermal tj".split()
)

"""Whether the last word of a line may have lost its end, judged by the rest of the line.

Most words end with a sign of their own: `C`, `mW`, `]`, `)`, `off`. A load, a clock and a rail without a unit don't:
cut, `VDD_IN 1776/1805` reads `VDD_IN 1776/18`. Such a word at the end of a line is believed where tegrastats itself
ends a line so, or where words stand in the line that it prints later: then nothing was cut there. Beyond telling are
the last number of a board's very last rail, where its average may be far from its power now (`POM_5V_CPU 179/56`), and
that of a TX1's last words before L4T 28.2 (`GR3D 3%@99` of 998, `EDP limit 17` of 1734).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet

from edge_runtime.device.telemetry.tegrastats.draft import Draft
from edge_runtime.device.telemetry.tegrastats.grammar import UNITLESS_RAILS

_MEMORY = ("ram", "swap", "iram")
# Rails that end a line and are never idle: their average isn't a fraction of their power now.
_STEADY_RAILS = ("SYS5V", "VDD_SOC", "VDD_DDR", "VDD_SYS_DDR")
_STEADY_RATIO = 8  # 3.1 is the most in 2,800 recorded samples; a lost digit makes it about 10
_SLOWEST_GPU_MHZ = 72  # a TK1's; a TX1's is 76
_TX2_ZONES = ("BCPU", "MCPU")


@dataclass(frozen=True)
class LastWord:
    """The word that touches the end of a line: its kind and text, and what the other words begin with."""

    kind: str
    text: str
    others: AbstractSet[str]


def may_be_cut(word: LastWord, draft: Draft) -> bool:
    """Whether more of the word may have stood there; `draft` has all the other words of the line."""
    if word.kind == "rail":
        return _is_rail_open(word, draft)
    if word.kind in _MEMORY:
        return not word.text.endswith(")")
    if _is_closed(word) or draft.temps_c or draft.rails or "EDP" in word.others:
        return False  # the last three come later than any other word, in every release
    if word.text.startswith("GR3D "):
        clock = word.text.rpartition("@")[2]
        has_edp = "AVP" in word.others  # with that, EDP ends the line
        return has_edp or clock.endswith("%") or 0 < int(clock) < _SLOWEST_GPU_MHZ
    return "GR3D" not in word.others


def _is_closed(word: LastWord) -> bool:
    """Whether it ends with a sign of its own; the clock behind a TX1's processors or a PVA's loads has none."""
    if word.kind in ("zone", "stamp", "mts_pct", "edp_limit_mhz"):
        return True
    return word.text.endswith("off") or (word.text.endswith("]") and not word.text.startswith(("cpu ", "PVA")))


def _is_rail_open(word: LastWord, draft: Draft) -> bool:
    name, values = word.text.split(" ")
    if values.endswith("W"):
        is_of_r39 = bool(draft.temps_peak_c) or any(rail.peak_mw is not None for rail in draft.rails.values())
        return is_of_r39 and values.count("/") < 2
    now, average = (int(number) for number in values.split("/"))
    if name in _STEADY_RAILS and average * _STEADY_RATIO < now:
        return True
    names = {*draft.rails, name}
    orders = [order for order in UNITLESS_RAILS if names <= set(order)]
    if not orders:
        return False  # a board that isn't known
    is_tx2 = len(draft.fields.get("cpus", ())) > 4 or any(zone in draft.temps_c for zone in _TX2_ZONES)
    return not any(order[-1] in names and not (is_tx2 and order[-1] == "VDD_GPU") for order in orders)

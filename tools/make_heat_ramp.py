"""Writes `tests/data/boards/orin-nano-heat-ramp.jsonl`: MADE-UP heat over one real line of an Orin Nano.

No recording of a board that throttles for its heat could be found, so this one is invented to show what is done then:
a minute of load heats the module until its cooling alerts act and its clocks fall, over-current events are counted on
the way, and then it rests. Every object says that it is made up; nothing may be concluded from its numbers.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator

from edge_runtime.device.telemetry.sample import Gpu, Limits, Rail, TelemetrySample
from edge_runtime.device.telemetry.sample_json import record_from_sample
from edge_runtime.device.telemetry.tegrastats.line import sample_from_line
from edge_runtime.device.telemetry.totals import total_power

_FOLDER = Path(__file__).resolve().parents[1] / "tests/data/boards"
LINE = _FOLDER / "orin-nano-jp6.log"
RAMP = _FOLDER / "orin-nano-heat-ramp.jsonl"
MADE_UP = "power, load, clocks, heat, cooling and over-current events, by tools/make_heat_ramp.py over one real line"
_TRIP_C = 99.0
_COOL_ENOUGH_C = 94.0
_WORK_S = range(8, 70)
_END_S = 120
_OVER_CURRENT_S = (40, 41, 43)


def ramp(line: str) -> Iterator[dict[str, Any]]:
    """One object a second, made up over a line of tegrastats."""
    base = sample_from_line(line)
    assert base is not None
    heat_c, is_throttled, events = 50.0, False, 3
    for second in range(_END_S):
        is_working = second in _WORK_S
        watts = 4.8 if not is_working else 10.5 if is_throttled else 15.6
        heat_c += (25.0 + 6.0 * watts - heat_c) / 22.0
        is_throttled = heat_c >= _TRIP_C or (is_throttled and heat_c >= _COOL_ENOUGH_C)
        events += second in _OVER_CURRENT_S
        mhz = 306 if not is_working else 612 if is_throttled else 1020
        sample = _sample(base, round(heat_c, 3), watts, Gpu(99 if is_working else 0, (mhz,)))
        sample = replace(
            sample,
            cooling={"cpu-throttle-alert": 0, "gpu-throttle-alert": int(is_throttled), "pwm-fan": 1},
            over_current_events={"oc1": 0, "oc3": events},
            gpu_limits=Limits(306, 612 if is_throttled else 1020),
        )
        yield {"at_s": second, "source": "tegrastats", "sample": record_from_sample(sample), "made_up": MADE_UP}


def _sample(base: TelemetrySample, heat_c: float, watts: float, gpu: Gpu) -> TelemetrySample:
    total_mw = round(watts * 1000)
    rails = {
        "VDD_IN": Rail(total_mw),
        "VDD_CPU_GPU_CV": Rail(round(total_mw * 0.55)),
        "VDD_SOC": Rail(round(total_mw * 0.2)),
    }
    zones = {name: round(heat_c - 1.5 * index, 3) for index, name in enumerate(("tj", "gpu", "cpu", "soc0"))}
    return replace(
        base,
        timestamp=None,
        gr3d=gpu,
        temps_c=zones,
        trips_c={"tj": _TRIP_C},
        power_mw=rails,
        total_power=total_power(rails),
    )


def main() -> None:
    """Writes the file."""
    lines = [json.dumps(entry, separators=(",", ":")) for entry in ramp(LINE.read_text())]
    RAMP.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()

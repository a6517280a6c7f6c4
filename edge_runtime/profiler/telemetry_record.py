"""What a board told during a profile, as a report holds it: series over time, and where they come from."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence

from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample
from edge_runtime.device.telemetry.throttling import ThrottleSpan, ThrottleState
from edge_runtime.profiler.evidence import cpu_mhz, gpu_mhz

_DIGITS = 6


def telemetry_record(
    samples: Sequence[Stamped], throttled: Sequence[ThrottleSpan], state: ThrottleState | None, start_ns: int
) -> Dict[str, Any]:
    """Series over the seconds since `start_ns`; `state` is a `ThrottleState`, None where nobody watched.

    A series is empty where no sample has it, and has null where one has not.
    """
    looks = [stamped.sample for stamped in samples]
    totals = [look.total_power for look in looks]
    known = [total for total in totals if total is not None]
    return {
        "at_s": [seconds(stamped.at_ns, start_ns) for stamped in samples],
        "total_mw": _series(looks, lambda look: None if look.total_power is None else look.total_power.cur_mw),
        "how": known[-1].how if known else None,
        "rails_mw": _named(looks, lambda look: {name: rail.cur_mw for name, rail in look.power_mw.items()}),
        "zones_c": _named(looks, lambda look: look.temps_c),
        "constants": sorted({name for look in looks for name in look.constants}),
        "gpu_load_pct": _series(looks, lambda look: None if look.gr3d is None else look.gr3d.load_pct),
        "gpu_mhz": _series(looks, gpu_mhz),
        "cpu_mhz": _series(looks, cpu_mhz),
        "cpu_load_pct": _series(looks, lambda look: look.cpu_load_pct),
        "throttled": [
            {
                "from_s": seconds(span.from_ns, start_ns),
                "to_s": seconds(span.to_ns, start_ns),
                "cause": span.cause,
                "where": span.where,
                "detail": span.detail,
            }
            for span in throttled
        ],
        "headroom_c": None if state is None else state.headroom_c,
        "headroom_zone": None if state is None else state.headroom_zone,
        "slope_c_per_s": None if state is None else state.slope_c_per_s,
        "trips_c": {name: trip for look in looks for name, trip in look.trips_c.items()},
    }


def seconds(at_ns: int, start_ns: int) -> float:
    """The seconds from `start_ns`, to the microsecond."""
    return round((at_ns - start_ns) / 1e9, _DIGITS)


def _series(looks: Sequence[TelemetrySample], value_of: Callable[[TelemetrySample], Any]) -> List[Any]:
    values = [value_of(look) for look in looks]
    return values if any(value is not None for value in values) else []


def _named(looks: Sequence[TelemetrySample], values_of: Callable[[TelemetrySample], Mapping[str, Any]]) -> Any:
    rows = [values_of(look) for look in looks]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}

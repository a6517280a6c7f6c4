"""The board in a snapshot: what it is now, and how it got there."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.throttling import ThrottleState
from edge_runtime.server.board import BoardReading, Point, Seen
from edge_runtime.server.board_view import clocks_mhz


def board_record(reading: BoardReading) -> Dict[str, Any]:
    """All that is known; None is unknown. Where no sample is fresh, nothing is said to be so now."""
    status, fresh = reading.status, reading.fresh
    origin = None if status is None else status.origin
    return {
        "source": None if origin is None else origin.source,
        "origin": None if origin is None else origin.label,
        "replay_of": None if origin is None else origin.replay_of,
        "made_up": None if origin is None else origin.made_up,
        "module": "" if origin is None else origin.module,
        "verdicts": [list(verdict) for verdict in reading.verdicts],
        "interval_s": None if status is None else status.interval_s,
        "age_s": None if status is None else status.age_s,
        "alarm": reading.alarm,
        **_now(None if fresh is None else fresh.stamped.sample),
        "power_mode": None if fresh is None else fresh.power_mode,
        "energy_j": None if reading.seen is None else reading.seen.joules,
        **_throttling(fresh),
        "history": _history(() if reading.seen is None else reading.seen.points, reading.at_ns),
    }


def _now(sample: TelemetrySample | None) -> Dict[str, Any]:
    if sample is None:
        sample = TelemetrySample()
    total, found, gpu, ram = sample.total_power, sample.hottest, sample.gr3d, sample.ram
    return {
        "power_mw": None if total is None else total.cur_mw,
        "power_how": None if total is None else total.how,
        "rails_mw": {name: rail.cur_mw for name, rail in sample.power_mw.items()},
        "temperature_c": None if found is None else found[1],
        "hottest": None if found is None else found[0],
        "zones_c": {name: value for name, value in sample.temps_c.items() if name not in sample.constants},
        "gpu_load_pct": None if gpu is None else gpu.load_pct,
        "cpu_load_pct": sample.cpu_load_pct,
        "clocks_mhz": clocks_mhz(sample),
        "ram": None if ram is None else {"used_mb": ram.used_mb, "total_mb": ram.total_mb},
    }


def _throttling(seen: Seen | None) -> Dict[str, Any]:
    throttle = None if seen is None else seen.throttle
    return {
        "headroom_c": None if throttle is None else throttle.headroom_c,
        "headroom_zone": None if throttle is None else throttle.headroom_zone,
        "slope_c_per_s": None if throttle is None else throttle.slope_c_per_s,
        "trip_in_s": None if throttle is None else throttle.forecast_s,
        "throttles": None if throttle is None else _active(throttle),
        "throttle_causes_known": [] if throttle is None else list(throttle.causes),
        "throttle_events": {} if throttle is None else dict(throttle.events),
    }


def _active(throttle: ThrottleState) -> Sequence[Dict[str, str]]:
    return [{"cause": each.cause, "where": each.where, "detail": each.detail} for each in throttle.active]


def _history(points: Sequence[Point], now_ns: int) -> Dict[str, Any]:
    """The last points, the newest last; `ago_s` is how long ago each was."""
    return {
        "ago_s": [round((now_ns - point.at_ns) / 1e9, 1) for point in points],
        "power_mw": [point.power_mw for point in points],
        "hottest_c": [point.hottest_c for point in points],
        "is_throttled": [point.is_throttled for point in points],
    }

"""The board on the metrics page: Triton's names where they mean the same, ours in Prometheus' base units.

What isn't known has no sample at all. While a source is silent only counters, its age and the alarm are left.
"""

from __future__ import annotations

from typing import Dict, Mapping

from edge_runtime.device.telemetry.sample import Gpu, TelemetrySample
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.server.board import BoardReading, Seen
from edge_runtime.server.board_view import clocks_mhz
from edge_runtime.server.prometheus import MetricsPage, labels_of

_MIB = 1 << 20
_OURS = "edge_runtime_board_"


def add_board(page: MetricsPage, reading: BoardReading) -> None:
    """Adds what is known of the board; of a replay, each sample has the label `replay`."""
    if reading.status is None:
        if reading.alarm is not None:
            page.add(f"{_OURS}alarm", "gauge", "", 1)
        return
    samples = _Samples(page, reading.status.origin)
    _add_status(samples, reading)
    if reading.seen is not None:
        _add_counters(samples, reading.seen)
    if reading.fresh is not None:
        _add_power(samples, reading.fresh.stamped.sample)
        _add_heat(samples, reading.fresh)
        _add_load(samples, reading.fresh.stamped.sample)


class _Samples:
    """Adds samples of one origin; a value that is None isn't added."""

    def __init__(self, page: MetricsPage, origin: Origin) -> None:
        self._page = page
        self._mark: Dict[str, str] = {} if origin.replay_of is None else {"replay": origin.replay_of}

    def gauge(self, name: str, value: float | None, kind: str = "gauge", **labels: str) -> None:
        if value is not None:
            self._page.add(name, kind, labels_of(**labels, **self._mark), value)

    def counter(self, name: str, value: float | None, **labels: str) -> None:
        self.gauge(name, value, "counter", **labels)


def _add_status(samples: _Samples, reading: BoardReading) -> None:
    assert reading.status is not None
    origin = reading.status.origin
    samples.gauge(
        f"{_OURS}info",
        1,
        source=origin.source,
        origin=origin.label,
        replay_of=origin.replay_of or "",
        made_up=origin.made_up or "",
        module=origin.module,
    )
    samples.gauge(f"{_OURS}alarm", int(reading.alarm is not None))
    samples.gauge(f"{_OURS}sample_age_seconds", reading.status.age_s)


def _add_counters(samples: _Samples, seen: Seen) -> None:
    total = seen.stamped.sample.total_power
    samples.counter(f"{_OURS}energy_joules_total", seen.joules)
    if total is not None and total.how == "gpu":
        samples.counter("nv_energy_consumption", seen.joules)
    for name, count in sorted(seen.throttle.events.items()):
        samples.counter(f"{_OURS}throttle_events_total", count, counter=name)


def _add_power(samples: _Samples, sample: TelemetrySample) -> None:
    for name, rail in sorted(sample.power_mw.items()):
        samples.gauge(f"{_OURS}power_watts", rail.cur_mw / 1000, rail=name)
    total = sample.total_power
    if total is not None:
        samples.gauge(f"{_OURS}total_power_watts", total.cur_mw / 1000, how=total.how)
        if total.how == "gpu":
            samples.gauge("nv_gpu_power_usage", total.cur_mw / 1000)


def _add_heat(samples: _Samples, seen: Seen) -> None:
    sample = seen.stamped.sample
    for name, value_c in sorted(sample.temps_c.items()):
        if name not in sample.constants:
            samples.gauge(f"{_OURS}temperature_celsius", value_c, zone=name)
    samples.gauge(f"{_OURS}headroom_celsius", seen.throttle.headroom_c, zone=seen.throttle.headroom_zone or "")
    active = {(each.cause, each.where) for each in seen.throttle.active}
    quiet = set(seen.throttle.causes) - {cause for cause, _ in active}
    for cause, where in sorted(active):
        samples.gauge(f"{_OURS}throttled", 1, cause=cause, where=where)
    for cause in sorted(quiet):
        samples.gauge(f"{_OURS}throttled", 0, cause=cause, where="")


def _add_load(samples: _Samples, sample: TelemetrySample) -> None:
    samples.gauge("nv_cpu_utilization", _ratio(sample.cpu_load_pct))
    samples.gauge("nv_gpu_utilization", _ratio(_load_pct(sample.gr3d)))
    if sample.ram is not None:
        samples.gauge("nv_cpu_memory_total_bytes", sample.ram.total_mb * _MIB)
        samples.gauge("nv_cpu_memory_used_bytes", sample.ram.used_mb * _MIB)
    for part, value_mhz in clocks_mhz(sample).items():
        samples.gauge(f"{_OURS}clock_hertz", round(value_mhz * 1e6), part=part)


def _load_pct(gpu: Gpu | None) -> float | None:
    return None if gpu is None else gpu.load_pct


def _ratio(value_pct: float | None) -> float | None:
    return None if value_pct is None else value_pct / 100


BOARD_HELP: Mapping[str, str] = {
    f"{_OURS}info": "Where numbers about the board come from; always 1",
    f"{_OURS}alarm": "Whether there is no fresh sample of the board though there should be",
    f"{_OURS}sample_age_seconds": "Age of the newest sample",
    f"{_OURS}energy_joules_total": "Energy since the server began, gaps between samples left out",
    f"{_OURS}throttle_events_total": "Over-current and under-voltage events since the server began",
    f"{_OURS}power_watts": "Power of a rail",
    f"{_OURS}total_power_watts": "Power of the module (Thor: board), by the module's own rule",
    f"{_OURS}temperature_celsius": "Temperature of a zone",
    f"{_OURS}headroom_celsius": "How far the zone that is nearest to its trip point is from it",
    f"{_OURS}throttled": "Whether the board is throttled, by cause",
    f"{_OURS}clock_hertz": "Clock of a part",
    "nv_cpu_utilization": "Mean load of the CPUs that are on, 0 to 1",
    "nv_cpu_memory_total_bytes": "Main memory, which a Jetson's GPU shares",
    "nv_cpu_memory_used_bytes": "Main memory that is used",
    "nv_gpu_utilization": "Load of the GPU, 0 to 1",
    "nv_gpu_power_usage": "Power of the GPU board in watts",
    "nv_energy_consumption": "Energy of the GPU board since the server began in joules, gaps left out",
}

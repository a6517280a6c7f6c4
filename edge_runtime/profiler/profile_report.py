"""What a profile found, as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from edge_runtime.device.telemetry.throttle_signals import told_causes
from edge_runtime.device.telemetry.throttling import ThrottleSpan, ThrottleState
from edge_runtime.evaluation.latency import LatencySummary
from edge_runtime.profiler.board import BoardFacts
from edge_runtime.profiler.cpu_watch import SHORTEST_S
from edge_runtime.profiler.distribution import histogram, timeline
from edge_runtime.profiler.energy_result import EnergyResult
from edge_runtime.profiler.environment import Environment
from edge_runtime.profiler.evidence import cpu_mhz, gpu_mhz
from edge_runtime.profiler.layers import LayerReport
from edge_runtime.profiler.outliers import Outlier, Outliers
from edge_runtime.profiler.phases import StampingCost, Timed
from edge_runtime.profiler.replayed import energy_words, replayed_words
from edge_runtime.profiler.report import ColdStart
from edge_runtime.profiler.settings import ProfileSettings
from edge_runtime.profiler.settling import Settling
from edge_runtime.profiler.stages import ARRIVAL
from edge_runtime.profiler.telemetry_record import seconds, telemetry_record

SCHEMA = "edge_runtime.profile/1"

_MOST_LISTED = 1000


@dataclass(frozen=True)
class ProfileReport:
    """One profile of a plan in this process; `throttle_state` is None where the board wasn't watched."""

    target: Mapping[str, Any]
    settings: ProfileSettings
    input_source: str
    inputs: Mapping[str, Mapping[str, Any]]
    samples_per_call: int | None
    cold_start: ColdStart
    settling: Settling
    stamping: StampingCost
    timed: Timed
    latency: LatencySummary
    outliers: Outliers
    environment: Environment
    throttled: Sequence[ThrottleSpan]
    throttle_state: ThrottleState | None
    energy: EnergyResult
    layers: LayerReport | None

    @property
    def board(self) -> BoardFacts:
        """How the board was watched in the timed phase."""
        return self.timed.board

    @property
    def jitter(self) -> float | None:
        """p99 over p50; None where n is too small for p99."""
        p99_ms = self.latency.p99_ms
        return None if p99_ms is None or not self.latency.p50_ms else p99_ms / self.latency.p50_ms

    @property
    def samples_per_s(self) -> float | None:
        """Throughput in samples, where calls have a batch axis."""
        return None if self.samples_per_call is None else self.latency.throughput_per_s * self.samples_per_call

    @property
    def capacity_per_s(self) -> float:
        """The rate of calls that would keep all callers busy."""
        return self.timed.load.capacity_per_s(self.settings.concurrency)

    @property
    def is_overloaded(self) -> bool:
        """Whether calls arrived faster than they can be answered."""
        rate_per_s = self.settings.rate_per_s
        return self.timed.load.is_overloaded or (rate_per_s is not None and rate_per_s > self.capacity_per_s)

    @property
    def why_no_energy(self) -> str | None:
        """Why there is no energy per inference; None if there is one."""
        return self.untold.get("power", self.energy.refused)

    @property
    def energy_note(self) -> str | None:
        """What must be known of the energy: that its power is not this machine's, which limit was lowered."""
        return "; ".join(filter(None, (energy_words(self.board.origin), self.energy.note))) or None

    @cached_property
    def untold(self) -> Dict[str, str]:
        """What of power, temperature, clocks and throttling no sample tells, and why."""
        looks = [stamped.sample for stamped in self.timed.samples]
        told = {
            "power": any(look.total_power is not None for look in looks),
            "temperature": any(look.hottest_c is not None for look in looks),
            "clocks": any(gpu_mhz(look) is not None or cpu_mhz(look) is not None for look in looks),
            "throttling": any(map(told_causes, looks)),
        }
        why = self.board.choice
        if self.board.status is not None:
            recording = self.board.status.origin.replay_of
            source = self.board.label if recording is None else f"the replay of {recording}"
            why = f"{source} told nothing of it{'' if looks else ', nor anything else'} ({why})"
        return {name: why for name, is_told in told.items() if not is_told}

    @property
    def not_measured(self) -> List[str]:
        """What a reader might look for and doesn't find here, and why."""
        missing = [f"{name}: {why}" for name, why in self.untold.items()]
        if "power" not in self.untold and self.why_no_energy is not None:
            missing.append(f"energy: {self.why_no_energy}")
        missing += [f"{stage['name']}: {stage['why']}" for stage in self.stages if "why" in stage]
        if self.timed.cpu is None:
            missing.append("load of other processes: /proc/stat can't be read")
        elif self.timed.cpu.is_too_short:
            missing.append(f"load of other processes: the timed phase was too short for it ({SHORTEST_S:g} s needed)")
        if (self.timed.load.calls.run_delay_ns < 0).any():
            missing.append("waits for a core: the kernel doesn't count them (schedstat)")
        return missing + (["time per layer: not asked for"] if self.layers is None else [])

    @cached_property
    def stages(self) -> List[Dict[str, Any]]:
        """What the calls spent in each stage."""
        return self.timed.load.calls.stage_records()

    def record(self) -> Dict[str, Any]:
        """The report as JSON holds it, units in the names; null is unknown or not measured."""
        start_ns, calls = self.timed.load.start_ns, self.timed.load.calls
        start_s = np.round((calls.stamps[:, ARRIVAL] - start_ns) / 1e9, 6)
        numbers = np.array([outlier.index for outlier in self.outliers.found], dtype=np.int64)
        telemetry = telemetry_record(self.timed.samples, self.throttled, self.throttle_state, start_ns)
        return {
            "schema": SCHEMA,
            "target": dict(self.target),
            "settings": self.settings.model_dump(mode="json"),
            "input": {"source": self.input_source, "tensors": {name: dict(row) for name, row in self.inputs.items()}},
            "environment": self.environment.record(),
            "board": self.board.record(),
            "cold_start": {**asdict(self.cold_start), "settling": asdict(self.settling)},
            "load": self._load_record(),
            **self._latency_record(),
            "stages": self.stages,
            "timeline": timeline(start_s, calls.latency_ns, numbers),
            "histogram": histogram(calls.latency_ns),
            "outliers": self._outlier_record(start_ns),
            "telemetry": {**telemetry, "note": self.board.label if replayed_words(self.board.origin) else None},
            "energy": {**self.energy.record(start_ns), "refused": self.why_no_energy, "note": self.energy_note},
            "layers": None if self.layers is None else self.layers.record(),
            "not_measured": self.not_measured,
        }

    def _latency_record(self) -> Dict[str, Any]:
        latency = asdict(self.latency)
        calls_per_s = latency.pop("throughput_per_s")
        latency["n_too_small"] = {name: f"n too small ({least:,} needed)" for name, least in self.latency.too_small()}
        latency["jitter_p99_over_p50"] = self.jitter
        throughput = {"calls_per_s": calls_per_s, "samples_per_s": self.samples_per_s}
        return {"latency": latency, "throughput": throughput}

    def _load_record(self) -> Dict[str, Any]:
        load, settings = self.timed.load, self.settings
        late_ms = None
        if settings.rate_per_s is not None:
            p50, p99 = np.percentile(load.calls.late_ns, (50, 99)) / 1e6
            late_ms = {"p50": float(p50), "p99": float(p99)}
        return {
            "kind": "closed" if settings.rate_per_s is None else "poisson",
            "concurrency": settings.concurrency,
            "rate_per_s": settings.rate_per_s,
            "offered": load.offered,
            "completed": len(load.calls),
            "elapsed_s": load.elapsed_ns / 1e9,
            "capacity_per_s": self.capacity_per_s,
            "overloaded": self.is_overloaded,
            "generator_late_ms": late_ms,
            "stamping_us": asdict(self.stamping),
        }

    def _outlier_record(self, start_ns: int) -> Dict[str, Any]:
        found = self.outliers.found
        listed = slowest(found, _MOST_LISTED)
        return {
            "threshold_ms": self.outliers.threshold_ns / 1e6,
            "n": len(found),
            "by_cause": self.outliers.by_cause(),
            "items": [
                {
                    "at_s": seconds(outlier.at_ns, start_ns),
                    "latency_ms": outlier.latency_ns / 1e6,
                    "cause": outlier.cause,
                    "detail": outlier.detail,
                }
                for outlier in listed
            ],
            "listed": len(listed),
        }


def slowest(found: Sequence[Outlier], most: int) -> Tuple[Outlier, ...]:
    """At most so many of the outliers, those that took longest, in the order of time."""
    if len(found) <= most:
        return tuple(found)
    return tuple(sorted(sorted(found, key=lambda outlier: -outlier.latency_ns)[:most], key=lambda o: o.at_ns))

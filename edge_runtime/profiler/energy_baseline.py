"""What the board draws while the loaded process does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Sequence, Tuple

from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.profiler import batch_means
from edge_runtime.profiler.power_trace import power_trace
from edge_runtime.profiler.steadiness import steady_part, why_unsteady

_FEWEST_READINGS = 20  # whatever is asked for: four are cut at the edges, and up to half of the others


@dataclass(frozen=True)
class Refused:
    """A number that isn't given, and why."""

    why: str


@dataclass(frozen=True)
class Baseline:
    """Mean idle power, and its standard error by batch means."""

    mean_mw: float
    standard_error_mw: float
    samples: int
    duration_s: float
    how: str
    rails: Tuple[str, ...]

    def record(self) -> Dict[str, Any]:
        """As a report holds it."""
        return {
            "mean_mw": round(self.mean_mw, 3),
            "standard_error_mw": round(self.standard_error_mw, 3),
            "samples": self.samples,
            "duration_s": round(self.duration_s, 3),
        }


@dataclass(frozen=True)
class BaselineOptions:
    """The least that a baseline is taken from (30 to 60 s are better), and how often samples should come, if known."""

    min_duration_s: float = 20.0
    min_samples: int = 20
    interval_s: float | None = None


def baseline_from(samples: Sequence[Stamped], options: BaselineOptions = BaselineOptions()) -> Baseline | Refused:
    """The baseline from samples of an idle time: its steady part, without gaps."""
    trace = power_trace(samples, options.interval_s)
    if trace is None:
        return Refused("the idle baseline has no total power: no rail of this board gives it")
    part = steady_part(trace)
    got = len(trace.at_s)
    if part is None or trace.covered_s < options.min_duration_s or got < max(options.min_samples, _FEWEST_READINGS):
        return Refused(
            f"the idle baseline has power for {trace.covered_s:.1f} s in {got} samples; expected at least "
            f"{options.min_duration_s:g} s and {options.min_samples}: stay idle for longer"
        )
    why = why_unsteady(part)
    if why is not None:
        return Refused(f"the idle baseline isn't idle: {why}")
    covered = part.is_covered
    mean_mw, error_mw = batch_means.ratio(part.energies_mj()[covered], part.steps_s[covered])
    return Baseline(mean_mw, error_mw, len(part.at_s), part.covered_s, part.how, part.rails)

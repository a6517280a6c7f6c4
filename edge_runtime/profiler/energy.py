"""Joules of an inference: gross, and without what the board draws anyway; or why there is no such number.

docs/energy.md tells the method. In short: power is integrated by the trapezoid over a window of many calls, gaps and
the calls in them left out, and divided by the calls that were done in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Sequence

import numpy as np

from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.profiler import batch_means
from edge_runtime.profiler.call_times import CallTimes
from edge_runtime.profiler.energy_baseline import Baseline, Refused
from edge_runtime.profiler.energy_options import USUAL, EnergyOptions
from edge_runtime.profiler.energy_result import EnergyResult, Estimate, Window
from edge_runtime.profiler.power_trace import Floats, PowerTrace, power_trace
from edge_runtime.profiler.steadiness import steady_part, why_unsteady

_TOLERATED = 0.99  # a run of 30 s is a little shorter from its first start to its last end
_MIN_COVERED = 0.8
_MIN_CHANGES = 5
_FEWEST_READINGS = 8  # whatever is asked for: no standard error can be had from fewer
_TWO_SIDED_95 = 1.96
# An error from 20 batches is uncertain itself: with 95 % confidence the true one is below sqrt(19 / chi2(0.05; 19)) or
# 1.37 times it. Without that factor those runs pass whose error came out too small, and these aren't the better ones.
_SURE_95 = _TWO_SIDED_95 * 1.37


@dataclass(frozen=True)
class _Steps:
    """Each step of the window that is no gap: its energy, its length, and the calls done in it."""

    energy_mj: Floats
    length_s: Floats
    calls: Floats


def energy_per_inference(
    samples: Sequence[Stamped],
    calls_ns: Any,
    baseline: Baseline | Refused,
    options: EnergyOptions = USUAL,
) -> EnergyResult:
    """Gross and net energy of an inference, from samples that were taken while calls ran.

    Args:
        samples: all that were taken around the calls, on their clock; those outside the calls are left out.
        calls_ns: array-like [n, 2] of starts and ends in ns; a million are no trouble. A call is an inference,
            whatever its batch.
        baseline: idle power measured before; without one there is no net energy.
        options: limits.

    Raises:
        DataError: `calls_ns` has another shape, or a call ends before it starts.
    """
    trace = power_trace(samples, options.interval_s)
    calls = CallTimes(calls_ns, 0 if trace is None else trace.origin_ns)
    if trace is None:
        return EnergyResult(refused="no sample has a total power: this board has no rail that gives it")
    known = EnergyResult(trace.how, trace.rails, baseline if isinstance(baseline, Baseline) else None)
    if not len(calls):
        return replace(known, refused="no inference was done")
    run = trace.between(calls.first_start_s, calls.last_end_s)
    run_s = calls.last_end_s - calls.first_start_s
    known = replace(known, note=options.lowered(trace.step_s))
    why = _why_too_short(run_s, run, trace.step_s, options)
    part = None if run is None or why is not None else steady_part(run)
    if part is None or len(part.at_s) < max(options.min_samples, _FEWEST_READINGS):
        return replace(known, refused=why or _too_few(part, options))
    steps = _steps(part, calls)
    known = replace(known, window=_window(part), inferences=float(steps.calls.sum()))
    why = _why_not(part, calls, steps, options)
    if why is not None:
        return replace(known, refused=why)
    return _estimated(steps, known, baseline, options)


def _steps(part: PowerTrace, calls: CallTimes) -> _Steps:
    covered = part.is_covered
    return _Steps(part.energies_mj()[covered], part.steps_s[covered], np.diff(calls.done_by(part.at_s))[covered])


def _window(part: PowerTrace) -> Window:
    from_ns, to_ns = (part.origin_ns + round(float(at_s) * 1e9) for at_s in (part.at_s[0], part.at_s[-1]))
    return Window(from_ns, to_ns, len(part.at_s), part.gaps, part.covered_s)


def _estimated(
    steps: _Steps, known: EnergyResult, baseline: Baseline | Refused, options: EnergyOptions
) -> EnergyResult:
    gross = Estimate(*batch_means.ratio(steps.energy_mj, steps.calls))
    why = _why_uncertain(gross, steps, options)
    if why is not None:
        return replace(known, refused=why)
    net = _net(steps, known, baseline, options)
    if isinstance(net, Refused):
        return replace(known, gross_mj=gross, refused=f"net of idle: {net.why}")
    return replace(known, gross_mj=gross, net_mj=net)


def _net(
    steps: _Steps, known: EnergyResult, baseline: Baseline | Refused, options: EnergyOptions
) -> Estimate | Refused:
    """Energy above idle: E_i - P_idle t_i over n_i; the baseline's own error is independent and added in squares."""
    if isinstance(baseline, Refused):
        return baseline
    if (baseline.how, baseline.rails) != (known.total_kind, known.rails):
        theirs = f"{baseline.how} ({', '.join(baseline.rails)})"
        return Refused(f"the baseline is of {theirs}, the run of {known.total_kind} ({', '.join(known.rails)})")
    value, error = batch_means.ratio(steps.energy_mj - baseline.mean_mw * steps.length_s, steps.calls)
    period_s = float(steps.length_s.sum() / steps.calls.sum())
    error = math.hypot(error, baseline.standard_error_mw * period_s)
    if value <= _TWO_SIDED_95 * error:
        return Refused(f"{value:.3g} ± {error:.2g} mJ can't be told from idle; measure for longer, or at more load")
    net = Estimate(value, error)
    why = _why_uncertain(net, steps, options)
    return net if why is None else Refused(why)


def _why_uncertain(energy: Estimate, steps: _Steps, options: EnergyOptions) -> str | None:
    error_ratio = _SURE_95 * energy.standard_error / abs(energy.value) if energy.value else math.inf
    if error_ratio <= options.max_error_ratio:
        return None
    needed_s = float(steps.length_s.sum()) * min((error_ratio / options.max_error_ratio) ** 2, 1e6)
    return (
        f"95 % of such measurements may lie up to {error_ratio:.1%} off, expected {options.max_error_ratio:.0%}: "
        f"power varies too much; measure for about {needed_s:,.0f} s"
    )


def _why_too_short(run_s: float, run: PowerTrace | None, step_s: float, options: EnergyOptions) -> str | None:
    shortest_s = options.shortest_run_s(step_s)
    if run_s < _TOLERATED * shortest_s:
        return (
            f"the calls took {run_s:.1f} s, expected at least {shortest_s:g} s with a sample every {step_s:.3g} s: "
            "edges and the sensor's own averaging would be too large a part; measure for longer"
        )
    known_s, gaps = (0.0, 0) if run is None else (run.covered_s, run.gaps)
    if known_s < _MIN_COVERED * run_s:
        return (
            f"the total is known for {known_s:.1f} of the {run_s:.1f} s that the calls took ({gaps} gaps), expected at "
            f"least {_MIN_COVERED:.0%}: see why samples were lost"
        )
    return None


def _too_few(part: PowerTrace | None, options: EnergyOptions) -> str:
    return (
        f"{0 if part is None else len(part.at_s)} readings of the total lie in the steady part of the calls, expected "
        f"at least {max(options.min_samples, _FEWEST_READINGS)}; sample more often or measure for longer"
    )


def _why_not(part: PowerTrace, calls: CallTimes, steps: _Steps, options: EnergyOptions) -> str | None:
    """What makes a long enough window worthless all the same."""
    done = float(steps.calls.sum())
    fewest = max(options.min_inferences, 1.0)
    if done < fewest:
        return f"{done:.1f} inferences lie in the window, expected at least {fewest:g}: measure for longer"
    changes = int(np.count_nonzero(np.diff(part.power_mw)))
    if changes < _MIN_CHANGES:
        return (
            f"the reading changed {changes} times in {part.span_s:.1f} s, expected at least {_MIN_CHANGES}: "
            "the sensor averages over too long a time, or its value isn't renewed; measure for longer"
        )
    if calls.is_in_step(part.at_s):
        return (
            f"sampling keeps step with the calls, so that it sees the same moments of each; sample at another "
            f"interval than {part.step_s * 1e3:.4g} ms"
        )
    return why_unsteady(part)

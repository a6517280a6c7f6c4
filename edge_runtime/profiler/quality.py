"""What the gate measured of a plan's quality when it was built, and how two plans compare by that."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Optional, Tuple

from edge_runtime.config import Settings
from edge_runtime.plan.manifest import CandidateRecord, Manifest

_KNOWN = {"accuracy": "higher", "cosine": "higher", "mse": "lower", "max-abs": "lower"}


class Quality(Settings):
    """A score on held-out samples, which `held_out` identifies; `magnitude` is None where shares are of the score."""

    metric: str
    better: str
    value: float
    low: Optional[float] = None
    high: Optional[float] = None
    n: int
    magnitude: Optional[float] = None
    held_out: str


def quality_of(manifest: Manifest) -> Tuple[Optional[Quality], str]:
    """The quality that a plan was published with; or None, and why it isn't known."""
    record = _published(manifest)
    if record is None or record.metric is None:
        return None, f"version {manifest.version} was built without held-out samples"
    metric = record.metric
    better = metric.better or _KNOWN.get(metric.name, "")
    if better not in ("higher", "lower"):
        return None, f"version {manifest.version} doesn't say which {metric.name} is better; build it again"
    if metric.value is None or not math.isfinite(metric.value):
        return None, f"the {metric.name} of version {manifest.version} isn't a finite number"
    identity = json.dumps(manifest.data.held_out, sort_keys=True).encode()
    return (
        Quality(
            metric=metric.name,
            better=better,
            value=metric.value,
            low=metric.low,
            high=metric.high,
            n=metric.n,
            magnitude=metric.magnitude,
            held_out=hashlib.sha256(identity).hexdigest(),
        ),
        "",
    )


def _published(manifest: Manifest) -> CandidateRecord | None:
    """The candidate that became the plan."""
    return next((one for one in manifest.candidates if one.verdict in ("chosen", "forced")), None)


def quality_drop(baseline: Quality, now: Quality) -> Tuple[Optional[Tuple[float, float]], str]:
    """How much worse `now` is, as a share, and the least that it is surely; or None, and why they can't be compared.

    The share is of the baseline's |score|, of mse and max-abs of the target's magnitude. Rows are the same, so the
    drop is exact for them; how much of it is surely there for other rows like them is by both 95 % intervals, which
    leaves out that they are paired, and so errs to the safe side.
    """
    for key in ("metric", "better", "held_out", "n"):
        then, here = getattr(baseline, key), getattr(now, key)
        if then != here:
            return None, f"{key.replace('_', '-')} differs: {str(then)[:24]} then, {str(here)[:24]} now"
    scale = abs(baseline.value) if now.magnitude is None else now.magnitude
    if not scale:
        return None, f"a share of a {now.metric} of 0 has no meaning"
    sign = 1 if now.better == "higher" else -1
    drop = sign * (baseline.value - now.value) / scale
    halves = [_half(one) for one in (baseline, now)]
    if None in halves:
        return (drop, drop), ""
    return (drop, drop - math.hypot(*(half for half in halves if half is not None)) / scale), ""


def _half(quality: Quality) -> float | None:
    return None if quality.low is None or quality.high is None else (quality.high - quality.low) / 2

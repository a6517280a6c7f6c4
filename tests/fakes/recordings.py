"""Recordings of tegrastats, which lie beside the checkout and not in it: most of their sources state no licence."""

from __future__ import annotations

import json
from pathlib import Path

from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.device.telemetry.tegrastats.log import read_log

_PLACE = "shared/data/tegrastats"
_NOT_ONE_WHOLE_RUN = ("-tail", "-restarts", "-two-formats")


def folder():
    """Where the recordings are; None where there are none."""
    places = (parent / _PLACE for parent in Path(__file__).resolve().parents)
    return next((place for place in places if (place / "expected_series.json").is_file()), None)


def whole_runs():
    """Names of recordings that are one tegrastats process from its start, on a module that prints its input power."""
    if folder() is None:
        return []
    rows = json.loads((folder() / "expected_series.json").read_text())
    chosen = [row["file"] for row in rows if row["total_how"] == "input-rail"]
    return sorted(name for name in chosen if not any(mark in name for mark in _NOT_ONE_WHOLE_RUN))


def read(name):
    """The samples of a recording, at the moments that its stamps tell."""
    log = read_log((folder() / name).read_text().splitlines())
    return [Stamped(round(at_s * 1e9), sample) for at_s, sample in zip(log.times_s, log.samples)]

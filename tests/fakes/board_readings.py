"""Readings of boards as a server's pages get them, made of given samples without a thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample
from edge_runtime.device.telemetry.sampling import SamplerStatus
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.sources.recording import Recording, read_recording
from edge_runtime.server.board import BoardReading, Watcher
from edge_runtime.server.board_log import BoardLog

BOARDS = Path(__file__).parents[1] / "data/boards"
RAMP = BOARDS / "orin-nano-heat-ramp.jsonl"
LINE = BOARDS / "orin-nano-jp6.log"
HERE = Origin("sysfs", module="Orin Nano 8GB")
START_NS = 1_000_000_000


def ramp() -> Recording:
    return read_recording(RAMP)


def watcher_of(
    samples: Sequence[TelemetrySample], origin: Origin = HERE, root: Path | None = None, interval_s: float = 1.0
) -> Watcher:
    """What has seen the samples, one each interval."""
    watcher = Watcher(interval_s, root, BoardLog(origin, lambda: START_NS))
    for index, sample in enumerate(samples):
        watcher.add(Stamped(START_NS + round(index * interval_s * 1e9), sample))
    return watcher


def status_of(origin: Origin, age_s: float, alarm: str | None = None) -> SamplerStatus:
    known: dict[str, Any] = dict.fromkeys(("jitter_ms_p50", "jitter_ms_p99", "cost_ratio"))
    return SamplerStatus(origin, 1.0, 1, age_s, alarm is not None, alarm, missed=0, restarts=0, **known)


def reading_of(
    *samples: TelemetrySample, origin: Origin = HERE, root: Path | None = None, alarm: str | None = None
) -> BoardReading:
    """The reading half a second after the last sample, which is old if there is an alarm."""
    seen = watcher_of(samples, origin, root).seen
    now_ns = START_NS + (len(samples) - 1) * 1_000_000_000 + 500_000_000
    return BoardReading(now_ns, (("sysfs", "in use"),), alarm, status_of(origin, 0.5, alarm), seen)

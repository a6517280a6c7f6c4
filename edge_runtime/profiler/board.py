"""The board while it is profiled: the sampler that watches it, or why there is none."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

from edge_runtime.device.capabilities import capabilities
from edge_runtime.device.identity import identify
from edge_runtime.device.power_mode import current_power_mode
from edge_runtime.device.telemetry.board import OpenBoard
from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.device.telemetry.sampler import Sampler
from edge_runtime.device.telemetry.sampling import SamplerStatus

Clock = Callable[[], int]
Verdicts = Sequence[Tuple[str, str]]

_MOST_ALARMS = 100
_MOST_SAMPLES = 1_000_000
_HISTORY = 36_000


@dataclass(frozen=True)
class BoardFacts:
    """How the board was watched: the sampler's state (None without one), the choice of it, and what it missed.

    `root` is where the board's own files lie; None where it has none here, as of a recorded log.
    """

    status: SamplerStatus | None
    verdicts: Verdicts
    alarms: Tuple[str, ...]
    root: Path | None = None

    @property
    def label(self) -> str:
        """Where the numbers come from, in words."""
        return "none" if self.status is None else self.status.origin.label

    @property
    def choice(self) -> str:
        """What was said of each source."""
        return "; ".join(f"{name}: {why}" for name, why in self.verdicts) or "no source was asked for"

    @property
    def origin(self) -> Dict[str, Any]:
        """Where the numbers come from, as a report holds it."""
        found = {"source": "none", "replay_of": None, "made_up": None, "module": "", "label": "none"}
        return found if self.status is None else {key: getattr(self.status.origin, key) for key in found}

    def record(self) -> Dict[str, Any]:
        """As a report holds it; null is unknown."""
        status = self.status
        mode = None if self.root is None else current_power_mode(self.root)
        cost_ratio = None if status is None else status.cost_ratio
        return {
            "origin": self.origin,
            "verdicts": [list(verdict) for verdict in self.verdicts],
            "interval_s": None if status is None else status.interval_s,
            "samples": 0 if status is None else status.samples,
            "age_s": None if status is None else status.age_s,
            "jitter_ms": {
                "p50": None if status is None else status.jitter_ms_p50,
                "p99": None if status is None else status.jitter_ms_p99,
            },
            "cost_pct_of_a_core": None if cost_ratio is None else 100 * cost_ratio,
            "restarts": 0 if status is None else status.restarts,
            "alarms": list(self.alarms),
            "power_mode": None if mode is None else mode.name,
            "capabilities": {} if self.root is None else capabilities(identify(self.root)).record(),
        }


@dataclass
class WatchedBoard:
    """What tells about the board while it is profiled. `alarms` come with their moment, as the sampler raises them."""

    sampler: Sampler | None = None
    verdicts: Verdicts = ()
    root: Path | None = None
    alarms: List[Tuple[int, str]] = field(default_factory=list)

    @property
    def interval_s(self) -> float:
        """From one sample to the next; 0 without a sampler."""
        return 0.0 if self.sampler is None else self.sampler.status().interval_s

    def tells_power(self, wait: Callable[[float], object] = time.sleep) -> bool:
        """Whether the last sample has the board's power; where there is none yet, it is waited for by `wait`."""
        if self.sampler is not None and self.sampler.latest is None:
            wait(2 * self.interval_s)
        latest = None if self.sampler is None else self.sampler.latest
        return latest is not None and latest.sample.total_power is not None

    def between(self, start_ns: int, end_ns: int) -> List[Stamped]:
        """The samples of that time."""
        return [] if self.sampler is None else self.sampler.between(start_ns, end_ns)

    def facts(self, since_ns: int) -> BoardFacts:
        """How it is watched now, and the alarms since a moment; before it, loading a plan may have held samples up."""
        status = None if self.sampler is None else self.sampler.status()
        alarms = tuple(text for at_ns, text in self.alarms if at_ns >= since_ns)
        return BoardFacts(status, self.verdicts, alarms, self.root)


@contextlib.contextmanager
def watched_board(
    opened: OpenBoard, expected_s: float | None = None, clock: Clock = time.perf_counter_ns
) -> Iterator[WatchedBoard]:
    """A board that is sampled for the length of the block; all samples of `expected_s` are kept."""
    interval_s = opened.interval_s
    board = WatchedBoard(verdicts=opened.verdicts, root=opened.root)
    if opened.source is None:
        yield board
        return

    def note(alarm: str) -> None:
        if len(board.alarms) < _MOST_ALARMS:
            board.alarms.append((clock(), alarm))

    kept = _HISTORY if expected_s is None else min(max(round(expected_s / interval_s), _HISTORY), _MOST_SAMPLES)
    with Sampler(opened.source, interval_s, kept, clock, on_alarm=note) as board.sampler:
        yield board

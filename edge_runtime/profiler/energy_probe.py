"""What one call costs in energy, found by making it again and again while the board is watched."""

from __future__ import annotations

import time
from array import array
from typing import Callable, Tuple

import numpy as np

from edge_runtime.profiler.board import WatchedBoard
from edge_runtime.profiler.energy import energy_per_inference
from edge_runtime.profiler.energy_baseline import Refused
from edge_runtime.profiler.energy_options import EnergyOptions

_LONGER = 1.15  # than the shortest run: the rise to the steady level is cut out


class EnergyProbe:
    """Measures calls on a board that is watched, on the same `clock` (ns)."""

    def __init__(
        self,
        board: WatchedBoard,
        options: EnergyOptions | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._board = board
        self._options = options or EnergyOptions(interval_s=board.interval_s)
        self._clock = clock
        self._wait = wait

    def __call__(self, call: Callable[[], object]) -> Tuple[float | None, str]:
        """Gross energy of one call in mJ; None, and why."""
        clock, stamps = self._clock, array("q")
        end_ns = clock() + round(_LONGER * self._options.shortest_run_s(self._board.interval_s) * 1e9)
        now_ns = clock()
        while now_ns < end_ns:
            stamps.append(now_ns)
            call()
            now_ns = clock()
            stamps.append(now_ns)
        self._wait(2 * self._board.interval_s)  # for the sample that tells of the last calls
        samples = self._board.between(stamps[0], clock())
        idle = Refused("not asked for")
        found = energy_per_inference(samples, np.asarray(stamps).reshape(-1, 2), idle, self._options)
        if found.gross_mj is None:
            return None, found.refused or "no energy was found"
        return found.gross_mj.value, ""

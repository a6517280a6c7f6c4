"""Signs of life for the service manager, given only when real inferences end.

A timer that says "alive" by itself would hide just the hang that it is there for, that of a run in a driver. So a sign
is given only after an inference has ended on every accelerator since the last one: a client's, or a golden run, which
is made where no client asks. Whatever ends counts, however slow; where runs are known to take so long that the manager
would lose patience, it is told to wait longer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Dict, List

from edge_runtime.server.golden_runs import Checked, GoldenRuns
from edge_runtime.server.models import ModelTable
from edge_runtime.server.prometheus import Families, Family
from edge_runtime.server.service_manager import ServiceManager

logger = logging.getLogger(__name__)

MOST_BAD = 2
"""Wrong golden runs of a model in a row, after which no sign of life is given any more."""

_BEATS = 3  # looks in the time that the manager waits


class Heartbeat:
    """Looks after the models of a table while they are served, and tells the manager; used on the loop's thread.

    Attributes:
        golden_interval_s: longest time between two golden runs of a model, however busy clients keep it.
    """

    def __init__(self, models: ModelTable, manager: ServiceManager, golden_interval_s: float) -> None:
        self.golden_interval_s = golden_interval_s
        self._models = models
        self._manager = manager
        self._configured_s = manager.watchdog_s
        self._golden = GoldenRuns(models, self._ended)
        self._told_ns: Dict[str, int] = {}  # by accelerator, the time of the last run that was told of
        self._turns: Dict[str, int] = {}
        self._signs = 0
        self._is_given_up = False
        self._status = ""
        models.metrics.append(self._families)

    @property
    def period_s(self) -> float:
        """Time between two looks."""
        if self._configured_s is None:
            return self.golden_interval_s
        return min(self.golden_interval_s, self._configured_s / _BEATS)

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            try:
                self.look()
            except Exception:  # the top frame of the heartbeat
                logger.exception("the heartbeat failed once")
            await asyncio.sleep(self.period_s)

    def look(self) -> None:
        """Asks for the golden runs that are due, and says how the server does."""
        self._golden.follow()
        for device, checked in self._by_device().items():
            if not self._has_moved(device, checked):
                self._begin_next(device, checked)
        interval_ns = self.golden_interval_s * 1e9
        for each in self._golden:
            if each.model.now_ns() - each.ended_ns >= interval_ns:
                self._golden.begin(each)
        self._golden.look_for_late()
        self._wait_long_enough()
        self._tell()

    def _ended(self) -> None:
        """A golden run has ended."""
        self._tell()

    def _by_device(self) -> Dict[str, List[Checked]]:
        found: Dict[str, List[Checked]] = {}
        for each in self._golden:
            found.setdefault(each.model.engine.info.device, []).append(each)
        return found

    def _has_moved(self, device: str, checked: List[Checked]) -> bool:
        """Whether a run has ended on an accelerator since that was told of last."""
        return max(each.has_moved_ns for each in checked) > self._told_ns.get(device, 0)

    def _begin_next(self, device: str, checked: List[Checked]) -> None:
        """Asks one of an accelerator's models, each in its turn."""
        askable = [each for each in checked if each.can_be_asked and not each.is_away]
        if not askable or any(each.is_under_way for each in askable):
            return
        self._turns[device] = turn = (self._turns.get(device, -1) + 1) % len(askable)
        self._golden.begin(askable[turn])

    def _wait_long_enough(self) -> None:
        """Has the manager wait three times as long as the longest run is known to take."""
        watchdog_s = self._manager.watchdog_s
        longest_ns = max((each.model.longest_run_ns for each in self._golden), default=0)
        if watchdog_s is not None and 3 * longest_ns > watchdog_s * 1e9:
            needed_s = 4 * longest_ns / 1e9  # a little more, or each run that is a little longer would be told of
            logger.warning(
                "a run takes up to %.1f s: the service manager waits %.1f s for a sign of life",
                longest_ns / 1e9,
                needed_s,
            )
            self._manager.wait_longer(needed_s)

    def _tell(self) -> None:
        self._tell_status()
        if self._manager.watchdog_s is None or not self._is_alive():
            return
        by_device = self._by_device()
        moving = {
            name: each for name, each in by_device.items() if any(one.can_be_asked and not one.is_away for one in each)
        }
        if all(self._has_moved(name, each) for name, each in moving.items()):
            self._told_ns = {name: max(each.has_moved_ns for each in all_of) for name, all_of in by_device.items()}
            self._signs += 1
            self._manager.alive()

    def _is_alive(self) -> bool:
        """Whether no model is stuck, nor answers wrongly time after time."""
        watchdog_ns = (self._manager.watchdog_s or 0) * 1e9
        stuck = [each for each in self._golden if each.is_late and self._golden.waited_ns(each) > watchdog_ns]
        wrong = [each for each in self._golden if each.bad >= MOST_BAD]
        is_given_up = bool(stuck or wrong)
        if is_given_up and not self._is_given_up:
            names = ", ".join(sorted({each.model.name for each in (*stuck, *wrong)}))
            logger.critical("no sign of life is given while this lasts, so that the server is started anew: %s", names)
        self._is_given_up = is_given_up
        return not is_given_up

    def _tell_status(self) -> None:
        problem = self._models.problem()
        status = f"not ready: {problem}" if problem else status_text(self._models)
        if status != self._status:
            self._status = status
            self._manager.status(status)

    def _families(self) -> Families:
        if self._manager.is_there:
            signs = [("", self._signs)]
            yield Family("edge_runtime_heartbeats_total", "counter", "Signs of life for the service manager", signs)


def status_text(models: ModelTable) -> str:
    """What is served, in one line."""
    served = [f"{model.name} {model.version} ({model.engine.info.precision})" for model in models]
    waiting = sum(model.pending for model in models)
    return f"serves {', '.join(served) or 'no model'}; {waiting} wait"

"""What changes how long runs take: the power mode and the temperature."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from edge_runtime.device.power_mode import current_power_mode
from edge_runtime.device.temperature import hottest_zone_c

logger = logging.getLogger(__name__)

_EVERY_S = 2.0
_NOTABLE_C = 10.0


@dataclass(frozen=True)
class Conditions:
    """What runs were measured under; None where the machine doesn't tell."""

    power_mode: str | None
    temperature_c: float | None

    @property
    def is_known(self) -> bool:
        """Whether the machine tells anything."""
        return self.power_mode is not None or self.temperature_c is not None

    def differ_from(self, learnt: Conditions) -> bool:
        """Whether what was learnt under other conditions may not hold: another power mode, or 10 °C more or less."""
        if self.power_mode != learnt.power_mode:
            return True
        now_c, then_c = self.temperature_c, learnt.temperature_c
        return now_c is not None and then_c is not None and abs(now_c - then_c) >= _NOTABLE_C


def read_conditions(root: Path = Path("/")) -> Conditions:
    """The conditions now."""
    mode = current_power_mode(root)
    return Conditions(None if mode is None else mode.name, hottest_zone_c(root))


async def watch_conditions(
    relearn: Callable[[], object],
    read: Callable[[], Conditions] = read_conditions,
    every_s: float = _EVERY_S,
) -> None:
    """Calls `relearn` whenever conditions have changed since it was called last; ends where there are none to know."""
    loop = asyncio.get_running_loop()
    learnt = await loop.run_in_executor(None, read)
    while learnt.is_known:
        await asyncio.sleep(every_s)
        now = await loop.run_in_executor(None, read)
        if now.differ_from(learnt):
            logger.info("runs are measured anew: %s, before %s", now, learnt)
            learnt = now
            relearn()

"""What changes how long runs take: the power mode and the temperature."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Callable

logger = logging.getLogger(__name__)

_EVERY_S = 2.0
_NOTABLE_C = 10.0


@dataclass(frozen=True)
class Conditions:
    """What runs were measured under; None where the board doesn't tell."""

    power_mode: str | None
    temperature_c: float | None

    @property
    def is_known(self) -> bool:
        """Whether the board tells anything."""
        return self.power_mode is not None or self.temperature_c is not None

    def differ_from(self, learnt: Conditions) -> bool:
        """Whether what was learnt under other conditions may not hold: another power mode, or 10 °C more or less."""
        if self.power_mode != learnt.power_mode:
            return True
        now_c, then_c = self.temperature_c, learnt.temperature_c
        return now_c is not None and then_c is not None and abs(now_c - then_c) >= _NOTABLE_C


async def watch_conditions(
    relearn: Callable[[], object],
    read: Callable[[], Conditions],
    every_s: float = _EVERY_S,
) -> None:
    """Calls `relearn` whenever conditions have changed since it was called last; `read` must not wait.

    While the board tells nothing, what was known last holds.
    """
    learnt = Conditions(None, None)
    while True:
        now = read()
        if now.is_known and learnt.is_known and now.differ_from(learnt):
            logger.info("runs are measured anew: %s, before %s", now, learnt)
            relearn()
            learnt = now
        elif now.is_known and learnt.temperature_c is None:
            learnt = now
        await asyncio.sleep(every_s)

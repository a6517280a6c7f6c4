"""What a server watches beside answering: what changes run times, ladders, and whether anybody asks."""

from __future__ import annotations

import asyncio
from typing import List

from edge_runtime.server.accelerators import Accelerators
from edge_runtime.server.board import ServedBoard
from edge_runtime.server.conditions import watch_conditions
from edge_runtime.server.degradation import Ladders
from edge_runtime.server.idle import Idle
from edge_runtime.server.models import ModelTable
from edge_runtime.server.settings import ServerSettings


class Watches:
    """All of it for one server, on the loop's thread.

    Raises:
        LadderError: a rung of a ladder can't stand in for its model.
    """

    def __init__(
        self, models: ModelTable, accelerators: Accelerators, settings: ServerSettings, board: ServedBoard
    ) -> None:
        self._accelerators = accelerators
        self._board = board
        self._ladders = Ladders(models, accelerators, board.read, is_staying_up=settings.stay_up)
        self._idle = Idle(models, settings)

    def begin(self) -> List[asyncio.Future[None]]:
        """The watches, which are the caller's to cancel."""
        return [
            asyncio.ensure_future(watch_conditions(self._accelerators.relearn, self._board.conditions)),
            asyncio.ensure_future(self._ladders.watch(self._idle.relaxed)),
            asyncio.ensure_future(self._idle.watch()),
        ]

    def engines_moved(self) -> None:
        """Says that the process of an engine has gone away, or come back."""
        self._ladders.settle()

    def close(self) -> None:
        """Leaves the board as it was; idempotent, and may wait for some files to be written."""
        self._idle.close()

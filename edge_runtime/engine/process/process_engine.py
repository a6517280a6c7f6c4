"""From a stored plan to an engine whose plan runs in a process of its own."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

from edge_runtime.engine.engine import Engine
from edge_runtime.engine.loading import EngineOptions, engine_info
from edge_runtime.engine.process.keeper import Keeper, KeeperOptions
from edge_runtime.engine.process.presence import Presence
from edge_runtime.engine.process.request import LoadRequest
from edge_runtime.engine.process.slot import ProcessSlot
from edge_runtime.plan.manifest import Manifest
from edge_runtime.plan.store import StoredPlan, open_plan


class ProcessEngine(Engine):
    """An engine whose slots run in a process. While that is being replaced, runs end in ServerUnavailableError."""

    def __init__(self, manifest: Manifest, presence: Presence, keeper: Keeper, slots: int, drain_s: float) -> None:
        signature, made = manifest.signature, iter(range(slots))
        segments = 1 if manifest.chain is None else len(manifest.chain.parts)

        def make_slot() -> ProcessSlot:
            return ProcessSlot(signature, segments, partial(presence.link, next(made)), presence.gone)

        super().__init__(engine_info(manifest), signature, make_slot, slots, None, segments)
        self.keeper: Presence = presence
        self._process = keeper
        self._drain_s = drain_s

    @property
    def pid(self) -> int | None:
        """The process that is there, if one is."""
        return self._process.pid

    def close(self) -> None:
        """Waits for running inferences, for a time, and ends the process; idempotent."""
        timer = threading.Timer(self._drain_s, self._process.break_off)
        timer.daemon = True
        timer.start()
        try:
            super().close()
        finally:
            timer.cancel()
            self._process.close()


def load_in_process(
    plan: str | os.PathLike[str] | StoredPlan,
    options: EngineOptions | None = None,
    keeping: KeeperOptions | None = None,
) -> ProcessEngine:
    """As `engine.loading.load`, but the plan is loaded, warmed and run in a process of its own.

    That is replaced when it ends, for whatever reason; nothing of the plan and its library is in this process. What is
    asked of the plan's signature is what `[trust]` of the environment says.

    Raises:
        PlanError: not found, corrupt, or for another backend or board.
        BackendError: the engine library refused the plan, or ended its process.
    """
    stored = plan if isinstance(plan, StoredPlan) else open_plan(Path(plan))
    chosen, times = options or EngineOptions(), keeping or KeeperOptions()
    presence = Presence(f"model {stored.manifest.name!r}", times.clock)
    keeper = Keeper(LoadRequest(stored, chosen).text(), stored.manifest.signature, presence, times)
    keeper.start()
    return ProcessEngine(stored.manifest, presence, keeper, chosen.slots, times.drain_s)

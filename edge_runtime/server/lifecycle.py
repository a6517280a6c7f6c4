"""A server's life: bind, answer, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, List, Sequence, Set

from edge_runtime.server.accelerators import Accelerators, Prepared
from edge_runtime.server.administration import Administration, ServerLog
from edge_runtime.server.board import ServedBoard
from edge_runtime.server.engine_watch import watch_engines
from edge_runtime.server.follower import Follower
from edge_runtime.server.heartbeat import Heartbeat, status_text
from edge_runtime.server.keeping import NOTHING_KEPT, Keeping
from edge_runtime.server.listeners import Bound, Listeners
from edge_runtime.server.loads import Loads
from edge_runtime.server.memory.ledger import MemoryLedger
from edge_runtime.server.memory.told import memory_families
from edge_runtime.server.models import ModelTable, ServedModel
from edge_runtime.server.passed_sockets import NO_SOCKETS, PassedSockets
from edge_runtime.server.reloading import Configuration, Reloading
from edge_runtime.server.repository import ModelRepository
from edge_runtime.server.service_manager import NOBODY, ServiceManager
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.watches import Watches

logger = logging.getLogger(__name__)

_CLOSE_S = 1.0
_END_S = 5.0
EXIT_HUNG = 70


@dataclass(frozen=True)
class Stop:
    """How a server is told to stop: `requested` drains first, `hurried` doesn't wait for that.

    `reload` has it read settings, tokens and certificates anew, after which it sets `reloaded`.
    """

    requested: asyncio.Event
    hurried: asyncio.Event
    reload: asyncio.Event = field(default_factory=asyncio.Event)
    reloaded: asyncio.Event = field(default_factory=asyncio.Event)

    def signalled(self) -> None:
        """The first signal asks to stop, the second to hurry."""
        (self.hurried if self.requested.is_set() else self.requested).set()


@dataclass(frozen=True)
class Control:
    """What administrators may do: load models by `loads` (None: they may not), and change what `log` lets pass.

    `keeping` is what the server does by itself about the models that it loads, `ledger` what memory they have.
    `manager` is who has started it, `sockets` are what that one has passed to it, and `configuration` is where its
    settings are read anew, at once if `is_to_reload` says so when signals are listened to.
    """

    loads: Loads | None = None
    log: ServerLog | None = None
    keeping: Keeping = NOTHING_KEPT
    ledger: MemoryLedger | None = None
    manager: ServiceManager = NOBODY
    sockets: PassedSockets = NO_SOCKETS
    configuration: Configuration | None = None
    is_to_reload: Callable[[], bool] = bool


def run(
    engines: Sequence[Prepared],
    settings: ServerSettings,
    on_ready: Callable[[Bound], None],
    control: Control = Control(),
) -> None:
    """Serves warmed engines until SIGTERM or SIGINT; what was taken in is answered, for `drain_s` at most.

    The process ends with status 70 if a run doesn't return even then, for nothing else gets rid of it, or at once if
    one of our threads failed or the GPU was lost; and with 0 if a plan is still being loaded, which nothing else ends.

    Raises:
        ConfigError: an address can't be served.
    """

    async def until_signalled() -> None:
        stop = Stop(asyncio.Event(), asyncio.Event())
        loop, told = asyncio.get_running_loop(), control.configuration
        is_reloadable = settings.is_reloadable if told is None else told.is_reloadable
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.signalled)
        if is_reloadable or control.manager.is_there:  # before they are read: what changes behind that is told
            loop.add_signal_handler(signal.SIGHUP, stop.reload.set)
            if control.is_to_reload():
                stop.reload.set()
        if not await serve(engines, settings, on_ready, stop, control):
            logger.error("a run is still under way, a thread failed, or the GPU was lost; ending the process")
            os._exit(EXIT_HUNG)  # here, for the loop's end waits for threads that may never return

    asyncio.run(until_signalled())
    if control.loads is not None and control.loads.are_under_way:
        logger.warning("a plan is still being loaded; ending the process")
        os._exit(0)


async def serve(
    engines: Sequence[Prepared],
    settings: ServerSettings,
    on_ready: Callable[[Bound], None],
    stop: Stop,
    control: Control = Control(),
) -> bool:
    """Serves until told to stop; False if a run was still under way at the end, or if something of ours failed.

    Raises:
        ConfigError: an address can't be served, or a rung of a ladder can't stand in for its model.
    """
    failures: List[str] = []
    accelerators = Accelerators(settings, partial(_fail, stop, failures))
    repository: ModelRepository | None = None
    follower: Follower | None = None
    listeners: Listeners | None = None
    board = ServedBoard()
    board.start(settings.board, settings.board_interval_s)
    watches: List[asyncio.Future[None]] = []
    models = ModelTable([])
    watching: Watches | None = None
    try:
        models = _table(accelerators.add(*engines), control.ledger)
        watching = Watches(models, accelerators, settings, board)
        if control.loads is not None:
            repository = ModelRepository(models, accelerators, control.loads, control.keeping)
            follower = Follower(models, repository, control.loads, control.keeping)
        models.administration = Administration(repository, control.log, control.keeping.is_open)
        watch_engines(models, watching.engines_moved)
        listeners = Listeners(models, settings, board, control.sockets)
        bound = await listeners.open()
        models.is_ready = True
        control.manager.ready(status_text(models))
        on_ready(bound)
        heartbeat = Heartbeat(models, control.manager, settings.golden_interval_s)
        reloading = Reloading(settings, models, listeners, heartbeat, control.log)
        upkeep = [
            heartbeat.run(),
            _reload(reloading, control, follower, stop),
            *([] if follower is None else [follower.run()]),
        ]
        watches += [*watching.begin(), *map(asyncio.ensure_future, upkeep)]
        await stop.requested.wait()
        models.is_ready = False
        if repository is not None:
            repository.begin_close()
        await _drained(models, reloading.settings.drain_s, stop.hurried, control.manager)
    finally:
        models.is_ready = False
        for watch in watches:
            watch.cancel()
        ends = [board.close, *([] if watching is None else [watching.close])]
        is_closed = await _closed(accelerators, repository, listeners, ends)
    return is_closed and not failures


async def _closed(
    accelerators: Accelerators,
    repository: ModelRepository | None,
    listeners: Listeners | None,
    ends: Sequence[Callable[[], object]],
) -> bool:
    """Ends all, those that may wait (`ends`) on another thread; False if a run was still under way."""
    if listeners is not None:
        listeners.stop_listening()
    is_closed = await accelerators.close(_CLOSE_S)
    if repository is not None:
        await repository.close(_CLOSE_S)
    if listeners is not None:
        await listeners.close(_CLOSE_S)
    for end in ends:
        await asyncio.get_running_loop().run_in_executor(None, end)
    return is_closed


def _table(models: Sequence[ServedModel], ledger: MemoryLedger | None) -> ModelTable:
    """The table to begin with."""
    table = ModelTable(models)
    if ledger is not None:
        table.ledger = ledger
        table.metrics.append(partial(memory_families, ledger))
    return table


def _fail(stop: Stop, failures: List[str]) -> None:
    """Ends the server at once: some of its requests would never be answered, or none could succeed."""
    failures.append("a lane failed, or the GPU was lost")
    stop.requested.set()
    stop.hurried.set()


async def _reload(reloading: Reloading, control: Control, follower: Follower | None, stop: Stop) -> None:
    """Reads settings, tokens and certificates anew, and looks at the store, whenever that is asked for.

    Loads that a look begins may take minutes, for which the next reload doesn't wait.
    """
    looks: Set[asyncio.Task[None]] = set()
    try:
        while await stop.reload.wait() and not stop.requested.is_set():
            stop.reload.clear()
            await reloading.reload(control.configuration, control.manager)
            look = asyncio.ensure_future(_looked(follower, stop))
            looks.add(look)
            look.add_done_callback(looks.discard)
    finally:
        for look in looks:
            look.cancel()


async def _looked(follower: Follower | None, stop: Stop) -> None:
    if follower is not None:
        await follower.refresh()
    stop.reloaded.set()


async def _drained(models: ModelTable, drain_s: float, hurried: asyncio.Event, manager: ServiceManager) -> None:
    """Waits until nothing is under way, time is up, or we are told to hurry."""
    manager.stopping("answers what was taken in", drain_s + _END_S)
    waits = [asyncio.ensure_future(models.idle()), asyncio.ensure_future(hurried.wait())]
    await asyncio.wait(waits, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()

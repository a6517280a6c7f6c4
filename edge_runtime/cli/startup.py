"""From plans to warmed engines, all at the same time, and how long each phase of a start took."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Sequence

from edge_runtime.engine.engine import Engine
from edge_runtime.engine.loading import EngineOptions, default_slots, load
from edge_runtime.errors import EdgeRuntimeError, PlanError
from edge_runtime.plan.rollback_floor import RollbackFloor
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.plan.trust import trust_policy
from edge_runtime.server.settings import ServerSettings

logger = logging.getLogger(__name__)


class Startup:
    """Seconds of each phase, the process's own start and its imports first."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {"imports": _process_age_s()}
        self._last_s = time.monotonic()

    def ended(self, phase: str) -> None:
        """Says that a phase ended now, which began when the last one ended."""
        now_s = time.monotonic()
        self.seconds[phase] = round(now_s - self._last_s, 3)
        self._last_s = now_s

    def ready(self) -> None:
        """Says that the server answers from now on."""
        self.ended("listening")
        self.seconds["total"] = round(sum(self.seconds.values()), 3)


def _process_age_s() -> float:
    """How long ago this process was started."""
    started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
    return round(max(0.0, age_s), 3)


@contextlib.contextmanager
def loading(
    plans: Sequence[StoredPlan], load_plan: Callable[[StoredPlan], Engine], at_once: int
) -> Iterator[List[Future[Engine]]]:
    """Engines of the plans, which are loaded and warmed in parallel from here on, and closed behind the block."""
    with ThreadPoolExecutor(max(1, min(len(plans), at_once)), "load") as pool:
        engines = [pool.submit(load_plan, plan) for plan in plans]
        with contextlib.ExitStack() as closing:
            for engine in engines:
                closing.callback(_close, engine)
            yield engines


def _close(engine: Future[Engine]) -> None:
    if not engine.cancel() and engine.exception() is None:
        engine.result().close()


def warn_of_unsigned(plans: Sequence[StoredPlan]) -> None:
    """One line about the plans that nobody vouches for, if there are any."""
    names = [plan.manifest.name for plan in plans if not plan.is_signed]
    if names and not trust_policy().require_signed:  # else they are refused
        logger.warning(
            "not signed: %s; `edge-runtime sign` signs a plan, EDGE_RUNTIME_TRUST__REQUIRE_SIGNED=true refuses others",
            ", ".join(names),
        )


def raise_floor(plan: StoredPlan) -> None:
    """Says that a plan was loaded and found good, so that no older one is loaded again; a failure is only logged.

    An older one that the store serves by now was gone back to while this one was loaded: that one stays allowed.
    """
    floor, name, version = trust_policy().floor, plan.manifest.name, plan.manifest.version
    if floor is None:
        return
    with contextlib.suppress(PlanError):  # what is served can't be told: it wasn't gone back to
        version = min(version, PlanStore(plan.folder.parent.parent).served(name))
    try:
        RollbackFloor(floor).raise_floor(name, version)
    except EdgeRuntimeError as error:
        logger.warning("%s; older versions of model %s aren't refused", error, name)


def give_memory_back() -> None:
    """Gives what loading freed back to the system, where the C library can (glibc); garbage is collected again."""
    gc.freeze()  # what is there now stays: later collections needn't look at it
    gc.enable()
    trim_memory()


def trim_memory() -> None:
    """Gives free memory back to the system, where the C library can (glibc)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def load_engine(plan: StoredPlan, settings: ServerSettings) -> Engine:
    """A warmed engine of a plan, as this server is to run it.

    Raises:
        EdgeRuntimeError: it can't be loaded.
    """
    if not settings.engine_process:
        return load(plan, engine_options(plan, settings))
    from edge_runtime.engine.process.process_engine import load_in_process

    return load_in_process(plan, engine_options(plan, settings))


def engine_options(plan: StoredPlan, settings: ServerSettings) -> EngineOptions:
    """How a plan's engine is to run in this server."""
    return EngineOptions(
        slots=settings.slots or default_slots(plan.manifest),
        memory=settings.memory,
        graphs=settings.graphs,
        plugins=settings.plugins,
    )

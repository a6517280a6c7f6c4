"""From plans to warmed engines, all at the same time, and how long each phase of a start took."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence

from edge_runtime.engine.loading import EngineOptions, default_slots, load
from edge_runtime.plan.serving import ServingTable
from edge_runtime.plan.store import StoredPlan
from edge_runtime.server.accelerators import Prepared, prepared
from edge_runtime.server.settings import ServerSettings


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
def loaded(
    plans: Sequence[StoredPlan], settings: ServerSettings, serving: Mapping[str, ServingTable], startup: Startup
) -> Iterator[List[Prepared]]:
    """Engines of the plans, loaded, warmed and measured in parallel; they are closed behind the block.

    `serving` is how each model wants to be served, by name.

    Raises:
        PlanError: a plan can't be used.
        BackendError: the engine library refused one.
    """
    with contextlib.ExitStack() as opened:
        with ThreadPoolExecutor(max(1, min(len(plans), os.cpu_count() or 1)), "load") as pool:
            loading = [pool.submit(load, plan, _options(plan, settings)) for plan in plans]
            failures: List[BaseException] = []
            engines = []
            for future in loading:
                error = future.exception()
                if error is None:
                    engines.append(opened.enter_context(future.result()))
                else:
                    failures.append(error)
            if failures:
                raise failures[0]
            startup.ended("loading and warming up")
            measuring = [pool.submit(prepared, engine, serving[engine.info.name]) for engine in engines]
            result = [future.result() for future in measuring]
        _give_memory_back()
        startup.ended("timing runs")
        yield result


def _give_memory_back() -> None:
    """Gives what loading needed and freed back to the system, where the C library can (glibc)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _options(plan: StoredPlan, settings: ServerSettings) -> EngineOptions:
    return EngineOptions(
        slots=settings.slots or default_slots(plan.manifest),
        memory=settings.memory,
        graphs=settings.graphs,
        plugins=settings.plugins,
    )

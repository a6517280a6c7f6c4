"""What a server begins with: the models of its store that load, stand-ins for others, and why those don't."""

from __future__ import annotations

import contextlib
import logging
import os
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Mapping, Sequence

from edge_runtime.cli.startup import loading, raise_floor, warn_of_unsigned
from edge_runtime.cli.store_plans import StorePlans
from edge_runtime.engine.engine import Engine
from edge_runtime.errors import ConfigError, DeviceLostError, EdgeRuntimeError, InsufficientMemoryError, PlanError
from edge_runtime.plan.golden import read_golden
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.server.accelerators import Prepared, prepared
from edge_runtime.server.keeping import Refusal

logger = logging.getLogger(__name__)


@dataclass
class FirstModels:
    """Models that are ready to be served, and those whose served version isn't."""

    made: List[Prepared] = field(default_factory=list)
    refused: Dict[str, Refusal] = field(default_factory=dict)


@dataclass(frozen=True)
class Pardon:
    """Which refusals don't end a start: all that a plan may have, or those for want of memory, or none."""

    of_plans: bool = False
    of_memory: bool = False

    def covers(self, error: EdgeRuntimeError) -> bool:
        """Whether the server starts all the same; never on a wrong setting, nor on a GPU that is lost."""
        if isinstance(error, (ConfigError, DeviceLostError)):
            return False
        return self.of_plans or self.is_put_off(error)

    def is_put_off(self, error: EdgeRuntimeError) -> bool:
        """Whether the model is loaded once it is asked for."""
        return self.of_memory and isinstance(error, InsufficientMemoryError)


@contextlib.contextmanager
def first_models(
    store: PlanStore, names: Sequence[str], source: StorePlans, pardon: Pardon, ended: Callable[[str], object]
) -> Iterator[FirstModels]:
    """The models to begin with, whose engines are closed behind the block; `ended` is told of each phase.

    Raises:
        EdgeRuntimeError: one can't be loaded, and that isn't pardoned.
    """
    found = FirstModels()
    plans: List[StoredPlan] = []
    for name in names:
        with _pardoned(name, source.served(name), found, pardon):
            plans.append(store.open(name))
    warn_of_unsigned(plans)
    serving = {plan.manifest.name: source.serving(plan.manifest.name) for plan in plans}
    plans.sort(key=lambda plan: not serving[plan.manifest.name].pinned)
    is_parallel = not pardon.of_memory and not any(map(source.is_to_measure, plans))
    with loading(
        plans, source.engine, os.cpu_count() or 1 if is_parallel else 1
    ) as engines, contextlib.ExitStack() as closing:
        loaded: Dict[str, Future[Engine]] = {plan.manifest.name: engine for plan, engine in zip(plans, engines)}
        for plan in plans:
            with _pardoned(plan.manifest.name, str(plan.manifest.version), found, pardon):
                loaded[plan.manifest.name].result()
        ended("loading and warming up")
        # One after another: beside each other the timed runs would take longer than alone.
        for plan in plans:
            name = plan.manifest.name
            if name in found.refused:
                continue
            engine = loaded[name].result()
            with _pardoned(name, str(plan.manifest.version), found, pardon):
                found.made.append(prepared(engine, serving[name], read_golden(plan)))
            if name in found.refused:
                source.give_up(name)
                engine.close()
            else:
                raise_floor(plan)
        if pardon.of_plans:
            wanting = {name: why for name, why in found.refused.items() if not pardon.is_put_off(why.error)}
            _add_stand_ins(wanting, found.made, source, closing)
        yield found


@contextlib.contextmanager
def _pardoned(name: str, version: str, found: FirstModels, pardon: Pardon) -> Iterator[None]:
    try:
        yield
    except EdgeRuntimeError as error:
        if not pardon.covers(error):
            raise
        logger.error("model %s isn't loaded: %s", name, error)
        found.refused[name] = Refusal(version, error)


def _add_stand_ins(
    wanting: Mapping[str, Refusal], made_ones: List[Prepared], source: StorePlans, closing: contextlib.ExitStack
) -> None:
    for name, refusal in wanting.items():
        try:
            made = source.load_stand_in(name, refusal.version)
        except PlanError as error:
            logger.error("model %s: nothing stands in for it: %s", name, error)
            continue
        closing.callback(made.engine.close)
        made_ones.append(made)
        logger.warning(
            "model %s: version %s stands in for version %s", name, made.engine.info.version, refusal.version or "?"
        )

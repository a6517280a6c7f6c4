"""All plans of a store, built unattended: what is right stays, what can't be built keeps nothing else from being.

A run that is killed leaves whole plans; the next one finds them unchanged and goes on where that one was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Sequence

from edge_runtime.builder.progress import Progress
from edge_runtime.errors import PlanError
from edge_runtime.plan.plan_key import plan_key
from edge_runtime.plan.store import PlanStore
from edge_runtime.provisioning.device_key import found_signer
from edge_runtime.provisioning.progress_file import Announce, ProgressFile
from edge_runtime.provisioning.recipe_build import FAILED, FleetOptions, Outcome, recipe_outcome
from edge_runtime.provisioning.sources import Source, sources_of
from edge_runtime.provisioning.store_turn import store_turn

BuildOne = Callable[[Source, FleetOptions, Progress], Outcome]


@dataclass(frozen=True)
class FleetReport:
    """What became of each model of a run, and whether new plans were signed."""

    outcomes: Sequence[Outcome]
    has_key: bool

    @property
    def is_good(self) -> bool:
        """Whether every one has a plan as it should be."""
        return all(outcome.is_good for outcome in self.outcomes)

    @property
    def bad(self) -> List[str]:
        """The models that have none."""
        return [outcome.model for outcome in self.outcomes if not outcome.is_good]

    def record(self) -> Dict[str, Any]:
        """As JSON holds it."""
        models = [outcome.record() for outcome in self.outcomes]
        return {"schema": 1, "is_good": self.is_good, "has_key": self.has_key, "models": models}


def build_all(
    options: FleetOptions,
    progress: Progress,
    announce: Announce = lambda _: None,
    build_one: BuildOne = recipe_outcome,
) -> FleetReport:
    """Builds what a store's recipes and packs describe and isn't there as they say, and removes old versions.

    Raises:
        StoreBusyError: another process does that just now.
        ConfigError: the key to sign with can't be used.
        PlanError: the store can't be written.
    """
    has_key = checked_keys(options)
    with store_turn(options.engines):
        sources = sources_of(options.engines)
        return FleetReport(tuple(built_in_turn(sources, options, progress, announce, build_one)), has_key)


def checked_keys(options: FleetOptions) -> bool:
    """Whether new plans will be signed.

    Raises:
        ConfigError: a key that is to be used isn't there, or can't be used.
    """
    if options.encrypt:
        plan_key()
    return found_signer(options.sign) is not None


def built_in_turn(
    sources: Sequence[Source], options: FleetOptions, progress: Progress, announce: Announce, build_one: BuildOne
) -> Iterator[Outcome]:
    """Builds each of some sources, and keeps the store's file of progress; the store's turn must be ours."""
    file = ProgressFile(options.engines, [source.model for source in sources], progress, announce)
    for source in sources:
        file.begin(source.model)
        outcome = _outcome(source, options, file, build_one)
        file.end("" if outcome.is_good else f"{outcome.state}: {outcome.reason}")
        yield outcome


def _outcome(source: Source, options: FleetOptions, progress: Progress, build_one: BuildOne) -> Outcome:
    if source.problem:
        return Outcome(source.model, FAILED, str(source.path), reason=source.problem)
    outcome = build_one(source, options, progress)
    if not outcome.is_good:
        return outcome
    try:
        return replace(outcome, removed=PlanStore(options.engines).prune(source.model, options.keep))
    except PlanError as error:
        progress.note(str(error))
        return outcome

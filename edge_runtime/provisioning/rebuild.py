"""Plans that no longer fit the machine, or that a server asked for, built anew from their recipe or pack.

The old plan stays what is served until the new one is there, and for as long as there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

from edge_runtime.builder.progress import Progress
from edge_runtime.errors import EdgeRuntimeError, PlanCorruptError, PlanTargetError
from edge_runtime.plan.store import PlanStore
from edge_runtime.plan.target import preflight
from edge_runtime.provisioning.build_all import BuildOne, FleetReport, built_in_turn, checked_keys
from edge_runtime.provisioning.progress_file import Announce
from edge_runtime.provisioning.recipe_build import FleetOptions, recipe_outcome
from edge_runtime.provisioning.requests import Requests, read_requests
from edge_runtime.provisioning.sources import Source, sources_of
from edge_runtime.provisioning.store_turn import store_turn

Misfits = Callable[[PlanStore], Dict[str, str]]


@dataclass(frozen=True)
class RebuildReport:
    """What became of each plan, why it was built anew, and requests that couldn't be removed."""

    fleet: FleetReport
    why: Mapping[str, str]
    left: Tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether every one has a plan as it should be, and nothing is asked for any more."""
        return self.fleet.is_good and not self.left

    def record(self) -> Dict[str, object]:
        """As JSON holds it."""
        return {**self.fleet.record(), "is_good": self.is_good, "why": dict(self.why), "requests_left": list(self.left)}


def misfits(store: PlanStore) -> Dict[str, str]:
    """The models whose served plan doesn't fit this machine, with the reason; nothing is deserialised.

    A library or GPU that isn't there at all is no reason: it may be back after a restart, and a plan for something
    else would take the place of a good one.
    """
    found = {}
    for name in store.models():
        try:
            preflight(store.open(name))
        except (PlanTargetError, PlanCorruptError) as error:
            found[name] = str(error)
        except EdgeRuntimeError:
            continue
    return found


def rebuild(
    options: FleetOptions,
    requests: Path | None,
    progress: Progress,
    announce: Announce = lambda _: None,
    build_one: BuildOne = recipe_outcome,
    misfits_of: Misfits = misfits,
) -> RebuildReport:
    """Builds what doesn't fit or was asked for; a request is removed once there is an outcome, whatever it is.

    A request asks for a plan that is right here: where that is there already, nothing is built. So one that is made
    again, since the run that answered it was killed, costs nothing.

    Raises:
        StoreBusyError: another process builds this store's plans just now.
        ConfigError: the requests can't be read, or the key to sign with can't be used.
        PlanError: the store can't be written.
    """
    has_key = checked_keys(options)
    with store_turn(options.engines):
        asked = Requests(Path()) if requests is None else read_requests(requests)
        why = {**dict.fromkeys(asked.models, "a server asked for it"), **misfits_of(PlanStore(options.engines))}
        outcomes = []
        left = asked.clear(asked.strays)
        for outcome in built_in_turn(_sources(options.engines, sorted(why)), options, progress, announce, build_one):
            outcomes.append(outcome)
            if outcome.model in asked.models:
                left += asked.clear((outcome.model,))
    return RebuildReport(FleetReport(tuple(outcomes), has_key), why, tuple(left))


def _sources(engines: Path, models: Sequence[str]) -> List[Source]:
    """The source of each model, one with a problem where there is none."""
    known: Dict[str, Source] = {}
    for source in sources_of(engines):
        if source.model not in known or known[source.model].problem:
            known[source.model] = source
    none = f"no recipe of it in {engines}, and no pack; put one there, or unpack one (edge-runtime unpack)"
    return [known.get(model) or Source(model, engines / f"{model}.toml", problem=none) for model in models]

"""How each model stands to what its store serves: loaded, kept back, stood in for, absent; and how it came to that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Counter as Counts
from typing import Dict, Tuple

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.server.absence import Absence
from edge_runtime.server.load_reasons import public_reason
from edge_runtime.server.models import ModelTable
from edge_runtime.server.prometheus import Families, Family, labels_of

_PLAN = "plan"
_RETRY_S = 5.0


@dataclass
class Standing:
    """Of one model: what became of the version that its store serves.

    Attributes:
        version: the one that couldn't be loaded; "" where the store has none, or can't tell.
        error: why; None: it was unloaded on purpose.
        is_stand_in: an older version was loaded in its place.
        is_given_way: it was put out, or kept out, for others; it is loaded when it is asked for.
        progress: what is done about it.
    """

    version: str = ""
    error: EdgeRuntimeError | None = None
    is_stand_in: bool = False
    is_given_way: bool = False
    progress: str = ""

    @property
    def reason(self) -> str:
        """What is told of it."""
        if self.error is None:
            return "unloaded"
        version = f"version {self.version} " if self.version else ""
        text = f"{version}can't be loaded: {public_reason(self.error)}"
        return f"{text} ({self.progress})" if self.progress else text


class Standings:
    """Keeps the standing of models that aren't served as the store has them, and counts; used on the loop's thread.

    `keeps` are the models that ought to be served: such a one that is absent is told of as unavailable, in readiness
    too. What is told of others is in the index alone.
    """

    def __init__(self, models: ModelTable) -> None:
        self._models = models
        self._by_name: Dict[str, Standing] = {}
        self._swaps: Counts[Tuple[str, str]] = Counter()
        models.metrics.append(self._families)
        models.remark = self.reason

    def of(self, name: str) -> Standing | None:
        """The standing of a model; None if it is served as the store has it, or nothing is known of it."""
        return self._by_name.get(name)

    def reason(self, name: str) -> str:
        """What the index tells of a model."""
        standing = self._by_name.get(name)
        if standing is None:
            return ""
        if standing.is_given_way:
            return self._models.absent[name].reason if name in self._models.absent else ""
        if not self._models.has(name):
            return standing.reason
        return f"{standing.reason}; version {self._models.find(name).version} {_verb(standing)}"

    def loaded(self, name: str, has_replaced: bool) -> None:
        """Says that a model is served as the store has it."""
        self._forget(name)
        self._swaps[name, "swapped" if has_replaced else "loaded"] += 1

    def unchanged(self, name: str) -> None:
        """Says that what the store serves is what is loaded, whatever was tried meanwhile."""
        self._forget(name)

    def refused(self, name: str, version: str, error: EdgeRuntimeError, is_kept: bool) -> None:
        """Says that the version that the store serves couldn't be loaded; `is_kept`: the model ought to be served."""
        before = self._by_name.get(name)
        is_stand_in = before is not None and before.is_stand_in and self._models.has(name)
        progress = before.progress if before is not None and before.version == version else ""
        self._by_name[name] = Standing(version, error, is_stand_in, progress=progress)
        self._swaps[name, "failed"] += 1
        self._tell(name, is_kept)

    def stands_in(self, name: str) -> None:
        """Says that an older version was loaded in place of the one that couldn't be."""
        self._by_name[name].is_stand_in = True
        self._swaps[name, "stood in"] += 1
        self._tell(name, is_kept=True)

    def progresses(self, name: str, progress: str) -> None:
        """Says what is done about a model that couldn't be loaded."""
        standing = self._by_name[name]
        if standing.progress != progress:
            standing.progress = progress
            self._tell(name, is_kept=True)

    def unloaded(self, name: str) -> None:
        """Says that a model was unloaded on purpose."""
        self._forget(name)
        self._by_name[name] = Standing()

    def gave_way(self, name: str, absence: Absence) -> None:
        """Says that a model isn't loaded until somebody asks for it, for its memory is needed elsewhere."""
        self._forget(name)
        self._by_name[name] = Standing(is_given_way=True)
        self._models.absent[name] = absence
        self._swaps[name, "gave way"] += 1

    def _forget(self, name: str) -> None:
        self._by_name.pop(name, None)
        self._models.absent.pop(name, None)
        self._models.hindrances.pop((name, _PLAN), None)

    def _tell(self, name: str, is_kept: bool) -> None:
        """A version that is kept back hinders nothing: the one before it serves well."""
        standing, is_served = self._by_name[name], self._models.has(name)
        self._models.hindrances.pop((name, _PLAN), None)
        self._models.absent.pop(name, None)
        if is_kept and (standing.is_stand_in or not is_served):
            self._models.hindrances[name, _PLAN] = self.reason(name)
        if is_kept and not is_served:
            self._models.absent[name] = Absence(standing.reason, _RETRY_S)

    def _families(self) -> Families:
        swaps = [(labels_of(model=name, outcome=outcome), count) for (name, outcome), count in self._swaps.items()]
        yield Family("edge_runtime_swaps_total", "counter", "Loads of models while serving, by outcome", swaps)
        amiss = [name for name, standing in self._by_name.items() if standing.error or standing.is_given_way]
        states = [(labels_of(model=name, state=self._state(name)), 1) for name in amiss]
        yield Family("edge_runtime_model_standing", "gauge", "Models not served as their store has them", states)

    def _state(self, name: str) -> str:
        standing = self._by_name[name]
        if standing.is_given_way:
            return "gave way"
        if not self._models.has(name):
            return "absent"
        return "stood in" if standing.is_stand_in else "kept back"


def _verb(standing: Standing) -> str:
    return "stands in" if standing.is_stand_in else "serves on"

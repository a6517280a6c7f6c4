"""Models that ought to be served and aren't: who asks for one is told why, and when to come again."""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple

from edge_runtime.errors import ServerUnavailableError
from edge_runtime.wire.inference import clipped


class Absence(NamedTuple):
    """Why a model isn't there, and when to ask again; `demanded` is called when somebody wants to run it."""

    reason: str
    retry_after_s: float = 1.0
    demanded: Callable[[], object] | None = None


class Absences(Dict[str, Absence]):
    """Absent models by name."""

    def check(self, name: str, is_to_run: bool) -> None:
        """Raises ServerUnavailableError if a model is absent; where it is wanted to run, that is passed on."""
        absence = self.get(name)
        if absence is None:
            return
        if is_to_run:
            self.demand(name)
        raise ServerUnavailableError(f"model {clipped(name)}: {absence.reason}", absence.retry_after_s)

    def demand(self, name: str) -> None:
        """Says that somebody wants a model to run, if it is absent for nobody did."""
        absence = self.get(name)
        if absence is not None and absence.demanded is not None:
            absence.demanded()

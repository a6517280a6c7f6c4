"""Whether an engine's process is there: what its slots, readiness and metrics go by."""

from __future__ import annotations

import time
from typing import Callable, Dict, List, Mapping, Tuple

from edge_runtime.engine.process.death import REASONS
from edge_runtime.engine.process.link import SlotLink
from edge_runtime.errors import ServerUnavailableError

_AT_LEAST_S = 0.1


class Presence:
    """The slots of the process that is there, or why there is none; one thread changes it, any may ask.

    Attributes:
        what: the model, in messages.
        hindrance: why nothing can run now; "" if it can.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.what = what
        self.hindrance = "is being loaded"
        self._clock = clock
        self._links: Tuple[SlotLink, ...] = ()
        self._back_s = clock()
        self._usual_s = 1.0
        self._restarts: Dict[str, int] = dict.fromkeys(REASONS, 0)
        self._watchers: List[Callable[[], object]] = []

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often the process was replaced, by reason."""
        return self._restarts

    def watch(self, changed: Callable[[], object]) -> None:
        """Has `changed` called, on some thread, whenever there is another `hindrance`."""
        self._watchers.append(changed)

    def link(self, index: int) -> SlotLink:
        """A slot of the process that is there.

        Raises:
            ServerUnavailableError: there is none now.
        """
        links = self._links
        if not links:
            raise self.gone(self.hindrance)
        return links[index]

    def gone(self, why: str) -> ServerUnavailableError:
        """What to say of a run that has no process (any more), with the time when there may be one."""
        left_s = self._back_s - self._clock() if self.hindrance else self._usual_s
        return ServerUnavailableError(f"{self.what}: {why}; try again later", max(_AT_LEAST_S, left_s))

    def serves(self, links: Tuple[SlotLink, ...], load_s: float) -> None:
        """Says that a process has come, with its slots, and how long it took."""
        self._usual_s = load_s
        self._links = links
        self._change("")

    def is_away(self, hindrance: str, back_in_s: float) -> None:
        """Says that there is no process, and when one is expected."""
        self._back_s = self._clock() + back_in_s
        self._links = ()
        self._change(hindrance)

    def _change(self, hindrance: str) -> None:
        if hindrance == self.hindrance:
            return
        self.hindrance = hindrance
        for changed in list(self._watchers):
            changed()

    def replaced(self, reason: str) -> None:
        """Counts a process that is replaced."""
        self._restarts[reason] += 1

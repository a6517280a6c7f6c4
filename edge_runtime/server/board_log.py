"""What the log says of the board: throttling and silence, each once, and not again within a minute."""

from __future__ import annotations

import logging
from typing import Callable, Dict, Iterable, Set, Tuple

from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.throttling import Throttle

logger = logging.getLogger(__name__)

_QUIET_NS = 60_000_000_000
Key = Tuple[str, str]


class BoardLog:
    """Turns what is active now into lines about what began and what ended; used by one thread.

    What comes and goes more often than once a minute is said to begin and to end once in that time.

    Args:
        clock: ns, monotonic.
    """

    def __init__(self, origin: Origin, clock: Callable[[], int]) -> None:
        self._name = "the board" if origin.replay_of is None else f"the replayed board ({origin.replay_of})"
        self._clock = clock
        self._said_ns: Dict[Key, int] = {}
        self._active: Set[Key] = set()
        self._said: Set[Key] = set()
        self._unsaid: Dict[Key, int] = {}
        self._is_silent = False

    def silent(self, why: str) -> None:
        """No sample comes any more."""
        if not self._is_silent and self._may_say(("silence", "")):
            self._is_silent = True
            logger.warning("%s: no fresh sample: %s", self._name, why)

    def heard(self) -> None:
        """A sample came."""
        if self._is_silent:
            self._is_silent = False
            logger.info("%s: samples come again", self._name)

    def throttled(self, active: Iterable[Throttle]) -> None:
        """Says what began and what ended."""
        now = {(each.cause, each.where): each.detail for each in active}
        before, self._active = self._active, set(now)
        for key in sorted(before - self._active):
            if key in self._said:
                self._said.remove(key)
                logger.warning("%s is no longer throttled: %s", self._name, _words(key))
        for key in sorted(self._active - before):
            if self._may_say(key):
                self._said.add(key)
                logger.warning("%s is throttled: %s: %s%s", self._name, _words(key), now[key], self._times(key))

    def _times(self, key: Key) -> str:
        unsaid = self._unsaid.pop(key, 0)
        return f" (it was {unsaid} times more since that was said last)" if unsaid else ""

    def _may_say(self, key: Key) -> bool:
        now_ns, said_ns = self._clock(), self._said_ns.get(key)
        if said_ns is not None and now_ns - said_ns < _QUIET_NS:
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return False
        self._said_ns[key] = now_ns
        return True


def _words(key: Key) -> str:
    cause, where = key
    return f"{cause} ({where})" if where else cause

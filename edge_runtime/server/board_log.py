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

    What comes and goes more often than once a minute is said to begin and to end once in that time. What the log said
    last is never better than how it is, but for a minute at most.

    Args:
        clock: ns, monotonic.
    """

    def __init__(self, origin: Origin, clock: Callable[[], int]) -> None:
        self._name = "the board" if origin.replay_of is None else f"the replayed board ({origin.replay_of})"
        self._clock = clock
        self._said_ns: Dict[Key, int] = {}
        self._active: Set[Key] = set()
        self._said: Set[Key] = set()
        self._begun: Dict[Key, int] = {}  # how often each began since it was said last
        self._silence = Silence(self._name)

    def silent(self, why: str) -> None:
        """No sample comes any more."""
        self._silence.begin(self._clock(), why)

    def heard(self) -> None:
        """A sample came."""
        self._silence.end(self._clock())

    def throttled(self, active: Iterable[Throttle]) -> None:
        """Says what began and what ended."""
        now = {(each.cause, each.where): each.detail for each in active}
        for key in sorted(self._said - set(now)):
            self._said.remove(key)
            logger.warning("%s is no longer throttled: %s", self._name, _words(key))
        for key in set(now) - self._active:
            self._begun[key] = self._begun.get(key, 0) + 1
        self._active = set(now)
        for key in sorted(self._active - self._said):
            if self._may_say(key):
                self._said.add(key)
                logger.warning("%s is throttled: %s: %s%s", self._name, _words(key), now[key], self._times(key))

    def _times(self, key: Key) -> str:
        unsaid = self._begun.pop(key) - 1
        return f" (it was {unsaid} times more since that was said last)" if unsaid else ""

    def _may_say(self, key: Key) -> bool:
        now_ns, said_ns = self._clock(), self._said_ns.get(key)
        if said_ns is not None and now_ns - said_ns < _QUIET_NS:
            return False
        self._said_ns[key] = now_ns
        return True


class Silence:
    """Says that samples stop, at once, and that they come again: at once too, unless they stop more than once a minute.

    Nothing is heard while they don't come, so their stop can't be said later; their return can.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_silent = False
        self._is_said = False
        self._is_frequent = False
        self._began_ns: int | None = None

    def begin(self, now_ns: int, why: str) -> None:
        """No sample comes any more; may be told more than once."""
        if self._is_silent:
            return
        self._is_silent = True
        self._is_frequent = self._began_ns is not None and now_ns - self._began_ns < _QUIET_NS
        self._began_ns = now_ns
        if not self._is_said:
            self._is_said = True
            logger.warning("%s: no fresh sample: %s", self._name, why)

    def end(self, now_ns: int) -> None:
        """A sample came."""
        self._is_silent = False
        is_steady = self._began_ns is None or not self._is_frequent or now_ns - self._began_ns >= _QUIET_NS
        if self._is_said and is_steady:
            self._is_said = False
            logger.info("%s: samples come again", self._name)


def _words(key: Key) -> str:
    cause, where = key
    return f"{cause} ({where})" if where else cause

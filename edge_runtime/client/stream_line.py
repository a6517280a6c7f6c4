"""The order of a stream: what waits, what runs, what was dropped and why; it waits for nothing itself."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Dict, List, Mapping

import numpy.typing as npt

from edge_runtime.client.request import Hurry
from edge_runtime.errors import (
    ConfigError,
    DeadlineExpiredError,
    DeadlineRefusedError,
    QueueFullError,
)
from edge_runtime.tensors import Feeds

WAIT, DROP_OLDEST, NEWEST_WINS = POLICIES = ("wait", "drop_oldest", "newest_wins")
NEWER, DEADLINE, QUEUE_FULL, UNREAD, CLOSED = "newer", "deadline", "queue full", "unread", "closed"
_MAX_UNREAD = 64

Arrays = Dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class StreamResult:
    """One inference of a stream.

    Attributes:
        sequence: its number, counted from 0 in the order of `put`.
        outputs: arrays by name, which the caller owns.
        dropped: what was dropped since the result before, by reason: `newer` (the policy chose newer ones), `deadline`
            and `queue full` (the server refused, or the deadline passed), `unread` (nobody took its result).
    """

    sequence: int
    outputs: Arrays
    dropped: Mapping[str, int]


@dataclass
class StreamCounts:
    """What has become of all that was put into a stream."""

    put: int = 0
    done: int = 0
    failed: int = 0
    dropped: Dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class Entry:
    """One inference on its way; `outcome` is its outputs, or an error to raise, once it is over."""

    sequence: int
    feeds: Feeds
    hurry: Hurry
    start_s: float
    is_running: bool = False
    outcome: Any = None
    dropped_before: Counter[str] = field(default_factory=Counter)


class StreamLine:
    """What is in a stream, first to last. One thread at a time uses it.

    Args:
        in_flight: how many run at once.
        when_full: one of `POLICIES`.
        clock: seconds from any start.

    Raises:
        ConfigError: no such number or policy.
    """

    def __init__(self, in_flight: int, when_full: str, clock: Callable[[], float] = time.monotonic) -> None:
        if type(in_flight) is not int or not 1 <= in_flight <= _MAX_UNREAD:
            raise ConfigError(f"in_flight: expected 1 to {_MAX_UNREAD}, got {in_flight!r}")
        if when_full not in POLICIES:
            raise ConfigError(f"when_full: expected one of {', '.join(POLICIES)}, got {when_full!r}")
        self.in_flight = in_flight
        self.counts = StreamCounts()
        self.is_ended = False
        self._policy = when_full
        self._most_unfinished = in_flight + {WAIT: 0, DROP_OLDEST: in_flight, NEWEST_WINS: 1}[when_full]
        self._clock = clock
        self._line: Deque[Entry] = deque()
        self._dropped: Counter[str] = Counter()  # before what is put next

    @property
    def has_room(self) -> bool:
        """Whether `put` may be called now, rather than when something has ended or was taken."""
        return self._policy != WAIT or (
            sum(entry.outcome is None for entry in self._line) < self.in_flight and len(self._line) < _MAX_UNREAD
        )

    @property
    def has_waiting(self) -> bool:
        """Whether anything is to run yet."""
        return any(entry.outcome is None and not entry.is_running for entry in self._line)

    @property
    def fails_next(self) -> bool:
        """Whether `take` raises."""
        return bool(self._line) and isinstance(self._line[0].outcome, BaseException)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self.is_ended and not self._line

    def put(self, feeds: Feeds, hurry: Hurry) -> int:
        """Lets one in, for which others may be dropped; its number."""
        entry = Entry(self.counts.put, feeds, hurry, self._clock(), dropped_before=self._dropped)
        self._dropped = Counter()
        self._line.append(entry)
        self.counts.put += 1
        unfinished = [entry for entry in self._line if entry.outcome is None]
        waiting = [entry for entry in unfinished if not entry.is_running]
        for oldest in waiting[: max(0, len(unfinished) - self._most_unfinished)]:
            self._drop(oldest, NEWER)
        self._drop_unread()
        return entry.sequence

    def next(self) -> Entry | None:
        """What runs next, from now on; None if nothing waits, or as many run as may.

        Its deadline is what is left of it.
        """
        if sum(entry.is_running for entry in self._line) >= self.in_flight:
            return None
        for entry in list(self._line):
            if entry.is_running or entry.outcome is not None:
                continue
            waited_s = self._clock() - entry.start_s
            if entry.hurry.deadline_ms is not None and waited_s * 1e3 >= entry.hurry.deadline_ms:
                self._drop(entry, DEADLINE)
                continue
            entry.hurry = entry.hurry.after(waited_s)
            entry.is_running = True
            return entry
        return None

    def finish(self, entry: Entry, outcome: Any) -> None:
        """Ends a run, with its outputs or an error."""
        entry.is_running = False
        if isinstance(outcome, (DeadlineRefusedError, DeadlineExpiredError)):
            self._drop(entry, DEADLINE)
        elif isinstance(outcome, QueueFullError):
            self._drop(entry, QUEUE_FULL)
        else:
            entry.outcome = outcome
            entry.feeds = {}
            if isinstance(outcome, BaseException):
                self.counts.failed += 1
            else:
                self.counts.done += 1
        self._drop_unread()

    def abandon(self, entry: Entry) -> None:
        """Ends a run of which nobody will hear."""
        self._drop(entry, CLOSED)

    def take(self) -> StreamResult | None:
        """The next result, if it is there.

        Raises:
            EdgeRuntimeError: what that inference failed with; the one after it may be taken then.
        """
        if not self._line or self._line[0].outcome is None:
            return None
        entry = self._line.popleft()
        if isinstance(entry.outcome, BaseException):
            self._pass_on(entry.dropped_before)
            raise entry.outcome
        return StreamResult(entry.sequence, entry.outcome, dict(entry.dropped_before))

    def take_all(self) -> List[StreamResult]:
        """The results that are there, up to one that failed; raises as `take` does if that one is the first."""
        found: List[StreamResult] = []
        while not (found and self.fails_next):
            result = self.take()
            if result is None:
                break
            found.append(result)
        return found

    def end(self, drops_waiting: bool) -> None:
        """Says that no more is put; what waits runs yet, or is dropped."""
        self.is_ended = True
        for entry in list(self._line) if drops_waiting else ():
            if not entry.is_running and entry.outcome is None:
                self._drop(entry, CLOSED)

    def _drop_unread(self) -> None:
        """Bounds what nobody takes, unless `put` waits for that."""
        while self._policy != WAIT and len(self._line) > _MAX_UNREAD:
            done = next((entry for entry in self._line if entry.outcome is not None), None)
            if done is None:
                return
            if not isinstance(done.outcome, BaseException):
                self.counts.done -= 1
            self._drop(done, UNREAD)

    def _drop(self, entry: Entry, reason: str) -> None:
        self.counts.dropped[reason] = self.counts.dropped.get(reason, 0) + 1
        index = self._line.index(entry)
        del self._line[index]
        entry.dropped_before[reason] += 1
        self._pass_on(entry.dropped_before, index)

    def _pass_on(self, dropped: Counter[str], index: int = 0) -> None:
        """Lets what comes after the gap tell of it."""
        after = self._line[index].dropped_before if index < len(self._line) else self._dropped
        after.update(dropped)

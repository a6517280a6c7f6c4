"""The scheduler and the times that it plans with, for the threads that share them."""

from __future__ import annotations

import threading
from typing import List, Tuple

from edge_runtime.errors import DeadlineExpiredError, ServerUnavailableError
from edge_runtime.scheduling.lanes import Dispatch
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.scheduler import PATIENCE_NS, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

GivenUp = Tuple[Request, ServerUnavailableError]  # a request that won't run, and why


class Planner:
    """A `Scheduler` that any thread may call; `now_ns` is the time by the requests' clock."""

    def __init__(self, times: ServiceTimes, lanes: int, depth: int) -> None:
        self._times = times
        self._scheduler = Scheduler(times, lanes, depth, PATIENCE_NS)
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs in the lanes, and nothing waits for them."""
        with self._lock:
            return self._scheduler.is_idle

    def register(self, policy: ModelPolicy) -> None:
        """Makes a model known."""
        with self._lock:
            self._scheduler.register(policy)

    def remove(self, name: str) -> bool:
        """Forgets a model; False, and nothing is done, while it runs or requests of it wait."""
        with self._lock:
            return self._scheduler.remove(name)

    def waiting(self, name: str) -> int:
        """How many requests of a model wait."""
        with self._lock:
            return self._scheduler.waiting(name)

    def admit(self, request: Request, now_ns: int) -> Dispatch | None:
        """Takes a request in, and gives what may start now.

        Raises:
            ServerUnavailableError: it can't be taken in.
        """
        with self._lock:
            self._scheduler.admit(request, now_ns)
            return self._scheduler.next(now_ns)

    def finish(self, dispatch: Dispatch, now_ns: int, is_failed: bool) -> Tuple[List[Dispatch], List[GivenUp]]:
        """Takes note of the end of a run; gives what may start now, and what won't run."""
        with self._lock:
            self._scheduler.finish(dispatch, now_ns, failed=is_failed)
            expired = self._expired(now_ns)
            following = list(iter(lambda: self._scheduler.next(now_ns), None))
            return following, [*expired, *self._scheduler.take_refused(now_ns)]

    def withdraw(self, request: Request) -> bool:
        """Whether a request waited; it doesn't any more."""
        with self._lock:
            return self._scheduler.withdraw(request)

    def take_given_up(self, now_ns: int) -> List[GivenUp]:
        """Takes out and gives those whose deadline can't be kept any more, or that waited for a promise in vain."""
        with self._lock:
            return [*self._expired(now_ns), *self._scheduler.take_refused(now_ns)]

    def _expired(self, now_ns: int) -> List[GivenUp]:
        return [(request, expired()) for request in self._scheduler.take_expired(now_ns)]

    def next_expiry_ns(self) -> int | None:
        """When `take_given_up` should be called next at the latest."""
        with self._lock:
            return self._scheduler.next_expiry_ns()

    def close(self) -> List[Request]:
        """Admits nothing from here on and gives back all that wait; chains that have begun go on."""
        with self._lock:
            return self._scheduler.close()

    def worst_ns(self, name: str, rows: int) -> int:
        """What a run is planned with; 0 where nothing is known."""
        with self._lock:
            return self._times.worst_ns(name, 0, rows) or 0

    def observe(self, name: str, rows: int, ns: int) -> None:
        """Learns from a run that the scheduler didn't hand out."""
        with self._lock:
            self._times.observe(name, 0, rows, ns)

    def relearn(self) -> None:
        """Says that runs take another time from now on."""
        with self._lock:
            self._times.relearn()


def expired() -> DeadlineExpiredError:
    """Why a request that had been promised its deadline isn't run."""
    return DeadlineExpiredError("the deadline can't be kept any more; the request wasn't run")

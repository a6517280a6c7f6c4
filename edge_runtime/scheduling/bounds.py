"""What one client may have waiting, so that the others find room."""

from __future__ import annotations

from typing import Hashable, List, Mapping, Tuple

from edge_runtime.errors import DeadlineRefusedError, QueueFullError
from edge_runtime.scheduling.admission import SHORTEST_S
from edge_runtime.scheduling.job import Job, Model
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.shares import WINDOW_NS
from edge_runtime.scheduling.state import State


class Bounds:
    """Equal shares of a model's queue and of promised time, for the clients that want some of it.

    A client that is alone may have all of both. Those that want some are those of which something waits, and the last
    one that was turned away with less than its share, for a second. Nobody is promised less for that: who has more than
    its share gets no more, and the newest of what it was not promised gives its place up.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._displaced: List[Tuple[Request, QueueFullError]] = []

    def __bool__(self) -> bool:
        return bool(self._displaced)

    def concern(self, model: Model, client: Hashable, now_ns: int) -> bool:
        """Whether anybody else wants some of what `client` may have."""
        return len(model.clients) > (client in model.clients) or self._is_pressed(model, client, now_ns)

    def place_of(self, model: Model, request: Request, now_ns: int) -> Job | None:
        """Whose place in the queue a request must take; None if there is one free.

        Raises:
            QueueFullError: there is none for it.
        """
        client = request.client
        own, clients = model.clients.get(client, 0), self._count(model, client, now_ns)
        share = model.queue_size // clients
        if model.waiting < model.queue_size:
            if clients > 1 and own >= max(1, share):
                why = (
                    f"{own} requests of this client wait for model {model.name!r}, its share while others have no place"
                )
                raise _refused(model, request, why)
            return None
        if own < share:
            for other in over_share(model.clients, share):
                job = _newest(model, other)
                if job is not None:
                    return job
            self._press(model, client, now_ns)
        raise _refused(model, request, _full(model))

    def displace(self, job: Job, now_ns: int) -> None:
        """Takes a job out of the queue, for another one to have its place."""
        state, request = self._state, job.requests[0]
        state.backlog.remove(job, now_ns, state.active(now_ns))
        why = f"{_full(job.model)}, and this client has more of them than its share"
        self._displaced.append((request, _refused(job.model, request, why)))

    def check_promise(self, job: Job, now_ns: int) -> None:
        """Returns if a client that has been promised something already has room for another promise.

        Raises:
            DeadlineRefusedError: with what it was promised before, it would have more than its share of the time.
        """
        state, client = self._state, job.requests[0].client
        promised_ns = sum(
            [
                each.cost_ns
                for each in state.backlog.urgent.jobs
                if each.key < job.key and each.stream is None and each.requests[0].client == client
            ]
        )
        if not promised_ns:
            return
        clients = self._count(job.model, client, now_ns)
        share_ns = len(state.lanes.free) * (job.deadline_ns - now_ns) // clients
        more_ns = promised_ns + job.cost_ns - share_ns
        if more_ns > 0:
            raise DeadlineRefusedError(
                f"the deadline can't be promised: of the time until then {share_ns / 1e6:.3f} ms are this client's "
                f"share among {clients}, and it would have {more_ns / 1e6:.3f} ms more; ask again later",
                retry_after_s=max(SHORTEST_S, more_ns / 1e9),
            )

    def turned_away(self, job: Job, now_ns: int) -> None:
        """Takes note of a client that got no promise within its share, while others have something waiting."""
        client = job.requests[0].client
        if len(job.model.clients) > (client in job.model.clients):
            self._press(job.model, client, now_ns)

    def withdraw(self, request: Request) -> bool:
        """Whether a request was displaced and nobody was told yet; nobody will be."""
        left = [each for each in self._displaced if each[0] is not request]
        is_known = len(left) < len(self._displaced)
        self._displaced = left
        return is_known

    def take_displaced(self) -> List[Tuple[Request, QueueFullError]]:
        """Takes out and gives those that gave their place up, and why."""
        displaced, self._displaced = self._displaced, []
        return displaced

    def _press(self, model: Model, client: Hashable, now_ns: int) -> None:
        model.pressed_ns, model.pressed_by = now_ns, client

    def _is_pressed(self, model: Model, client: Hashable, now_ns: int) -> bool:
        return now_ns - model.pressed_ns < WINDOW_NS and model.pressed_by != client

    def _count(self, model: Model, client: Hashable, now_ns: int) -> int:
        """How many clients want some of a model."""
        is_further = self._is_pressed(model, client, now_ns) and model.pressed_by not in model.clients
        return len(model.clients) + (client not in model.clients) + is_further


def over_share(waiting: Mapping[Hashable, int], share: int) -> List[Hashable]:
    """The clients of which more than `share` requests wait, who has most first."""
    return sorted([each for each, count in waiting.items() if count > share], key=waiting.__getitem__, reverse=True)


def _newest(model: Model, client: Hashable) -> Job | None:
    """The newest request of a client that waits without a deadline, of the last rank that it has."""
    for rank in sorted(model.easy, reverse=True):
        job = model.easy[rank].newest(client)
        if job is not None:
            return job
    return None


def _refused(model: Model, request: Request, why: str) -> QueueFullError:
    return QueueFullError(
        f"{why}; try again later", retry_after_s=max(SHORTEST_S, model.typical_ns(request.rows) / 1e9)
    )


def _full(model: Model) -> str:
    return f"the queue of model {model.name!r} is full ({model.queue_size} requests waiting)"

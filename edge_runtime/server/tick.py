"""Short requests that came in one turn of the event loop, gathered so that all run before any is answered."""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Dict, Hashable, List, Sequence, Tuple

from edge_runtime.errors import DeadlineExpiredError, DeadlineRefusedError, QueueFullError
from edge_runtime.scheduling.bounds import over_share
from edge_runtime.scheduling.lanes import Dispatch
from edge_runtime.scheduling.request import Request
from edge_runtime.server.work import Work

Entry = Tuple[Work, Sequence[Request], "Dispatch | None"]


class Tick:
    """What the loop's thread runs next; `begin` is called when there is something where there was nothing.

    `cost_ns` is what a run of a model takes at worst, by its rows.

    An entry with a dispatch was handed out by a scheduler, and is taken out by running it only.
    """

    def __init__(self, begin: Callable[[], Any], cost_ns: Callable[[Work, int], int]) -> None:
        self._begin = begin
        self._cost_of = cost_ns
        self._entries: List[Entry] = []
        self._cost_ns = 0

    def waiting(self, name: str) -> int:
        """How many requests of a model wait here."""
        return sum(len(requests) for work, requests, dispatch in self._entries if work.name == name and not dispatch)

    def holds(self, name: str) -> bool:
        """Whether anything of a model is to run here."""
        return any(work.name == name for work, _, __ in self._entries)

    def gather(self, work: Work, request: Request, now_ns: int) -> Request | None:
        """Takes in a request; gives the one that had to give its place up for that.

        Raises:
            QueueFullError: too many wait, and its client has its share of them.
            DeadlineRefusedError: its deadline can't be kept, with what is to run before it.
            DeadlineExpiredError: its deadline has passed.
        """
        displaced, size = None, work.policy.queue_size
        if len(self._entries) >= size and self.waiting(work.name) >= size:
            displaced = self._newest_over_share(work, request.client)
            if displaced is None:
                raise QueueFullError(f"the queue is full ({size} requests waiting); try again later")
        cost_ns = self._cost_of(work, request.rows)
        if request.deadline_ns is not None:
            _check_deadline(request.deadline_ns - now_ns, self._cost_ns + cost_ns)
        if displaced is not None:
            self.remove(displaced)
        self._cost_ns += cost_ns
        self.put((work, (request,), None))
        return displaced

    def put(self, entry: Entry) -> None:
        """Takes in an entry."""
        self._entries.append(entry)
        if len(self._entries) == 1:
            self._begin()

    def put_back(self, entries: List[Entry]) -> None:
        """Takes back what isn't run in this turn; it comes first in the next."""
        self._entries[:0] = entries
        self._cost_ns += sum(self._cost_of(work, each.rows) for work, requests, _ in entries for each in requests)
        self._begin()

    def take(self, now_ns: int) -> Tuple[List[Entry], List[Request]]:
        """All of it, in the order in which it runs, and apart from it the requests whose deadline has passed."""
        until_ns = now_ns + self._cost_ns
        entries, self._entries, self._cost_ns = self._entries, [], 0
        late = [
            request
            for _, requests, dispatch in entries
            for request in requests
            if dispatch is None and request.deadline_ns is not None and request.deadline_ns <= now_ns
        ]
        if late:
            entries = [(work, [each for each in requests if each not in late], to) for work, requests, to in entries]
            entries = [entry for entry in entries if entry[1]]
        return (_arranged(entries, until_ns) if len(entries) > 1 else entries), late

    def remove(self, request: Request) -> bool:
        """Whether a request waited here; it doesn't any more."""
        for index, (work, requests, dispatch) in enumerate(self._entries):
            if dispatch is None and request in requests:
                left = [each for each in requests if each is not request]
                self._entries[index : index + 1] = [(work, left, None)] if left else []
                self._cost_ns = max(0, self._cost_ns - self._cost_of(work, request.rows))
                return True
        return False

    def _newest_over_share(self, work: Work, client: Hashable) -> Request | None:
        """The newest request without a deadline of who has most waiting, if `client` has less than its share."""
        waiting = [
            request
            for each, requests, dispatch in self._entries
            if each is work and dispatch is None
            for request in requests
        ]
        counts = Counter(request.client for request in waiting)
        share = work.policy.queue_size // (len(counts) + (client not in counts))
        for other in over_share(counts, share) if counts[client] < share else ():
            own = [request for request in waiting if request.client == other and request.deadline_ns is None]
            if own:
                return own[-1]
        return None

    def clear(self) -> List[Request]:
        """Takes out and gives the requests that wait here."""
        found = [request for _, requests, dispatch in self._entries if dispatch is None for request in requests]
        self._entries = [entry for entry in self._entries if entry[2] is not None]
        return found


def gave_way() -> QueueFullError:
    """Why a request has to come again that gave its place up."""
    return QueueFullError("the queue is full, and this client has more of it than its share; try again later")


def _check_deadline(left_ns: int, needed_ns: int) -> None:
    if left_ns <= 0:
        raise DeadlineExpiredError("the deadline passed before the request was whole")
    if left_ns < needed_ns:
        raise DeadlineRefusedError(
            f"the deadline can't be kept: {left_ns / 1e6:.3f} ms are left, {needed_ns / 1e6:.3f} ms are needed",
            (needed_ns - left_ns) / 1e9,
        )


def _arranged(entries: List[Entry], until_ns: int) -> List[Entry]:
    """The most urgent first, then by turns, and those that may share a run together; all take until `until_ns`."""
    if any(requests[0].deadline_ns is not None or requests[0].priority for _, requests, __ in entries):
        entries = sorted(entries, key=_urgency)
    client = entries[0][1][0].client
    if any(requests[0].client != client for _, requests, __ in entries):
        entries = _by_turns(entries, until_ns)
    if all(work.policy.max_batch < 2 for work, _, __ in entries):
        return entries
    arranged: List[Entry] = []
    open_groups: Dict[Tuple[str, Any], List[Request]] = {}
    for work, requests, dispatch in entries:
        first, limit = requests[0], min(work.policy.max_batch, work.inline_rows)
        if dispatch is not None or first.group is None or first.slot is not None or len(requests) > 1:
            arranged.append((work, requests, dispatch))
            continue
        key = (work.name, first.group)
        members = open_groups.get(key)
        if members is None or sum(each.rows for each in members) + first.rows > limit:
            members = open_groups[key] = []
            arranged.append((work, members, None))
        members.append(first)
    return arranged


def _by_turns(entries: List[Entry], until_ns: int) -> List[Entry]:
    """Clients in turn, behind what has a deadline that isn't kept in any order."""
    counts: Dict[Hashable, int] = {}
    turns: List[Tuple[float, int, int]] = []
    for index, (_, requests, __) in enumerate(entries):
        first = requests[0]
        turn = 0
        if first.deadline_ns is None or first.deadline_ns > until_ns:
            turn = counts[first.client] = counts.get(first.client, 0) + 1
        turns.append((first.priority or float("inf"), turn, index))
    return [entries[index] for *_, index in sorted(turns)]


def _urgency(entry: Entry) -> Tuple[float, float]:
    request = entry[1][0]
    priority = request.priority or float("inf")
    return priority, float("inf") if request.deadline_ns is None else request.deadline_ns

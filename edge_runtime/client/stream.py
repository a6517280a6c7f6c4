"""Streams of inferences, on threads: as many under way as may, results in order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List

import numpy.typing as npt

from edge_runtime.client.request import Hurry
from edge_runtime.client.stream_line import Entry, StreamCounts, StreamLine, StreamResult
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.tensors import Feeds

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edge_runtime.client.request import HurryOptions

Arrays = Dict[str, npt.NDArray[Any]]


class Stream(Iterator[StreamResult]):
    """Takes inputs by `put` and gives results in the order of their inputs, by iteration; any threads may do either.

    What is dropped is told by the next result, and counted. What fails otherwise is raised by the iteration in its
    turn, which may go on after it. The iteration ends after `end` or `close`, once all has been taken. A single thread
    takes what is `ready` after each `put`. Without a reader, `put` waits after 64 results where the policy is `wait`;
    else the oldest of them are dropped.
    """

    def __init__(self, infer: Callable[[Feeds, Hurry], Arrays], line: StreamLine) -> None:
        self._infer = infer
        self._line = line
        self._changed = threading.Condition()
        self._threads: List[threading.Thread] = []

    @property
    def counts(self) -> StreamCounts:
        """What has become of all that was put in, so far."""
        return self._line.counts

    def put(self, feeds: Feeds, **hurry: Unpack[HurryOptions]) -> int:
        """Lets inputs in; their sequence number. The arrays must not change until their result is there.

        `deadline_ms` counts from now on, and `priority` is that of the server's queue.

        Raises:
            InvalidRequestError: no such deadline or priority.
            ServerUnavailableError: the stream was ended.
        """
        wanted = Hurry(**hurry)
        with self._changed:
            self._changed.wait_for(lambda: self._line.has_room or self._line.is_ended)
            if self._line.is_ended:
                raise ServerUnavailableError("this stream was ended; make a new one")
            sequence = self._line.put(feeds, wanted)
            if len(self._threads) < self._line.in_flight:
                self._threads.append(threading.Thread(target=self._work, name="stream", daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()
        return sequence

    def __next__(self) -> StreamResult:
        with self._changed:
            while True:
                result = self._taken()
                if result is not None:
                    return result
                if self._line.is_over:
                    raise StopIteration
                self._changed.wait()

    def ready(self) -> List[StreamResult]:
        """The results that are there now, in order, without waiting; raises as the iteration does."""
        with self._changed:
            self._changed.notify_all()
            return self._line.take_all()

    def end(self) -> None:
        """Says that no more is put: the iteration ends after the last result. Idempotent."""
        with self._changed:
            self._line.end(drops_waiting=False)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the stream, drops what waits, and returns when what is under way is over; idempotent."""
        with self._changed:
            self._line.end(drops_waiting=True)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _taken(self) -> StreamResult | None:
        if self._line.fails_next:
            self._changed.notify_all()
        result = self._line.take()
        if result is not None:
            self._changed.notify_all()
        return result

    def _work(self) -> None:
        while True:
            with self._changed:
                entry = self._line.next()
                while entry is None:
                    if self._line.is_ended and not self._line.has_waiting:
                        self._changed.notify_all()
                        return
                    self._changed.wait()
                    entry = self._line.next()
            outcome = self._outcome(entry)
            with self._changed:
                self._line.finish(entry, outcome)
                self._changed.notify_all()

    def _outcome(self, entry: Entry) -> Any:
        try:
            return self._infer(entry.feeds, entry.hurry)
        except Exception as error:  # noqa: BLE001  (the top frame of this thread: whoever reads the stream must hear of it)
            return error

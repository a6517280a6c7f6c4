"""The threads of an accelerator's lanes."""

from __future__ import annotations

import queue
import threading
import time
from typing import Callable, List

from edge_runtime.scheduling.lanes import Dispatch

Follow = Callable[[Dispatch], List[Dispatch]]


class LaneThreads:
    """Threads that run what is handed over; `run` gives what may start then, the first of it in the same thread."""

    def __init__(self, count: int, run: Follow) -> None:
        self._run = run
        self._handed_over: queue.SimpleQueue[Dispatch | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"lane-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def put(self, dispatch: Dispatch) -> None:
        """Hands a dispatch over; any thread may call it."""
        self._handed_over.put(dispatch)

    def close(self, timeout_s: float) -> bool:
        """Ends the threads behind what was handed over; False if one still runs after `timeout_s`."""
        for _ in self._threads:
            self._handed_over.put(None)
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while True:
            dispatch = self._handed_over.get()
            if dispatch is None:
                return
            following = [dispatch]
            while following:
                first, *others = following
                for other in others:
                    self._handed_over.put(other)
                following = self._run(first)

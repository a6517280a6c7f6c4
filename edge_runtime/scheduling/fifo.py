"""First come, first served, with a bounded queue."""

from __future__ import annotations

from collections import deque
from typing import Deque

from edge_runtime.errors import QueueFullError, ServerUnavailableError
from edge_runtime.scheduling.request import Request


class FirstComeQueue:
    """Requests of one model in the order of their arrival. Not thread-safe: its owner holds a lock."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: Deque[Request] = deque()
        self._is_open = True

    def __len__(self) -> int:
        return len(self._waiting)

    def admit(self, request: Request) -> None:
        """Takes a request in.

        Raises:
            QueueFullError: as many wait as may wait.
            ServerUnavailableError: the queue is closed for draining.
        """
        if not self._is_open:
            raise ServerUnavailableError("the server is shutting down; ask another one, or again later")
        if len(self._waiting) >= self._capacity:
            raise QueueFullError(f"the queue is full ({self._capacity} requests waiting); try again later")
        self._waiting.append(request)

    def next(self) -> Request | None:
        """The request that runs next, or None."""
        return self._waiting.popleft() if self._waiting else None

    def withdraw(self, request: Request) -> bool:
        """Takes a request out that nobody waits for any more; False if it doesn't wait here."""
        try:
            self._waiting.remove(request)
        except ValueError:
            return False
        return True

    def close(self) -> None:
        """Admits nothing from here on; what waits may still run."""
        self._is_open = False

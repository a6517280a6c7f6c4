"""Jobs that wait, in their order."""

from __future__ import annotations

from bisect import bisect_left
from typing import List

from edge_runtime.scheduling.job import Job, Key


class Line:
    """Jobs sorted by key; both lists may be read by whoever holds it."""

    __slots__ = ("jobs", "keys")

    def __init__(self) -> None:
        self.keys: List[Key] = []
        self.jobs: List[Job] = []

    def add(self, job: Job) -> None:
        """Puts a job in its place."""
        key = job.key
        if not self.keys or key > self.keys[-1]:
            self.keys.append(key)
            self.jobs.append(job)
            return
        place = bisect_left(self.keys, key)
        self.keys.insert(place, key)
        self.jobs.insert(place, job)

    def remove(self, job: Job) -> None:
        """Takes out a job that is in it."""
        place = bisect_left(self.keys, job.key)
        del self.keys[place]
        del self.jobs[place]

    def with_job(self, *jobs: Job) -> List[Job]:
        """All that are in it, and successive further ones in the place of the last."""
        place = bisect_left(self.keys, jobs[-1].key)
        return [*self.jobs[:place], *jobs, *self.jobs[place:]]

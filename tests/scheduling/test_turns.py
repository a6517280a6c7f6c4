"""In which order clients take turns."""

from __future__ import annotations

import weakref

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.turns import Turns


class Waiting:
    def __init__(self, client, cost_ns=1):
        request = Request("m", {}, dict, print, 0, 1)
        request.client = client
        self.requests, self.cost_ns = (request,), cost_ns


STEPS = st.lists(st.tuples(st.sampled_from(["add", "serve", "drop"]), st.integers(0, 5), st.integers(1, 50)))


def played(steps):
    """The turns, what waits by age, what went in the step and whether it was served; after each step."""
    turns, waiting = Turns(), []
    for step, client, cost_ns in steps:
        gone = None
        if step == "add":
            waiting.append(Waiting(client, cost_ns))
            turns.add(waiting[-1])
        elif waiting:
            gone = turns.first if step == "serve" else waiting[client % len(waiting)]
            waiting.remove(gone)
            turns.remove(gone, gone.cost_ns if step == "serve" else 0)
        yield turns, waiting, gone, step == "serve"


@given(steps=STEPS)
@settings(deadline=None)
def test_the_first_is_always_the_first_of_the_order(steps):
    for turns, waiting, *_ in played(steps):
        order = list(turns)
        assert sorted(map(id, order)) == sorted(map(id, waiting))
        assert turns.first is (order[0] if order else None)


@given(steps=STEPS)
@settings(deadline=None)
def test_the_first_of_a_client_waits_for_no_more_others_than_were_waiting_when_it_became_that(steps):
    bounds = {}
    for _, waiting, gone, is_served in played(steps):
        if gone is not None:
            bounds = {each: (job, bound - is_served) for each, (job, bound) in bounds.items() if job is not gone}
        clients = {job.requests[0].client: job for job in reversed(waiting)}  # and the first of each
        if len(clients) < 2:
            clients, bounds = {}, {}
        for each, first in clients.items():
            bounds.setdefault(each, (first, len(waiting)))
        assert all(bound > -len(clients) for _, bound in bounds.values())  # the others' firsts may be due as well


def test_nothing_is_kept_of_jobs_that_are_gone_while_others_wait():
    turns, jobs = Turns(), [Waiting(client) for client in "aaabc"]
    for job in jobs:
        turns.add(job)
    for job in (jobs[3], jobs[4], jobs[0]):
        turns.remove(job, 1)
    gone = [weakref.ref(job) for job in (jobs.pop(4), jobs.pop(3), jobs.pop(0))]
    del job
    assert [each() for each in gone] == [None] * 3

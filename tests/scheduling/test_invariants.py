"""Whatever happens, in whatever order: nothing is lost, nothing is given out twice, and no limit is passed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import ServerUnavailableError
from edge_runtime.scheduling.request import Period, Request
from edge_runtime.scheduling.scheduler import ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

SLOTS = {"a": 1, "b": 2, "chain": 3}
QUEUE = 4
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("admit"),
            st.sampled_from(sorted(SLOTS)),
            st.one_of(st.none(), st.integers(1, 150)),
            st.sampled_from([0, 0, 1, 2]),
            st.sampled_from([None, None, "g", "stream"]),
            st.sampled_from("aaab"),
        ),
        st.tuples(st.sampled_from(["next", "next", "finish", "fail", "withdraw", "expire", "relearn"])),
    ),
    max_size=120,
)


class Ledger:
    """A scheduler, all that happened to each request, and the limits that must hold after each step."""

    def __init__(self, lanes: int, depth: int, patience_ns: int = 0) -> None:
        self.times = ServiceTimes(margin=0)
        self.scheduler = Scheduler(self.times, lanes, depth, patience_ns)
        self.depth, self.now = depth, 0
        for name, slots in SLOTS.items():
            self.scheduler.register(ModelPolicy(name, slots, QUEUE, 3, 2 if name == "chain" else 1))
            for segment in range(2):
                self.times.seed(name, segment, 1, 10)
        self.waiting, self.out, self.begun, self.given = [], [], [], Counter()

    def step(self, kind, *details):
        self.now += 3
        getattr(self, kind)(*details)
        assert self.scheduler.waiting() == len(self.waiting)
        for name, slots in SLOTS.items():
            assert self.scheduler.waiting(name) <= QUEUE + 1  # one may be undecided
            assert sum(each.model == name for each in (*self.out, *self.begun)) <= slots
        assert len(self.out) <= self.depth

    def admit(self, model, due, priority, kind, client):
        request = Request(model, {}, dict, print, self.now)
        request.deadline_ns = None if due is None else self.now + due
        request.client = client
        request.priority, request.group = priority, kind if kind == "g" else None
        request.stream = Period(model, 60, 60) if kind == "stream" else None
        try:
            self.scheduler.admit(request, self.now)
        except ServerUnavailableError:
            return
        self.waiting.append(request)
        self.take([request for request, _ in self.scheduler.take_refused(self.now)])  # who gave a place up

    def next(self):
        dispatch = self.scheduler.next(self.now)
        if dispatch is None:
            return
        if dispatch.segment:
            before = next(each for each in self.begun if each.requests == dispatch.requests)
            self.begun.remove(before)
        else:
            self.take(dispatch.requests)
            assert len({each.group for each in dispatch.requests}) == 1
            assert dispatch.rows == len(dispatch.requests) <= 3
        self.out.append(dispatch)

    def finish(self, failed=False):
        if self.out:
            dispatch = self.out.pop(0)
            self.scheduler.finish(dispatch, self.now, failed)
            if dispatch.model == "chain" and dispatch.segment == 0 and not failed:
                self.begun.append(dispatch)

    def fail(self):
        self.finish(failed=True)

    def withdraw(self):
        if self.waiting:
            request = self.waiting[len(self.waiting) // 2]
            assert self.scheduler.withdraw(request)
            self.take([request])
            assert not self.scheduler.withdraw(request)

    def expire(self):
        at = self.scheduler.next_expiry_ns()
        refused = [request for request, _ in self.scheduler.take_refused(self.now)]
        expired = self.scheduler.take_expired(self.now)
        assert not (refused or expired) or at <= self.now
        self.take([*refused, *expired])

    def relearn(self):
        self.times.relearn()

    def take(self, requests):
        self.given.update(requests)
        for request in requests:
            self.waiting.remove(request)


@given(steps=STEPS, lanes=st.integers(1, 3), beyond=st.integers(0, 1), patience=st.sampled_from([0, 12, 1000]))
@settings(max_examples=300, deadline=None)
def test_every_request_is_given_out_once_and_no_limit_is_passed(steps, lanes, beyond, patience):
    ledger = Ledger(lanes, lanes + beyond, patience)
    for step in steps:
        ledger.step(*step)
    ledger.take(ledger.scheduler.close())
    assert not ledger.waiting
    assert all(count == 1 for count in ledger.given.values())
    while ledger.out or ledger.begun:  # chains that have begun run to their end
        ledger.step("next")
        ledger.step("finish")
    assert ledger.scheduler.next(ledger.now) is None


@given(requests=st.lists(st.tuples(st.integers(1, 5000), st.sampled_from([0, 1, 2])), min_size=1, max_size=12))
@settings(deadline=None)
def test_what_waits_starts_by_priority_and_then_by_deadline(requests):
    times = ServiceTimes()
    scheduler = Scheduler(times, 1)
    scheduler.register(ModelPolicy("m", 4, 99))
    for due, priority in requests:
        request = Request("m", {}, dict, print, 0)
        request.deadline_ns, request.priority = due, priority
        scheduler.admit(request, 0)
    order = []
    for _ in requests:
        dispatch = scheduler.next(0)
        order.append((dispatch.requests[0].priority or 9, dispatch.requests[0].deadline_ns))
        scheduler.finish(dispatch, 0)
    assert order == sorted(order)


@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
def test_a_lane_is_never_idle_while_something_may_start(steps):
    ledger = Ledger(1, 1)
    for step in steps:
        ledger.step(*step)
        ledger.step("next")
        has_work = bool(ledger.waiting or ledger.begun)
        assert ledger.out or not has_work


def test_the_next_expiry_is_told_by_what_runs_take_now():
    """Found by the property above: the run that ended taught a longer time, by which a deadline can't be kept."""
    ledger = Ledger(1, 1)
    for stream in (None, None, "stream", None, None, None):
        ledger.step("admit", "a", None, 0, stream, "a")
    for kind in ("next",) * 5:
        ledger.step(kind)
    ledger.step("admit", "a", None, 0, None, "a")
    for kind in ("next", "next", "finish", "expire"):
        ledger.step(kind)
    assert ledger.given

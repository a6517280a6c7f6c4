"""What is taken in is answered in time, as long as no run takes longer than it was planned with."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import QueueFullError
from edge_runtime.scheduling.request import Period, Request
from edge_runtime.scheduling.scheduler import ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

MODELS = {"a": (4, 3), "b": (9, 2), "c": (20, 8)}  # the time of a run: so much, and so much more for each row
CHAINS = {"d": (6, 5, 7)}
SCALE = 1000


def worst(model, segment, rows):
    if model in CHAINS:
        return CHAINS[model][segment]
    return MODELS[model][0] + MODELS[model][1] * rows


def scheduler(lanes=1, depth=None, max_batch=4, slots=4, scale=1, patience_ns=0):
    times = ServiceTimes(margin=0)
    made = Scheduler(times, lanes, depth, patience_ns)
    for name in (*MODELS, *CHAINS):
        segments = len(CHAINS.get(name, "1"))
        made.register(
            ModelPolicy(name, slots if name in MODELS else 40, 8, max_batch if name in MODELS else 0, segments)
        )
        for segment in range(segments):
            for rows in range(1, max_batch + 1):
                times.seed(name, segment, rows, worst(name, segment, rows) * scale)
    times.observe = lambda *_: None
    return made


REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 25),  # since the one before
        st.sampled_from("abcd"),
        st.integers(1, 2),  # rows
        st.one_of(st.none(), st.integers(5, 200)),  # deadline
        st.sampled_from([0, 0, 0, 1, 2]),  # priority
        st.booleans(),  # may share a run
    ),
    min_size=1,
    max_size=60,
)


def requests_of(drawn, scale=1):
    now, requests = 0, []
    for gap, model, rows, deadline, priority, is_shared in drawn:
        now += gap
        at = now * scale + scale // 2
        request = Request(model, {}, dict, print, at, rows if model in MODELS else 1)
        request.deadline_ns = None if deadline is None else at + deadline * scale
        request.priority = priority
        request.group = "any" if is_shared else None
        requests.append(request)
    return requests


@pytest.mark.parametrize(("lanes", "depth"), [(1, 1), (1, 2), (2, 2), (3, 4)])
@given(drawn=REQUESTS, seed=st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_nobody_who_was_taken_in_misses(play, lanes, depth, drawn, seed):
    rng, patience = random.Random(seed), (0, 15, 1000)[seed % 3]

    def duration(dispatch):
        longest = worst(dispatch.model, dispatch.segment, dispatch.rows)
        return rng.choice((longest, rng.randint(1, longest)))

    segments = {name: len(each) for name, each in CHAINS.items()}
    trace = play(scheduler(lanes, depth, patience_ns=patience), requests_of(drawn), lanes, duration, segments)
    assert not trace.missed()
    for each in trace.outcomes.values():
        assert each.refused_ns is None or each.refused_ns <= each.request.arrival_ns + patience
    assert all((each.refused_ns is None) is (each.answered_ns is not None) for each in trace.outcomes.values())


STREAMS = st.lists(
    st.tuples(
        st.sampled_from("abd"), st.integers(20, 120), st.integers(0, 100), st.lists(st.integers(0, 30), max_size=12)
    ),
    min_size=1,
    max_size=4,
)


def stream_requests(drawn):
    """The requests of each stream: at least its period apart, due within its deadline."""
    requests = []
    for key, (model, period, slack, gaps) in enumerate(drawn):
        declared = Period(key, period * SCALE, (max(20, period - slack)) * SCALE)
        now = key
        for gap in gaps:
            request = Request(model, {}, dict, print, now * SCALE)
            request.stream = declared
            request.deadline_ns = now * SCALE + declared.deadline_ns
            requests.append(request)
            now += period + gap
    return requests


@pytest.mark.parametrize(("lanes", "depth"), [(1, 1), (1, 2), (2, 2)])
@given(streams=STREAMS, others=REQUESTS, seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_a_declared_stream_is_never_refused_again_and_misses_nothing(play, lanes, depth, streams, others, seed):
    rng = random.Random(seed)

    def duration(dispatch):
        longest = worst(dispatch.model, dispatch.segment, dispatch.rows) * SCALE
        return rng.choice((longest, rng.randint(1, longest)))

    requests = sorted([*stream_requests(streams), *requests_of(others, SCALE)], key=lambda each: each.arrival_ns)
    segments = {name: len(each) for name, each in CHAINS.items()}
    trace = play(
        scheduler(lanes, depth, scale=SCALE, patience_ns=40 * SCALE * (seed % 2)), requests, lanes, duration, segments
    )
    assert not [each for each in trace.missed() if each.request.stream is not None or lanes == 1]
    declared = set()
    for each in trace.outcomes.values():
        if each.request.stream is not None:
            if each.request.stream.key in declared and not isinstance(each.error, QueueFullError):
                assert each.is_accepted
            declared.update([each.request.stream.key] if each.is_accepted else [])

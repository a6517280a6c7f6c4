"""What `benchmarks/deadlines.py` measures with: the virtual accelerator, its policies, traces and bars."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.scheduling.request import Request

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def module():
    """Imports a module of the benchmark by its name."""

    def load(name):
        sys.path.insert(0, str(BENCHMARKS))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(BENCHMARKS))

    return load


def request(at, due, model="m"):
    made = Request(model, {}, dict, print, at)
    made.deadline_ns = None if due is None else at + due
    return made


def play(module, policy, requests, ns=10):
    scheduler = getattr(module("deadline_policies"), policy)({"m": 0, "batched": 4})
    return module("virtual_accelerator").VirtualAccelerator(scheduler, 1, lambda dispatch: ns).run(requests)


def test_plain_edf_runs_the_earliest_first_and_everything(module):
    requests = [request(0, 100), request(1, 50), request(1, 12)]
    trace = play(module, "EarliestFirst", requests)
    assert [trace.outcomes[each].answered_ns for each in requests] == [10, 30, 20]
    assert [each.request for each in trace.missed()] == [requests[2]]


def test_a_timeout_is_noticed_when_a_request_reaches_the_head(module):
    requests = [request(0, 15), request(1, 10), request(2, 5), request(3, None)]
    trace = play(module, "FirstCome", requests)
    assert [trace.outcomes[each].answered_ns for each in requests] == [10, 20, None, 30]
    assert trace.outcomes[requests[2]].expired_ns == 20
    assert not trace.outcomes[requests[1]].is_in_time


@pytest.mark.parametrize("policy", ["EarliestFirst", "FirstCome"])
def test_both_share_runs(module, policy):
    requests = [request(0, 100, "batched")] + [request(1, 100, "batched") for _ in range(6)]
    trace = play(module, policy, requests)
    assert [len(dispatch.requests) for dispatch, _, __ in trace.runs] == [1, 4, 2]


def test_the_accelerator_runs_as_many_at_once_as_it_has_lanes(module):
    class Eager(module("deadline_policies").EarliestFirst):
        def run(self, members, now_ns):
            run = super().run(members, now_ns)
            self._is_free = True
            return run

    accelerator = module("virtual_accelerator").VirtualAccelerator(Eager({"m": 0}), 2, lambda dispatch: 10)
    trace = accelerator.run([request(0, 100) for _ in range(3)])
    assert sorted((start, end) for _, start, end in trace.runs) == [(0, 10), (0, 10), (10, 20)]


def test_ours_keeps_nearly_what_a_clairvoyant_would(module):
    mixes, accelerator = module("deadline_mixes"), module("virtual_accelerator").VirtualAccelerator
    most = kept = 0
    for seed in range(40):
        mix = mixes.Mix(mixes.MIXES["medium, 5-10 C"], 0.9, 10, seed)
        requests = mix.requests[:10]
        jobs = [(each.arrival_ns, mix.alone_ns(each), each.deadline_ns) for each in requests]
        most += module("clairvoyant").most_in_time(jobs)
        trace = accelerator(mix.scheduler(), 1, mix.duration_ns).run(requests)
        assert not trace.missed()
        kept += sum(each.is_in_time for each in trace.outcomes.values())
    assert 0.95 * most <= kept <= most


JOBS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.integers(1, 40)), max_size=5)


@given(jobs=JOBS)
@settings(deadline=None)
def test_the_clairvoyant_keeps_as_many_as_the_best_of_all_orders(module, jobs):
    def kept(order):
        free = 0
        for arrival, duration, deadline in order:
            free = max(free, arrival) + duration
            if free > deadline:
                return 0
        return len(order)

    orders = itertools.chain.from_iterable(itertools.permutations(jobs, size) for size in range(len(jobs) + 1))
    assert module("clairvoyant").most_in_time(jobs) == max(map(kept, orders))


@pytest.mark.parametrize("load", [0.5, 0.9])
def test_every_mix_offers_the_load_that_it_is_asked_for(module, load):
    mixes = module("deadline_mixes")
    for name, sources in mixes.MIXES.items():
        mix = mixes.Mix(sources, load, 3000, seed=1)
        offered = sum(mix.sources[each.model].cost_ms for each in mix.requests) / mix.span_ms
        assert offered == pytest.approx(load, rel=0.1), name
        assert [each.arrival_ns for each in mix.requests] == sorted(each.arrival_ns for each in mix.requests)


def test_a_trace_is_the_same_for_the_same_seed(module):
    mixes = module("deadline_mixes")
    first, again, other = (mixes.Mix(mixes.MIXES["robot"], 0.7, 200, seed) for seed in (3, 3, 4))
    times = [[(each.arrival_ns, mix.alone_ns(each)) for each in mix.requests] for mix in (first, again, other)]
    assert times[0] == times[1] != times[2]


def test_nothing_that_ours_takes_in_misses_and_the_bars_see_it(module):
    benchmark = module("deadlines")
    results = benchmark.play("loose, 20-50 C", 300, 0)
    bars = benchmark.judge("loose, 20-50 C", results)
    assert [bar.verdict for bar in bars[:2]] == ["pass", "pass"]
    assert all(each.missed == 0 for each in results if each.policy == "ours")
    assert any(each.missed for each in results if each.policy == "EDF")
    broken = [each if each.load > 0.5 else benchmark.dataclasses.replace(each, missed=1) for each in results]
    assert benchmark.judge("loose, 20-50 C", broken)[0].verdict == "fail"


def test_a_refusal_that_had_to_be_is_told_from_a_needless_one(module):
    mixes, hindsight = module("deadline_mixes"), module("deadline_hindsight")
    mix = mixes.Mix(mixes.MIXES["medium, 5-10 C"], 0.5, 10, 0)
    watched = hindsight.Watched(mix.scheduler(), mix)
    hopeless, tight = request(0, 2 * mixes.MS, "m2"), request(0, int(2.41 * mixes.MS), "m2")
    for each in (hopeless, tight):
        with pytest.raises(hindsight.DeadlineRefusedError):
            watched.admit(each, 0)
    assert watched.had_to == {hopeless}

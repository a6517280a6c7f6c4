"""One model's flood and another's few requests, played for seconds of virtual time."""

from __future__ import annotations

import random

import pytest

from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.scheduler import ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

MS = 1_000_000
SPAN_MS = 12_000


def trace(seed, **sources):
    """Poisson arrivals; for each model its run in ms, its load, and the range of its deadlines in ms or None."""
    rng, requests = random.Random(seed), []
    for model, (run_ms, load, due_ms) in sources.items():
        at = rng.expovariate(load / run_ms)
        while at < SPAN_MS:
            request = Request(model, {}, dict, print, int(at * MS))
            if due_ms is not None:
                request.deadline_ns = request.arrival_ns + int(rng.uniform(*due_ms) * MS)
            requests.append(request)
            at += rng.expovariate(load / run_ms)
    return sorted(requests, key=lambda request: request.arrival_ns)


def played(play, requests, **runs_ms):
    times = ServiceTimes()
    scheduler = Scheduler(times, 1)
    for model, ms in runs_ms.items():
        scheduler.register(ModelPolicy(model, 4, 256))
        times.seed(model, 0, 1, ms * MS)
    return play(scheduler, requests, 1, lambda dispatch: runs_ms[dispatch.model] * MS).outcomes.values()


@pytest.mark.parametrize("due_ms", [(25, 50), (100, 250)])
def test_a_flood_of_another_model_refuses_few_of_one_that_asks_for_little(play, due_ms):
    outcomes = played(play, trace(1, flood=(5, 2.0, due_ms), few=(5, 0.1, (25, 50))), flood=5, few=5)
    few = [each for each in outcomes if each.request.model == "few"]
    assert len(few) > 150
    assert sum(not each.is_accepted for each in few) <= 0.025 * len(
        few
    )  # the flood is known for what it is after a tenth of a second


def test_the_lane_is_kept_busy_with_what_is_left(play):
    outcomes = played(play, trace(2, flood=(5, 2.0, (25, 50)), few=(5, 0.1, (25, 50))), flood=5, few=5)
    assert sum(each.is_in_time for each in outcomes) * 5 >= 0.93 * SPAN_MS


@pytest.mark.parametrize("due_ms", [(15, 20), (25, 50), (100, 250)])
@pytest.mark.parametrize("run_ms", [5, 20])
def test_a_flood_with_deadlines_doesnt_starve_a_model_without(play, due_ms, run_ms):
    outcomes = played(play, trace(3, flood=(5, 2.0, due_ms), few=(run_ms, 0.1, None)), flood=5, few=run_ms)
    few = [each for each in outcomes if each.request.model == "few"]
    waits_ms = sorted((each.started_ns - each.request.arrival_ns) / MS for each in few)
    assert waits_ms[len(waits_ms) // 2] < 500


def test_nothing_is_held_free_while_the_lanes_are_equal_to_all(play):
    requests = trace(4, one=(5, 0.4, (40, 80)), two=(5, 0.3, (40, 80)))
    assert all(each.is_in_time for each in played(play, requests, one=5, two=5))


def test_at_overload_models_that_ask_alike_are_served_alike(play):
    requests = trace(5, small=(2, 0.75, (40, 100)), large=(8, 0.75, (160, 400)))
    outcomes = played(play, requests, small=2, large=8)
    busy = {
        model: sum(each.is_in_time for each in outcomes if each.request.model == model) * ms / SPAN_MS
        for model, ms in (("small", 2), ("large", 8))
    }
    assert 0.4 < busy["small"] < 0.6
    assert 0.4 < busy["large"] < 0.6

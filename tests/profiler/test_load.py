from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.profiler.load import Load, run_load
from edge_runtime.profiler.stages import ARRIVAL, END, READY, START, WAITED

MS = 1_000_000


class Served:
    """A call that takes so long on a clock of its own, which waiting moves too."""

    def __init__(self, service_ms=2.0, late_ms=0.0):
        self.now_ns = 0
        self.service_ms = service_ms
        self.late_ns = round(late_ms * MS)
        self.count = 0

    def clock(self):
        return self.now_ns

    def wait(self, seconds):
        self.now_ns += round(seconds * 1e9) + self.late_ns

    def __call__(self, stamps, at):
        stamps[at + START] = self.now_ns
        took = self.service_ms(self.count) if callable(self.service_ms) else self.service_ms
        self.count += 1
        self.now_ns += round(took * MS)
        stamps[at + START + 1 : at + END + 1] = type(stamps)("q", [self.now_ns] * (END - START))

    def run(self, load):
        return run_load(self, load, clock=self.clock, wait=self.wait)


def test_a_closed_loop_makes_n_calls_one_after_another():
    times = Served().run(Load(5))
    assert times.calls.latency_ns.tolist() == [2 * MS] * 5
    assert (times.elapsed_ns, times.offered, times.is_overloaded) == (10 * MS, 5, False)
    assert not times.calls.queued_ns.any()


@pytest.mark.parametrize(("duration_s", "calls"), [(0.009, 5), (0.010, 5), (0.0101, 6), (1e-9, 1)])
def test_a_duration_takes_the_place_of_n(duration_s, calls):
    assert len(Served().run(Load(1, duration_s=duration_s)).calls) == calls


def test_more_calls_than_a_chunk_holds_are_all_kept():
    times = Served(1.0).run(Load(10_000))
    assert (np.diff(times.calls.stamps[:, ARRIVAL]) == MS).all()


def test_arrivals_are_a_poisson_process_of_the_seed():
    first, again, other = (np.array(Load(20_000, rate_per_s=100.0, seed=seed).arrivals_ns()) for seed in (3, 3, 4))
    gaps_s = np.diff(first) / 1e9
    assert (first == again).all()
    assert (first != other).any()
    assert gaps_s.mean() == pytest.approx(0.01, rel=0.05)
    assert gaps_s.std() == pytest.approx(0.01, rel=0.05)


def test_arrivals_fill_the_duration_and_end_with_it():
    due = np.array(Load(1, duration_s=30.0, rate_per_s=50.0).arrivals_ns())
    assert due[-1] < 30e9
    assert 1300 < len(due) < 1700


def test_latency_counts_from_the_arrival_so_that_a_stall_is_not_omitted():
    served = Served(lambda number: 500.0 if number == 10 else 1.0)
    calls = served.run(Load(200, rate_per_s=100.0)).calls
    assert calls.latency_ns[10] >= 500 * MS
    behind = calls.latency_ns[11:40]
    assert (behind[:-1] >= behind[1:] - 1 * MS).all()
    assert behind[0] > 400 * MS
    assert (calls.service_ns[11:] == MS).all()
    assert (calls.queued_ns + calls.late_ns + calls.service_ns == calls.latency_ns).all()


def test_a_late_generator_is_told_apart_from_a_queue():
    calls = Served(1.0, late_ms=0.25).run(Load(100, rate_per_s=10.0)).calls
    idle = calls.queued_ns == 0
    assert (calls.late_ns[idle] == MS // 4).all()
    assert idle.sum() > 90


def test_calls_that_come_faster_than_they_are_answered_end_the_load():
    times = Served(10.0).run(Load(100_000, rate_per_s=1000.0))
    assert times.is_overloaded
    assert len(times.calls) < 200
    assert len(times.calls) < times.offered < 100_000
    assert times.capacity_per_s(1) == pytest.approx(100)


def test_a_long_stall_below_the_capacity_ends_nothing():
    served = Served(lambda number: 3000.0 if number == 100 else 1.0)
    times = served.run(Load(10_000, rate_per_s=500.0))
    assert (times.is_overloaded, len(times.calls)) == (False, 10_000)


@pytest.mark.parametrize("rate_per_s", [None, 1e6])
def test_callers_run_at_the_same_time_and_share_n(rate_per_s):
    together = threading.Barrier(4, timeout=10)

    def call(stamps, at):
        stamps[at + START] = time.perf_counter_ns()
        together.wait()
        stamps[at + END] = time.perf_counter_ns()

    calls = run_load(call, Load(8, 4, rate_per_s=rate_per_s)).calls
    assert len(calls) == 8
    assert (np.diff(calls.stamps[:, ARRIVAL]) >= 0).all()


@pytest.mark.parametrize("rate_per_s", [None, 1e5])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_first_error_ends_the_load(concurrency, rate_per_s):
    made = []

    def fail_at_the_tenth(stamps, at):
        made.append(1)
        if len(made) >= 10:
            raise OSError("made up")
        stamps[at + START] = stamps[at + END] = time.perf_counter_ns()

    with pytest.raises(OSError, match="made up"):
        run_load(fail_at_the_tenth, Load(10_000, concurrency, rate_per_s=rate_per_s))
    assert len(made) < 10 + concurrency


def test_a_wait_for_a_core_is_of_one_call_or_unknown():
    waited = Served().run(Load(20)).calls.stamps[:, WAITED]
    assert ((waited >= 0) & (waited < 10**9)).all() or (waited == -1).all()


def test_a_caller_is_ready_before_it_starts():
    stamps = Served().run(Load(50, rate_per_s=400.0)).calls.stamps
    assert (stamps[:, READY] <= stamps[:, START]).all()


def test_a_time_in_which_no_call_is_due_is_refused_before_it_is_waited_for():
    with pytest.raises(ConfigError, match=r"no call is due in that time; measure for 20 s or longer"):
        Load(1, duration_s=0.1, rate_per_s=0.5).checked_arrivals_ns()

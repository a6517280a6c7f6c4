from __future__ import annotations

import threading

import pytest

from edge_runtime.profiler.closed_loop import LoopLimits, closed_loop

MS = 1_000_000


class FakeClock:
    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns

    def work(self):
        self.now_ns += 2 * MS


class Counted:
    def __init__(self):
        self.steps = 0

    def stage(self, name, total=None):
        raise AssertionError("stages are the caller's")

    def advance(self, steps=1):
        self.steps += steps


def test_n_calls_are_timed_one_after_another():
    clock = FakeClock()
    times = closed_loop(clock.work, LoopLimits(5), clock=clock)
    assert (times.durations_ns, times.elapsed_ns) == ([2 * MS] * 5, 10 * MS)


@pytest.mark.parametrize(("duration_s", "calls"), [(0.009, 5), (0.010, 5), (0.0101, 6), (1e-9, 1)])
def test_no_call_begins_after_the_duration(duration_s, calls):
    clock = FakeClock()
    assert len(closed_loop(clock.work, LoopLimits(1000, duration_s=duration_s), clock=clock).durations_ns) == calls


@pytest.mark.parametrize("concurrency", [1, 2, 7, 40])
def test_n_calls_are_made_in_all_whatever_the_concurrency(concurrency):
    calls = []
    times = closed_loop(lambda: calls.append(threading.get_ident()), LoopLimits(30, concurrency))
    assert len(calls) == len(times.durations_ns) == 30


def test_concurrent_callers_wait_at_the_same_time():
    together = threading.Barrier(4, timeout=10)
    closed_loop(together.wait, LoopLimits(8, concurrency=4))
    assert together.n_waiting == 0


def test_a_single_caller_runs_in_the_callers_thread():
    seen = set()
    closed_loop(lambda: seen.add(threading.get_ident()), LoopLimits(3))
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_first_error_ends_the_loop(concurrency):
    calls = []

    def fail_at_the_tenth():
        calls.append(1)
        if len(calls) >= 10:
            raise OSError("made up")

    with pytest.raises(OSError, match="made up"):
        closed_loop(fail_at_the_tenth, LoopLimits(10_000, concurrency))
    assert len(calls) < 10 + concurrency


@pytest.mark.parametrize("n", [3, 100, 1000])
def test_progress_adds_up_to_n(n):
    progress = Counted()
    closed_loop(lambda: None, LoopLimits(n), progress)
    assert progress.steps == n

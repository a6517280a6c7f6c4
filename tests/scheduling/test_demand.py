from __future__ import annotations

import itertools
from typing import Iterator, List, Sequence, Set, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.scheduling.demand import Task, room_ns

TASKS = st.builds(Task, st.integers(1, 4), st.integers(1, 8), st.integers(1, 10))

Pending = Tuple[Tuple[int, int], ...]  # (time to the deadline, task), sorted
State = Tuple[Tuple[int, ...], Pending, Tuple[int, int]]  # time to the next release that is allowed; pending; running


def some_pattern_misses(tasks: Sequence[Task], foreign: int = 0) -> bool:
    """Explores all reachable states, one unit of time a step, with each task released or not whenever it may be.

    `foreign` is the length of a run that may begin, once at the start, when nothing of the tasks waits; ties of equal
    deadlines are broken both ways. A task's `block_ns` is taken as its cost.
    """
    start: State = ((0,) * len(tasks), (), (0, 0))
    front: List[State] = [start]
    if foreign:
        front.append(((0,) * len(tasks), (), (foreign, 1 << 30)))
    seen: Set[State] = set(front)
    is_first = {front[-1]} if foreign else set()
    while front:
        state = front.pop()
        for after in _steps(state, tasks, state in is_first):
            if after is None:
                return True
            if after not in seen:
                seen.add(after)
                front.append(after)
    return False


def _steps(state: State, tasks: Sequence[Task], is_started: bool) -> Iterator[State | None]:
    """All states one unit later; None if a deadline is missed. Nothing comes before a run that has just begun."""
    waits, pending, running = state
    ready = [index for index, wait in enumerate(waits) if wait == 0]
    for chosen in range(1 << len(ready)) if not is_started else (0,):
        next_waits, jobs = list(waits), list(pending)
        for bit, index in enumerate(ready):
            if chosen >> bit & 1:
                next_waits[index] = tasks[index].period_ns
                jobs.append((tasks[index].deadline_ns, index))
        for left, run in _starts(jobs, running, tasks):
            yield _tick(next_waits, left, run)


def _starts(
    jobs: List[Tuple[int, int]], running: Tuple[int, int], tasks: Sequence[Task]
) -> Iterator[Tuple[List[Tuple[int, int]], Tuple[int, int]]]:
    if running[0] or not jobs:
        yield jobs, running
        return
    earliest = min(jobs)[0]
    for job in {job for job in jobs if job[0] == earliest}:
        left = list(jobs)
        left.remove(job)
        yield left, (tasks[job[1]].cost_ns, job[0])


def _tick(waits: List[int], jobs: List[Tuple[int, int]], run: Tuple[int, int]) -> State | None:
    left, due = run
    if left > due or any(deadline <= 0 for deadline, _ in jobs):
        return None  # it can't be done in time any more
    later = tuple(sorted((deadline - 1, index) for deadline, index in jobs))
    running = (left - 1, min(due - 1, 1 << 29)) if left > 1 else (0, 0)
    return tuple([max(0, wait - 1) for wait in waits]), later, running


def of(*triples):
    return [Task(*triple) for triple in triples]


@given(st.lists(TASKS, min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_the_test_says_what_all_release_patterns_say(tasks):
    assert (room_ns(tasks) is None) is some_pattern_misses(tasks)


def test_every_pair_of_small_tasks_is_judged_as_all_its_release_patterns_do():
    single = [Task(*each) for each in itertools.product((1, 2, 3), (2, 3, 5), (2, 3, 4, 6))]
    for pair in itertools.combinations_with_replacement(single, 2):
        assert (room_ns(pair) is None) is some_pattern_misses(pair), pair


@given(st.lists(TASKS, min_size=1, max_size=2))
@settings(max_examples=200, deadline=None)
def test_the_room_is_the_longest_run_of_anything_else_that_all_patterns_bear(tasks):
    room = room_ns(tasks)
    if room is not None:
        assert not some_pattern_misses(tasks, foreign=room)
        assert some_pattern_misses(tasks, foreign=room + 1)


@pytest.mark.parametrize(
    "tasks",
    [
        of((1, 3, 3), (4, 10, 10)),  # 11 of 15, but a run of 4 may have just begun
        of((1, 2, 2), (3, 100, 100)),
        of((2, 9, 4), (4, 9, 9)),
        of((1, 4, 4), (1, 4, 4), (4, 9, 9)),
    ],
)
def test_the_sum_of_cost_over_deadline_is_no_proof(tasks):
    assert sum(task.cost_ns / task.deadline_ns for task in tasks) <= 1
    assert some_pattern_misses(tasks)
    assert room_ns(tasks) is None


def test_deadlines_equal_to_periods_are_judged_by_the_condition_of_jeffay():
    for costs in itertools.product((1, 2, 3), repeat=3):
        tasks = of(*zip(costs, (4, 6, 12), (4, 6, 12)))
        assert (room_ns(tasks) is not None) is jeffay(tasks), costs


def jeffay(tasks):
    """The two conditions of theorem 4.1 there, for tasks sorted by period."""
    if sum(12 // task.period_ns * task.cost_ns for task in tasks) > 12:
        return False
    return all(
        tasks[i].cost_ns + sum((length - 1) // task.period_ns * task.cost_ns for task in tasks[:i]) <= length
        for i in range(1, len(tasks))
        for length in range(tasks[0].period_ns + 1, tasks[i].period_ns)
    )


@pytest.mark.parametrize(
    ("tasks", "room"),
    [
        (of((1, 2, 2)), 2),
        (of((5, 5, 5)), 1),
        (of((1, 10, 5), (1, 10, 7)), 5),
        (of((1, 1000, 3), (1, 1000, 3)), 2),
        (of((3, 10, 30)), 28),
        (of((11, 10, 100)), None),
        (of((4, 7, 7), (2, 11, 5)), 2),
    ],
)
def test_the_room_that_tasks_leave(tasks, room):
    assert room_ns(tasks) == room


def test_a_chain_blocks_others_for_one_segment_only():
    tight = Task(1, 4, 4)
    assert room_ns([tight, Task(8, 20, 20)]) is None
    assert room_ns([tight, Task(8, 20, 20, block_ns=4)]) is not None


def test_what_cant_be_shown_in_a_few_steps_is_refused():
    almost_full = of((499_999_999, 1_000_000_007, 1_000_000_000), (500_000_000, 1_000_000_009, 999_999_000))
    assert room_ns(almost_full) is None


def test_frames_of_four_cameras_at_30_hz_fit_on_one_accelerator():
    assert room_ns([Task(7_000_000, 33_333_333, 33_333_333)] * 4) == 5_333_334
    assert room_ns([Task(9_000_000, 33_333_333, 33_333_333)] * 4) is None

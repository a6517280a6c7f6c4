from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.scheduling.service_times import ServiceTimes


def learnt(*runs, rows=1, **options):
    times = ServiceTimes(**{"margin": 0, **options})
    for ns in runs:
        times.observe("m", 0, rows, ns)
    return times


def test_what_was_never_seen_is_unknown():
    times = ServiceTimes()
    assert not times.knows("m")
    assert times.worst_ns("m", 0, 1) is None
    assert times.typical_ns("m", 0, 1) is None
    times.seed("m", 1, 1, 5)
    assert times.knows("m", 1)
    assert not times.knows("m", 0)


def test_the_worst_has_a_margin_and_the_typical_is_the_mean():
    times = learnt(100, 200, 300, margin=0.1)
    assert (times.worst_ns("m", 0, 1), times.typical_ns("m", 0, 1)) == (330, 200)


def test_an_outlier_in_a_hundred_runs_isnt_planned_with():
    times = learnt(*[100 + n % 7 for n in range(64)], 5000, *[100 + n % 7 for n in range(36)])
    assert times.worst_ns("m", 0, 1) == 106
    assert learnt(*[100] * 20, 5000).worst_ns("m", 0, 1) == 5000


def test_what_comes_again_and_again_is_planned_with():
    assert learnt(*[900 if n % 20 == 0 else 100 for n in range(300)]).worst_ns("m", 0, 1) == 900


def test_runs_of_long_ago_are_forgotten():
    times = learnt(*[500] * 64, window=64)
    for _ in range(100):
        times.observe("m", 0, 1, 100)
    assert times.worst_ns("m", 0, 1) == times.typical_ns("m", 0, 1) == 100


def test_the_worst_of_many_runs_is_near_their_longest():
    rng = random.Random(1)
    times = learnt(*[rng.randint(800, 1200) for _ in range(1000)])
    assert 1180 <= times.worst_ns("m", 0, 1) <= 1200
    assert 980 <= times.typical_ns("m", 0, 1) <= 1020


def test_a_seed_holds_until_eight_runs_have_come():
    times = ServiceTimes(margin=0)
    times.seed("m", 0, 1, 1000)
    for run in range(8):
        assert times.worst_ns("m", 0, 1) == 1000, run
        times.observe("m", 0, 1, 100)
    assert times.worst_ns("m", 0, 1) == 100


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(1, 100), (2, 100), (3, 200), (4, 200), (5, 300), (6, 300), (8, 300), (9, 600), (17, 900)],
)
def test_sizes_between_the_measured_ones_are_planned_with_care(rows, expected):
    times = ServiceTimes(margin=0)
    for size, ns in ((2, 100), (4, 200), (8, 300)):
        times.seed("m", 0, size, ns)
    assert times.worst_ns("m", 0, rows) == expected


def test_a_larger_run_is_never_planned_shorter():
    times = ServiceTimes(margin=0)
    for size, ns in ((1, 100), (2, 90), (4, 150)):
        times.seed("m", 0, size, ns)
    assert [times.worst_ns("m", 0, rows) for rows in (1, 2, 3, 4)] == [100, 100, 150, 150]


@given(st.dictionaries(st.integers(1, 40), st.integers(1, 1000), min_size=1, max_size=6))
def test_times_are_monotone_in_rows(sizes):
    times = ServiceTimes()
    for size, ns in sizes.items():
        times.seed("m", 0, size, ns)
    planned = [times.worst_ns("m", 0, rows) for rows in range(1, 90)]
    assert planned == sorted(planned)
    assert all(times.worst_ns("m", 0, size) >= ns for size, ns in sizes.items())


def test_after_relearn_the_old_times_count_until_new_ones_have_come():
    times = learnt(*[100] * 50)
    times.relearn()
    assert times.worst_ns("m", 0, 1) == 100
    for _ in range(8):
        times.observe("m", 0, 1, 60)
    assert times.worst_ns("m", 0, 1) == 60
    times.relearn()
    times.observe("m", 0, 1, 300)
    assert times.worst_ns("m", 0, 1) == 300


def test_one_slow_run_after_relearn_tells_of_all_models():
    times = learnt(*[100] * 10)
    times.seed("other", 0, 1, 500)
    times.relearn()
    times.observe("m", 0, 1, 250)
    assert times.worst_ns("other", 0, 1) == 1250
    assert times.typical_ns("other", 0, 1) == 1250
    times.observe("other", 0, 1, 700)
    assert times.worst_ns("other", 0, 1) == 700


def test_the_version_tells_of_every_change():
    times = learnt(*[100] * 30)
    before = times.version
    times.observe("m", 0, 1, 90)
    assert times.version == before
    times.observe("m", 0, 1, 101)
    assert times.version > before


def test_one_slow_run_is_forgotten_after_many_refusals_without_a_run():
    times = learnt(100, 5000, 110)
    for _ in range(31):
        times.doubt("m")
    assert times.worst_ns("m", 0, 1) == 5000
    times.doubt("m")
    assert times.worst_ns("m", 0, 1) == 110


def test_a_run_ends_doubts_and_nothing_is_planned_with_less_than_the_typical_time():
    times = learnt(100, 5000)
    for _ in range(31):
        times.doubt("m")
    times.observe("m", 0, 1, 4000)
    for _ in range(31):
        times.doubt("m")
    assert times.worst_ns("m", 0, 1) == 5000
    for _ in range(32 * 5):
        times.doubt("m")
    assert times.worst_ns("m", 0, 1) == times.typical_ns("m", 0, 1) == 9100 // 3


def test_a_seed_that_is_doubted_falls_to_what_runs_show():
    times = ServiceTimes(margin=0)
    times.seed("m", 0, 1, 1000)
    for _ in range(40):
        times.doubt("m")
    assert times.worst_ns("m", 0, 1) == 1000
    times.observe("m", 0, 1, 100)
    for _ in range(32):
        times.doubt("m")
    assert times.worst_ns("m", 0, 1) == 100

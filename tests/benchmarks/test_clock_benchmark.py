"""The pure part of figure 21: which system calls wait by the wall clock."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
BITSET = "7 futex(0x5, FUTEX_WAIT_BITSET_PRIVATE{clock}, 0, {until}, FUTEX_BITSET_MATCH_ANY) = 0"
UNTIL = "{tv_sec=5696, tv_nsec=131854488}"


@pytest.fixture(scope="module")
def clock() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("operations.clock")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("line", "timed", "wrong"),
    [
        (BITSET.format(clock="|FUTEX_CLOCK_REALTIME", until=UNTIL), 1, 1),
        (BITSET.format(clock="", until=UNTIL), 1, 0),
        (BITSET.format(clock="|FUTEX_CLOCK_REALTIME", until="NULL"), 0, 0),
        ("7 futex(0x5, FUTEX_WAIT_PRIVATE, 2, NULL) = 0", 0, 0),
        ("7 clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, {tv_sec=9, tv_nsec=0}, NULL) = 0", 1, 1),
        ("7 clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=0, tv_nsec=5}, NULL) = 0", 1, 0),
        ("7 clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, {tv_sec=9, tv_nsec=0}, NULL) = 0", 1, 0),
        ("7 timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC) = 3", 1, 1),
        ("7 timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC) = 3", 1, 0),
    ],
)
def test_only_waits_until_a_time_of_the_wall_clock_are_wrong(clock: Any, line: str, timed: int, wrong: int) -> None:
    found, by_wall_clock = clock.waits([line])
    assert (found, len(by_wall_clock)) == (timed, wrong)

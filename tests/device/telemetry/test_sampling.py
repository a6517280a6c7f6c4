from __future__ import annotations

import pytest

from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample
from edge_runtime.device.telemetry.sampling import SampleBook
from edge_runtime.device.telemetry.source import Origin

MS = 1_000_000


def stamped(at_ms: int) -> Stamped:
    return Stamped(at_ms * MS, TelemetrySample())


@pytest.fixture
def alarms() -> list:
    return []


@pytest.fixture
def book(alarms: list) -> SampleBook:
    """Of a source that gives a sample every 400 ms, from 0 on."""
    return SampleBook(Origin("sysfs"), 400 * MS, 5, 0, alarms.append)


def test_nothing_is_known_before_the_first_sample(book: SampleBook) -> None:
    status = book.status(100 * MS)
    assert (status.samples, status.age_s, status.is_stale, status.alarm) == (0, None, True, None)
    assert (status.jitter_ms_p50, status.cost_ratio, book.latest) == (None, None, None)


def test_age_is_that_at_the_time_of_asking(book: SampleBook) -> None:
    book.add(stamped(100))
    assert [(s.age_s, s.is_stale, s.alarm is None) for s in (book.status(n * MS) for n in (100, 900, 901))] == [
        (0.0, False, True),
        (0.8, False, True),
        (0.801, True, False),
    ]


def test_silence_rings_once_after_two_intervals_and_the_next_sample_ends_it(book: SampleBook, alarms: list) -> None:
    book.add(stamped(100))
    for now_ms in (900, 901, 1500):
        book.check(now_ms * MS)
    assert alarms == ["sysfs: no sample for 0.80 s; one is due every 0.4 s"]
    book.add(stamped(1600))
    assert book.status(1600 * MS).alarm is None
    book.check(2500 * MS)
    assert len(alarms) == 2


def test_a_source_that_never_begins_rings_too(book: SampleBook, alarms: list) -> None:
    book.check(800 * MS)
    assert alarms == []
    book.check(801 * MS)
    assert alarms == ["sysfs: no sample for 0.80 s; one is due every 0.4 s"]


def test_a_program_has_half_a_second_to_begin_however_short_the_interval() -> None:
    book = SampleBook(Origin("tegrastats"), 50 * MS, 5, 0)
    assert book.status(500 * MS).alarm is None
    assert book.status(501 * MS).alarm is not None


def test_a_failure_rings_at_once_and_each_reason_once(book: SampleBook, alarms: list) -> None:
    book.add(stamped(100))
    for text in ("it ended", "it ended", "it can't be started"):
        book.fail(text)
    book.check(9999 * MS)
    assert alarms == ["it ended", "it can't be started"]
    assert book.status(150 * MS).alarm == "it can't be started"


def test_a_sample_that_came_too_late_has_rung(book: SampleBook, alarms: list) -> None:
    book.add(stamped(100))
    book.add(stamped(2100))
    assert alarms == ["sysfs: no sample for 2.00 s; one is due every 0.4 s"]
    assert book.status(2100 * MS).alarm is None


def test_a_span_is_cut_from_a_bounded_history(book: SampleBook) -> None:
    for at_ms in range(100, 1100, 100):
        book.add(stamped(at_ms))
    assert [s.at_ns // MS for s in book.between(0, 10**12)] == [600, 700, 800, 900, 1000]
    assert [s.at_ns // MS for s in book.between(700 * MS, 900 * MS)] == [700, 800, 900]
    assert book.between(1001 * MS, 10**12) == []
    assert book.status(1000 * MS).samples == 10


def test_jitter_is_taken_without_its_sign(book: SampleBook) -> None:
    for number in range(100):
        book.add(stamped(number), jitter_ns=(-1) ** number * number * MS)
    status = book.status(0)
    assert (status.jitter_ms_p50, status.jitter_ms_p99) == (49.0, 98.0)


def test_counts_of_the_sampler_are_shown(book: SampleBook) -> None:
    book.count(missed=2, restarts=1, cost_ratio=0.004)
    book.count(missed=1, restarts=2, cost_ratio=0.005)
    status = book.status(0)
    assert (status.missed, status.restarts, status.cost_ratio) == (3, 2, 0.005)

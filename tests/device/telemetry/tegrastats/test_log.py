"""Whole logs. The logs here are made of the made-up lines below, with averages as tegrastats would print them."""

from __future__ import annotations

import pytest

from edge_runtime.device.telemetry.tegrastats.log import OTHER_NAMES, LogNotes, read_log
from edge_runtime.device.telemetry.tegrastats.log_summary import LogSummary
from edge_runtime.device.telemetry.tegrastats.log_times import timeline_from_stamps

RAM = "RAM 613/3964MB (lfb 634x4MB)"
VALUES = (5000, 7000, 4000, 9000, 6001, 6002)


def run(values=VALUES, round_up=0.0, begin=0):
    """Lines of one process with the mean of all values so far; those from `begin` on."""
    means = [int(sum(values[: index + 1]) / (index + 1) + round_up) for index in range(len(values))]
    return [f"{RAM} VDD_IN {value}mW/{mean}mW" for value, mean in zip(values, means)][begin:]


def stamped(line, second):
    return f"05-09-2026 18:{second // 60:02}:{second % 60:02} {line}"


@pytest.mark.parametrize("round_up", [0.0, 0.5])
@pytest.mark.parametrize("begin", [0, 3])
def test_a_run_starts_where_the_averages_begin_again(round_up, begin):
    reading = read_log([*run(round_up=round_up, begin=begin), *run(VALUES[::-1], round_up)])
    assert reading.run_starts == (1, 1 + len(VALUES) - begin)
    assert reading.lost_before == ()


def test_equal_values_are_no_start():
    assert read_log(run([5000] * 5)).run_starts == (1,)


def test_lost_lines_show_in_the_averages():
    lines = run()
    reading = read_log([*lines[:2], *lines[3:]])
    assert (reading.run_starts, reading.lost_before) == ((1,), (3,))


@pytest.mark.parametrize("name", ["VIN", "OTHER"])
def test_a_thor_of_r39_halves_the_first_average_of_vin(name):
    other = "VDD_GPU 100mW/100mW/100mW"
    first = f"{RAM} {other} {name} 87426mW/43713mW/87426mW"
    before = f"{RAM} VDD_GPU 900mW/500mW/900mW {name} 5mW/5mW/5mW"
    assert read_log([before, first]).run_starts == (1, 2)


def test_noise_and_unknown_words_are_counted():
    reading = read_log(["date", f"{RAM} FOO 1 tj@5C", "", f"{RAM} FOO 2 BAR@7X tj@5C", "end"])
    assert (reading.n_lines, reading.lines, reading.noise_lines) == (5, (2, 4), (1, 3, 5))
    assert reading.unknown == {"FOO": 2, "BAR": 1}
    assert reading.run_starts == (2,)


def test_names_without_end_are_counted_together():
    notes = LogNotes()
    for index in range(1100):
        notes.add(f"{RAM} N{index} tj@5C")
    assert notes.unknown[OTHER_NAMES] == 100


def test_times_come_from_the_stamps_and_gaps_stay():
    reading = read_log([stamped(line, second) for line, second in zip(run(), (0, 1, 2, 4, 5, 98))])
    assert reading.times_s == (0, 1, 2, 4, 5, 98)
    assert reading.gap_lines == (6,)
    assert reading.timeline.steps_s == {1: 3, 2: 1, 93: 1}


def test_samples_of_one_second_are_spread_over_it():
    assert timeline_from_stamps([5, 5, 6, 6, None, 6, 7]).times_s == (0, 0.5, 1, 1.25, 1.5, 1.75, 2)


def test_an_interval_of_five_seconds_has_no_gaps():
    timeline = timeline_from_stamps([0, 5, 10, 16, 21])
    assert (timeline.gaps, timeline.interval_s) == ((), 5)


def test_lines_put_together_are_all_gaps():
    timeline = timeline_from_stamps([0, 10_000_000, 20_000_000])
    assert (timeline.gaps, timeline.interval_s) == ((1, 2), 1)


def test_a_clock_that_was_set_back_is_a_gap_of_unknown_length():
    timeline = timeline_from_stamps([100, 101, 40, 41])
    assert (timeline.times_s, timeline.gaps) == ((0, 1, 2, 3), (2,))


def test_without_stamps_the_interval_is_assumed_and_said():
    reading = read_log(run(), interval_s=0.5)
    assert reading.times_s == (0, 0.5, 1, 1.5, 2, 2.5)
    assert "assumed" in reading.timeline.note
    assert read_log([]).timeline.duration_s == 0


def test_energy_is_the_area_under_the_power_without_the_gaps():
    reading = read_log([stamped(line, second) for line, second in zip(run(), (0, 1, 2, 3, 60, 61))])
    summary = LogSummary()
    for sample in reading.samples:
        summary.add(sample)
    assert summary.energy_j(reading.timeline) == pytest.approx(6 + 5.5 + 6.5 + 6.0015)
    assert summary.energy_j(read_log(run()).timeline) is None

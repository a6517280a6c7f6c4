from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.stamped_calls import MS, table

from edge_runtime.device.telemetry.sample import Cpu, Gpu, Stamped, TelemetrySample
from edge_runtime.device.telemetry.throttling import ThrottleSpan, throttle_spans
from edge_runtime.profiler.cpu_watch import CpuReading, CpuUse
from edge_runtime.profiler.evidence import Evidence
from edge_runtime.profiler.gc_watch import GcPause
from edge_runtime.profiler.outliers import CAUSES, OF_THE_BOARD, explained_outliers

LATENCIES = [2.0] * 50 + [10.0] + [2.0] * 50  # the slow call runs from 100 to 110 ms
NOTHING = Evidence()


SPAN = ThrottleSpan("thermal", "gpu-throttle-alert", 95 * MS, 101 * MS, "state 1")


def sampled(gpu_mhz=None, events=None, cpu_mhz=None):
    """A sample every 20 ms; each argument gives the values of the samples at 80, 100, 120 ms, others are usual."""
    samples = []
    for number in range(12):
        special = number - 4 if 4 <= number <= 6 else None
        gpu = 900 if special is None or gpu_mhz is None else gpu_mhz[special]
        cpu = 1500 if special is None or cpu_mhz is None else cpu_mhz[special]
        count = (0 if number < 4 else events[min(number - 4, 2)]) if events else 0
        look = TelemetrySample(
            gr3d=Gpu(99, (gpu,)), cpus=(Cpu(50, cpu), None), over_current_events={"oc3": count} if events else {}
        )
        samples.append(Stamped(number * 20 * MS, look))
    return tuple(samples)


def busy(others, own=0.9, cores=2):
    readings = [
        CpuReading(t * 50 * MS, round(t * 50 * MS * (others + own)), round(t * 50 * MS * own)) for t in range(9)
    ]
    return CpuUse(readings, cores)


THROTTLED = Evidence(throttled=[SPAN])
OVER_CURRENT = Evidence(throttled=throttle_spans(sampled(events=(0, 0, 3))))
RAMP = Evidence(samples=sampled(gpu_mhz=(200, 206, 900)))
CPU_RAMP = Evidence(samples=sampled(cpu_mhz=(300, 300, 1500)))
COLLECTED = Evidence(pauses=[GcPause(102 * MS, 107 * MS, 2)])
BUSY = Evidence(cpu=busy(1.1))


def only(evidence, **calls):
    (found,) = explained_outliers(table(LATENCIES, **calls), evidence).found
    return found


@pytest.mark.parametrize(
    ("evidence", "cause", "detail"),
    [
        (THROTTLED, "throttle", "thermal throttling, gpu-throttle-alert: state 1"),
        (Evidence(throttled=[replace(SPAN, cause="clock", where="cpu0")]), "throttle", "clock throttling, cpu0"),
        (Evidence(throttled=[replace(SPAN, cause="under-voltage", where="oc1")]), "over-current", "under-voltage, oc1"),
        (OVER_CURRENT, "over-current", "over-current, oc3: 3 events"),
        (RAMP, "clock ramp", "the GPU ran at 206 MHz and rose to 900"),
        (CPU_RAMP, "clock ramp", "the CPU ran at 300 MHz and rose to 1500"),
        (COLLECTED, "gc", "generation 2) took 5.000 ms of the 8.000 ms"),
        (BUSY, "other load", "no core was free: others used 1.10 of 2 cores"),
        (NOTHING, "unknown", "compute took 10.000 ms, where the median is 2.000 ms; not watched: the board"),
    ],
)
def test_each_cause_alone(evidence, cause, detail):
    found = only(evidence)
    assert found.cause == cause
    assert detail in found.detail


@pytest.mark.parametrize("evidence", [THROTTLED, OVER_CURRENT, RAMP, COLLECTED])
def test_what_a_replayed_board_shows_is_said_to_be_replayed(evidence):
    found = only(replace(evidence, replayed="replayed"))
    assert found.detail.endswith("(replayed: not this machine's board)") == (found.cause in OF_THE_BOARD)


def test_a_wait_behind_earlier_calls_is_the_queue():
    found = only(NOTHING, queued_ms={50: 6.0})
    assert (found.cause, "6.000 ms longer" in found.detail) == ("queue", True)


def test_a_wait_for_a_core_is_other_load_if_others_used_any():
    assert only(Evidence(cpu=busy(0.3)), delays_ms={50: 4.0}).cause == "other load"
    assert only(NOTHING, delays_ms={50: 4.0}).cause == "other load"


def test_a_wait_for_a_core_that_nobody_else_used_is_said_to_be_our_own():
    found = only(Evidence(cpu=busy(0.01)), delays_ms={50: 4.0})
    assert found.cause == "unknown"
    assert "more threads than cores" in found.detail


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(throttled=[replace(SPAN, to_ns=99 * MS)]),
        Evidence(throttled=throttle_spans(sampled(events=(3, 3, 3)))),
        Evidence(samples=sampled(gpu_mhz=(900, 890, 900))),
        Evidence(samples=sampled(gpu_mhz=(300, 300, 300))[:7]),
        replace(RAMP, uses_gpu=False),
        Evidence(pauses=[GcPause(102 * MS, 105 * MS, 2), GcPause(120 * MS, 130 * MS, 2)]),
        Evidence(cpu=busy(0.5)),
        Evidence(cpu=busy(1.1, cores=8)),
    ],
)
def test_evidence_that_is_too_little_or_at_another_time_explains_nothing(evidence):
    assert only(evidence).cause == "unknown"


def test_of_several_causes_the_first_of_the_documented_order_is_it():
    both = (*OVER_CURRENT.throttled, SPAN)
    everything = Evidence(RAMP.samples, both, COLLECTED.pauses, BUSY.cpu)
    steps = [{}, {"pauses": ()}, {"throttled": OVER_CURRENT.throttled}, {"throttled": ()}, {"samples": ()}]
    found = []
    for step in steps:
        everything = replace(everything, **step)
        found.append(only(everything, queued_ms={50: 6.0}).cause)
    assert found == ["gc", "throttle", "over-current", "clock ramp", "queue"]
    assert only(everything).cause == "other load"


def test_what_acts_during_most_of_the_calls_is_no_cause_of_one():
    lasting = replace(SPAN, from_ns=-MS, to_ns=150 * MS)
    assert only(Evidence(throttled=[lasting])).cause == "unknown"
    assert only(Evidence(throttled=[lasting, replace(SPAN, where="cpu-throttle-alert")])).cause == "throttle"


def test_a_clock_must_be_low_enough_to_explain_the_call():
    assert only(Evidence(samples=sampled(gpu_mhz=(600, 606, 900)))).cause == "unknown"
    assert only(Evidence(samples=sampled(gpu_mhz=(0, 0, 900)))).cause == "clock ramp"


def test_two_pauses_within_a_call_count_together():
    pauses = [GcPause(99 * MS, 102 * MS, 0), GcPause(108 * MS, 120 * MS, 1)]
    assert only(Evidence(pauses=pauses)).cause == "gc"


def test_the_threshold_itself_is_no_outlier():
    found = explained_outliers(table([2.0] * 9 + [3.0, 3.001]), NOTHING)
    assert (found.threshold_ns, [outlier.index for outlier in found.found]) == (3 * MS, [10])


def test_every_outlier_has_one_cause():
    calls = table([2.0, 2.0, 2.0, 10.0, 2.0, 12.0, 2.0, 9.0])
    found = explained_outliers(calls, Evidence(pauses=[GcPause(6 * MS, 16 * MS, 2)]))
    assert found.by_cause() == {**dict.fromkeys(CAUSES, 0), "gc": 1, "unknown": 2}


def test_a_wait_that_all_calls_have_explains_no_outlier():
    every = dict.fromkeys(range(101), 1.9)
    assert only(Evidence(cpu=busy(1.0, own=0.2, cores=4)), delays_ms=every).cause == "unknown"

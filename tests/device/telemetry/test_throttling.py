"""Throttling, from samples; every one of these is made up but where a line of a board is named."""

from __future__ import annotations

import pytest
from fakes import heat, recordings
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.device.telemetry.sample import Cpu, Gpu, Limits, Stamped, TelemetrySample
from edge_runtime.device.telemetry.throttling import ThrottleWatch, throttle_spans

ORIN_LIMITS = Limits(306, 918)


def stamped(samples, step_s=0.1):
    return [Stamped(round(i * step_s * 1e9), sample) for i, sample in enumerate(samples)]


def last_state(samples, step_s=0.1):
    watch = ThrottleWatch()
    return [watch.update(each) for each in stamped(samples, step_s)][-1]


def cooling(**states):
    return TelemetrySample(cooling={name.replace("_", "-"): state for name, state in states.items()})


def gpu(load_pct, freq_mhz, limits=ORIN_LIMITS):
    return TelemetrySample(gr3d=Gpu(load_pct, freq_mhz), gpu_limits=limits)


def counted(**counters):
    return TelemetrySample(over_current_events=counters)


@pytest.mark.parametrize(
    ("device", "cause"),
    [
        ("gpu-throttle-alert", "thermal"),
        ("soc012-throttle-alert", "thermal"),
        ("emergency-balanced", "thermal"),
        ("skin-balanced", "thermal"),
        ("hot-surface-alert", "thermal"),
        ("devfreq-17000000.gpu", "thermal"),
        ("devfreq-gpu-gpc-0", "thermal"),
        ("cpufreq-cpu4", "thermal"),
        ("thermal-cpufreq-0", "thermal"),
        ("nvml-sw-thermal-slowdown", "thermal"),
        ("nvml-hw-thermal-slowdown", "thermal"),
        ("nvml-sw-power-cap", "over-current"),
        ("nvml-hw-power-brake-slowdown", "over-current"),
        ("nvml-hw-slowdown", "clock"),
        ("VDD_IN-crit-alarm", "over-current"),
        ("pwm-fan", None),
        ("nvml-gpu-idle", None),
        ("something-new", None),
    ],
)
def test_a_device_that_acts_has_a_cause_or_slows_nothing(device, cause):
    state = last_state([TelemetrySample(cooling={device: 1})])
    assert [(each.cause, each.where) for each in state.active] == ([] if cause is None else [(cause, device)])
    assert state.is_known is (cause is not None)
    assert not last_state([TelemetrySample(cooling={device: 0})]).active


def test_nothing_told_is_unknown_and_not_unthrottled():
    silent = last_state([TelemetrySample(temps_c={"cpu": 50.0}, trips_c={"cpu": 99.0})])
    calm = last_state([cooling(gpu_throttle_alert=0)])
    assert (silent.active, silent.is_known, silent.headroom_c) == ((), False, 49.0)
    assert (calm.active, calm.is_known, calm.headroom_c) == ((), True, None)


@pytest.mark.parametrize(
    ("readings", "active", "events"),
    [
        ([7], [], {"oc3": 0}),
        ([7, 7], [], {"oc3": 0}),
        ([7, 9], ["over-current"], {"oc3": 2}),
        ([7, 9, 9], [], {"oc3": 2}),
        ([7, 0], [], {"oc3": 0}),  # a reboot
        ([7, 0, 1], ["over-current"], {"oc3": 1}),
        ([7, None, 8], ["over-current"], {"oc3": 1}),
    ],
)
def test_a_counter_says_something_only_by_its_rise(readings, active, events):
    state = last_state([TelemetrySample() if count is None else counted(oc3=count) for count in readings])
    assert [each.cause for each in state.active] == active
    assert state.events == events


def test_the_first_counter_is_under_voltage():
    (throttle,) = last_state([counted(oc1=0, oc2=4), counted(oc1=1, oc2=4)]).active
    assert (throttle.cause, throttle.where, throttle.detail) == ("under-voltage", "oc1", "1 event")


@pytest.mark.parametrize(
    ("sample", "is_low"),
    [
        (gpu(99, (306,), Limits(918, 918)), True),  # jetson_clocks
        (gpu(99, (510,)), True),
        (gpu(99, (905,), Limits(918, 918)), False),  # within 2 %
        (gpu(99, (904, 0)), False),  # a cluster that is off
        (gpu(99, (0, 0)), False),  # powered down
        (gpu(60, (306,)), False),
        (gpu(None, (306,)), False),  # a Thor
        (gpu(99, None), False),
        (gpu(99, (510,), None), False),
        (gpu(99, (510,), Limits(None, None)), False),
    ],
)
def test_a_clock_is_low_only_at_full_load_and_below_its_limits(sample, is_low):
    assert [each.cause for each in last_state([sample] * 4).active] == (["clock"] if is_low else [])


def test_a_clock_may_take_three_samples_to_rise():
    assert not last_state([gpu(99, (306,))] * 3).active
    assert not last_state([gpu(99, (306,))] * 3 + [gpu(99, (918,))] + [gpu(99, (306,))] * 3).active


def test_a_core_is_held_against_what_it_is_asked_for_alone():
    def core(mhz):
        return TelemetrySample(cpus=(None, Cpu(100, mhz)), cpu_limits=(None, Limits(1190, 1510)))

    (throttle,) = last_state([core(729)] * 4).active
    assert (throttle.where, throttle.detail) == ("cpu1", "729 MHz at 100 % load, 1190 MHz asked for")
    assert not last_state([core(1200)] * 4).active


def test_headroom_is_that_of_the_nearest_zone_and_never_of_the_always_on_domain():
    temps_c = {"cpu": 80.0, "gpu": 90.0, "AO": 99.0, "PMIC": 100.0, "cv0": None}
    trips_c = {"cpu": 89.0, "gpu": 101.0, "AO": 99.5, "PMIC": 100.0, "cv0": 80.0}
    state = last_state([TelemetrySample(temps_c=temps_c, trips_c=trips_c, constants=("PMIC",))])
    assert (state.headroom_c, state.headroom_zone, state.slope_c_per_s, state.forecast_s) == (9.0, "cpu", None, None)


def test_the_slope_survives_odd_readings_and_forecasts_the_trip():
    temps = [60 + round(0.2 * second * 2) / 2 for second in range(31)]  # steps of half a degree
    temps[10], temps[20] = 45.0, 84.0
    state = last_state([TelemetrySample(temps_c={"gpu": t}, trips_c={"gpu": 99.0}) for t in temps], step_s=1.0)
    assert state.slope_c_per_s == pytest.approx(0.2, rel=0.1)
    assert state.forecast_s == pytest.approx((99 - 66) / 0.2, rel=0.1)


@pytest.mark.parametrize(("slope", "trip_c", "forecast_s"), [(0.0, 99.0, None), (-0.5, 99.0, None), (0.0, 40.0, 0.0)])
def test_what_does_not_get_warmer_has_no_forecast(slope, trip_c, forecast_s):
    samples = [TelemetrySample(temps_c={"gpu": 50 + slope * i}, trips_c={"gpu": trip_c}) for i in range(10)]
    assert last_state(samples, step_s=1.0).forecast_s == forecast_s


@pytest.mark.skipif(recordings.folder() is None, reason="the recordings aren't beside this checkout")
def test_a_made_up_ramp_over_a_real_recording_is_forecast_and_then_seen():
    real = recordings.read("series/orin-nano-r36.4.7-degradation.log")
    ramp = heat.heat_ramp(real, trips_c={"tj": 60.0, "gpu": 70.0}, c_per_s=0.2)
    watch = ThrottleWatch()
    states = [watch.update(each) for each in ramp]
    first = next(index for index, state in enumerate(states) if state.active)
    before = states[first - 20]
    assert before.forecast_s == pytest.approx(20, rel=0.5)
    assert (before.headroom_zone, before.slope_c_per_s) == ("tj", pytest.approx(0.2, rel=0.3))
    spans = throttle_spans(ramp)
    assert {(span.cause, span.where) for span in spans} == {("thermal", "gpu-throttle-alert")}
    assert (spans[0].from_ns, spans[-1].to_ns) == (ramp[first].at_ns, ramp[-1].at_ns)
    assert throttle_spans(real) == []


ON, OFF = cooling(gpu_throttle_alert=1), cooling(gpu_throttle_alert=0)


@pytest.mark.parametrize(
    ("samples", "spans"),
    [
        ([OFF, ON, ON, OFF], [(1, 3)]),
        ([OFF, ON, OFF, ON, OFF], [(1, 4)]),
        ([OFF, ON, TelemetrySample(), ON, OFF], [(1, 4)]),
        ([OFF, ON, OFF, OFF, ON, OFF], [(1, 2), (4, 5)]),
        ([OFF, ON], [(1, 1)]),
        ([counted(oc3=0), counted(oc3=0), counted(oc3=3), counted(oc3=3), counted(oc3=4)], [(1, 4)]),
        ([gpu(0, (306,)), *[gpu(99, (306,))] * 5, gpu(99, (918,))], [(1, 6)]),
        ([], []),
    ],
)
def test_spans_join_what_one_sample_parts(samples, spans):
    found = throttle_spans(stamped(samples, step_s=1))
    assert [(span.from_ns // 10**9, span.to_ns // 10**9) for span in found] == spans


def test_a_span_of_events_counts_them():
    (span,) = throttle_spans(stamped([counted(oc3=n) for n in (2, 4, 4, 5, 5)]))
    assert (span.cause, span.where, span.detail) == ("over-current", "oc3", "3 events")


def test_a_span_does_not_cross_a_time_without_samples():
    samples = [Stamped(at_ns, ON) for at_ns in (0, 1, 2, 3, 100, 101, 102)]
    assert [(span.from_ns, span.to_ns) for span in throttle_spans(samples)] == [(0, 3), (100, 102)]


SAMPLES = st.builds(
    TelemetrySample,
    cooling=st.dictionaries(st.sampled_from(["gpu-throttle-alert", "pwm-fan", "nvml-hw-slowdown"]), st.integers(0, 2)),
    over_current_events=st.dictionaries(st.sampled_from(["oc1", "oc3", "odd"]), st.integers(0, 5)),
    gr3d=st.none()
    | st.builds(Gpu, st.sampled_from([None, 0, 99]), st.sampled_from([None, (), (0,), (306, 0), (918,)])),
    gpu_limits=st.none() | st.builds(Limits, st.sampled_from([None, 306, 918]), st.sampled_from([None, 918])),
    temps_c=st.dictionaries(st.sampled_from(["gpu", "AO"]), st.none() | st.floats()),
    trips_c=st.dictionaries(st.sampled_from(["gpu", "AO"]), st.floats()),
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**11), SAMPLES), max_size=25))
def test_whatever_samples_say_spans_are_in_order_and_apart(rows):
    last = {}
    spans = throttle_spans([Stamped(at_ns, sample) for at_ns, sample in rows])
    assert spans == sorted(spans, key=lambda span: span.from_ns)
    for span in spans:
        assert last.get((span.cause, span.where), -1) <= span.from_ns <= span.to_ns
        last[span.cause, span.where] = span.to_ns

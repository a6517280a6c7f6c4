from __future__ import annotations

import threading
from pathlib import Path
from typing import Callable

import pytest
from fakes.tegrastats import LINE, fake_tegrastats, parsed

from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample
from edge_runtime.device.telemetry.sampler import Sampler
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.sources.tegrastats import TegrastatsSource
from edge_runtime.errors import ConfigError, TelemetryError

PATIENT_S = 30.0


class ScriptedSource:
    """Gives what `answers` says, one a reading: a sample, None, or an error to raise; the last of them again."""

    def __init__(self, *answers: object, is_paced: bool = False, before: Callable[[], object] = lambda: None) -> None:
        self.origin = Origin("made-up")
        self.is_paced = is_paced
        self.closed = 0
        self.reads = 0
        self._answers = list(answers)
        self._before = before

    def read(self, timeout_s: float) -> TelemetrySample | None:
        assert timeout_s > 0
        self.reads += 1
        self._before()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        self.closed += 1


class Heard:
    """Waits for the samples and alarms of a sampler."""

    def __init__(self) -> None:
        self.samples: list[Stamped] = []
        self.alarms: list[str] = []
        self._changed = threading.Condition()

    def on_sample(self, stamped: Stamped) -> None:
        with self._changed:
            self.samples.append(stamped)
            self._changed.notify_all()

    def on_alarm(self, text: str) -> None:
        with self._changed:
            self.alarms.append(text)
            self._changed.notify_all()

    def wait(self, samples: int = 0, alarms: int = 0) -> None:
        with self._changed:
            enough = self._changed.wait_for(
                lambda: len(self.samples) >= samples and len(self.alarms) >= alarms, PATIENT_S
            )
            assert enough, (len(self.samples), self.alarms)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def sampler(source: object, heard: Heard, interval_s: float = 0.01) -> Sampler:
    return Sampler(source, interval_s, on_alarm=heard.on_alarm, on_sample=heard.on_sample)


def test_samples_come_in_order_and_the_source_is_closed_once(heard: Heard) -> None:
    source = ScriptedSource(TelemetrySample())
    with sampler(source, heard) as running:
        heard.wait(samples=5)
        latest = running.latest
        assert latest is not None
        assert len(running.between(0, latest.at_ns)) >= 5
    running.close()
    assert source.closed == 1
    stamps = [stamped.at_ns for stamped in heard.samples]
    assert stamps == sorted(stamps)
    status = running.status()
    assert status.samples == len(stamps)
    assert status.cost_ratio is not None
    assert status.jitter_ms_p50 is not None


def test_readings_keep_to_ticks_and_late_ones_are_counted_and_not_made_up_for(heard: Heard) -> None:
    """A made-up clock that each reading moves on by a second and a half, where one is due each second."""
    now_ns = [0]

    def slow() -> None:
        now_ns[0] += 1_500_000_000

    source = ScriptedSource(TelemetrySample(), before=slow)

    class Hurried(Sampler):
        def _waited_until(self, due_ns: int) -> bool:
            now_ns[0] = max(now_ns[0], due_ns)
            return self._stopping.is_set() or source.reads >= 4

    with Hurried(source, 1.0, clock=lambda: now_ns[0], on_sample=heard.on_sample) as running:
        heard.wait(samples=4)
        running._thread.join(PATIENT_S)
    assert [stamped.at_ns for stamped in heard.samples] == [750_000_000, 2_750_000_000, 4_750_000_000, 6_750_000_000]
    assert (running.status().missed, running.status().jitter_ms_p99) == (4, 0.0)


def test_a_failure_rings_and_the_next_sample_ends_it(heard: Heard) -> None:
    source = ScriptedSource(TelemetryError("it ended"), TelemetryError("it ended"), TelemetrySample())
    with sampler(source, heard) as running:
        heard.wait(samples=1, alarms=1)
        assert heard.alarms == ["it ended"]
        assert running.status().alarm is None


@pytest.mark.parametrize("is_paced", [False, True])
def test_a_fault_of_the_source_itself_rings_and_the_thread_goes_on(heard: Heard, is_paced: bool) -> None:
    source = ScriptedSource(ZeroDivisionError("made-up"), TelemetrySample(), is_paced=is_paced)
    with sampler(source, heard):
        heard.wait(samples=2, alarms=1)
    assert heard.alarms[0] == "made-up: ZeroDivisionError: made-up"


@pytest.mark.parametrize("is_paced", [False, True])
def test_silence_rings(heard: Heard, is_paced: bool) -> None:
    with sampler(ScriptedSource(TelemetrySample(), None, is_paced=is_paced), heard) as running:
        heard.wait(samples=1, alarms=1)
        assert running.status().is_stale
    assert heard.alarms[0].startswith("made-up: no sample for ")


def test_a_thread_that_hangs_in_a_reading_is_seen_from_outside(heard: Heard) -> None:
    now_ns = [0]
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        assert goes_on.wait(PATIENT_S)

    source = ScriptedSource(TelemetrySample(), before=hang)
    running = Sampler(source, 1.0, clock=lambda: now_ns[0], on_alarm=heard.on_alarm, on_sample=heard.on_sample)
    assert hangs.wait(PATIENT_S)
    assert running.status().alarm is None
    now_ns[0] = 2_500_000_000
    assert running.status().alarm == "made-up: no sample for 2.50 s; one is due every 1 s"
    goes_on.set()
    heard.wait(samples=1)
    running.close()


def test_a_listener_that_fails_stops_nothing(heard: Heard) -> None:
    def fail(_: object) -> None:
        heard.on_alarm("called")
        raise ValueError("made-up")

    source = ScriptedSource(TelemetryError("it ended"), TelemetrySample())
    with Sampler(source, 0.01, on_alarm=fail, on_sample=fail):
        heard.wait(alarms=4)


def test_it_may_be_closed_by_a_listener(heard: Heard) -> None:
    box: list[Sampler] = []
    ready = threading.Event()

    def close(stamped: Stamped) -> None:
        assert ready.wait(PATIENT_S)
        box[0].close()
        heard.on_sample(stamped)

    box.append(Sampler(ScriptedSource(TelemetrySample()), 0.01, on_sample=close))
    ready.set()
    box[0]._thread.join(PATIENT_S)
    assert len(heard.samples) == 1


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan"), float("inf"), 0.0001, 1e9])
def test_an_interval_out_of_reason_is_refused(interval_s: float) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Sampler(ScriptedSource(None), interval_s)


@pytest.mark.parametrize(
    ("end", "interval_s", "alarm"), [("exit 3", 10, "exit status 3"), ("exec sleep 600", 0.05, "no sample for")]
)
def test_a_tegrastats_that_ends_or_falls_silent_rings(
    tmp_path: Path, heard: Heard, end: str, interval_s: float, alarm: str
) -> None:
    path = fake_tegrastats(tmp_path, f"echo '{LINE}'", end)
    with sampler(TegrastatsSource(path, parsed, interval_s), heard, interval_s):
        heard.wait(samples=1, alarms=1)
    assert alarm in heard.alarms[0]

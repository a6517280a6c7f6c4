from __future__ import annotations

import sys

import pytest
from fakes.jtop import AGX_XAVIER_POWER, ORIN_NANO, THOR_GPU, FakeJtop

from edge_runtime.device.telemetry.sample import Bus, Cpu, Gpu, HardwareEngine, Limits, Ram, TelemetrySample, TotalPower
from edge_runtime.device.telemetry.sources.jtop import JtopSource
from edge_runtime.errors import TelemetryError


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def sample_of(record: dict, module: str = "") -> TelemetrySample:
    library = FakeJtop(record)
    source = JtopSource(0.5, module, library)
    library.send()
    sample = source.read(0.0)
    source.close()
    assert sample is not None
    assert not library.clients[0].is_open
    return sample


def test_its_record_becomes_a_sample() -> None:
    sample = sample_of(ORIN_NANO)
    assert sample.ram == Ram(5530, 7607, 2, 4096)
    assert sample.cpus == (Cpu(12.5, 1510.4), None)
    assert sample.cpu_limits == (Limits(729.6, 1510.4), None)
    assert (sample.gr3d, sample.gpu_limits) == (Gpu(99.0, (621.435, 0)), Limits(306, 624.75))
    assert sample.emc == Bus(31, 2133)
    assert dict(sample.temps_c) == {"cpu": 66.0, "cv0": None, "tj": 67.406}
    assert dict(sample.engines) == {"APE": HardwareEngine(True, None, 174), "NVENC": HardwareEngine(False)}


def test_its_total_is_a_rail_where_it_has_a_name_and_is_not_believed_where_it_has_none() -> None:
    sample = sample_of(ORIN_NANO, "Orin Nano 8GB")
    assert {name: rail.cur_mw for name, rail in sample.power_mw.items()} == {
        "VDD_CPU_GPU_CV": 5531,
        "VDD_SOC": 2833,
        "VDD_IN": 13798,
    }
    assert sample.total_power == TotalPower(13798, ("VDD_IN",), "input-rail")
    total = sample_of({**ORIN_NANO, "power": AGX_XAVIER_POWER}).total_power
    assert total is not None
    assert (total.cur_mw, total.how) == (32850, "sum-of-rails")


def test_zeros_that_stand_for_unknown_are_none() -> None:
    sample = sample_of({**ORIN_NANO, "gpu": THOR_GPU, "memory": {}})
    assert (sample.gr3d, sample.gpu_limits, sample.ram, sample.emc) == (Gpu(None, (1575,)), None, None, None)


@pytest.mark.parametrize("power", [{}, {"rail": {}, "tot": {"power": 0, "avg": 0}}])
def test_a_board_without_rails_has_no_power(power: dict) -> None:
    sample = sample_of({**ORIN_NANO, "power": power})
    assert (dict(sample.power_mw), sample.total_power) == ({}, None)


def test_without_news_there_is_no_sample() -> None:
    library = FakeJtop(ORIN_NANO)
    source = JtopSource(0.5, library=library)
    assert source.read(0.0) is None
    library.send()
    assert source.read(0.0) is not None
    assert source.read(0.0) is None


def test_a_service_that_isnt_there_is_an_error() -> None:
    with pytest.raises(TelemetryError, match=r"jtop: The jtop.service is not active"):
        JtopSource(library=FakeJtop(ORIN_NANO, failures=1))


@pytest.mark.parametrize("loss", ["ended", "raised", "strange record"])
def test_a_service_that_is_lost_is_an_error_and_then_asked_again(loss: str) -> None:
    library, clock = FakeJtop(ORIN_NANO), Clock()
    source = JtopSource(library=library, clock=clock)
    library.send()
    library.is_running = loss != "ended"
    library.error = ConnectionResetError("made-up") if loss == "raised" else None
    library.record = {} if loss == "strange record" else ORIN_NANO
    with pytest.raises(TelemetryError, match="jtop: "):
        source.read(0.0)
    assert not library.clients[0].is_open
    library.is_running, library.error, library.record = True, None, ORIN_NANO
    assert source.read(0.0) is None
    assert len(library.clients) == 1
    clock.now_ns += 3_000_000_000
    assert source.read(0.0) is None
    library.send()
    assert source.read(0.0) is not None
    assert source.restarts == 1


def test_it_is_imported_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jtop", None)
    with pytest.raises(TelemetryError, match=r"pip install 'edge-runtime\[jetson\]'"):
        JtopSource()

"""The fake builder calls a calibrator in TensorRT's order, and is as hard on its mistakes."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest
from fakes.cuda import FakeCuda
from fakes.tensorrt import fake_tensorrt, plan_record
from fakes.tensorrt_session import Session, dense_model

ROWS = ((2, 4), (2, 4), (2, 4))
SURFACES = ("8.2", "8.5", "8.6", "10.3", "10.13")


class Calibration:
    """A session with a GPU and one batch on it."""

    def __init__(self, surface: str) -> None:
        self.cuda = FakeCuda()
        self.cuda.use_device(0)
        self.session = Session(fake_tensorrt(surface, self.cuda))
        self.address = self.cuda.allocate_device(32)
        self.cuda.view(self.address, 32)[:] = np.full(8, 1.27, np.float32).view(np.uint8)

    def calibrator(self, calls: List[Any], cache: Any = None, batches: int = 2, fails_at: str = "") -> Any:
        base, address = self.session.module.IInt8EntropyCalibrator2, self.address

        def note(call: str, *values: Any) -> None:
            calls.append((call, *values) if values else call)
            if call == fails_at:
                raise ValueError(call)

        class Calibrator(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def get_batch_size(self) -> int:
                note("size")
                return 2

            def get_batch(self, names: List[str]) -> Any:
                note("batch")
                return [address] * len(names) if calls.count("batch") <= batches else None

            def read_calibration_cache(self) -> Any:
                note("read")
                return cache

            def write_calibration_cache(self, cache: Any) -> None:
                note("write", bytes(cache).decode())

        return Calibrator()

    def build(self, calibrator: Any) -> Any:
        config = self.session.config("INT8", x=ROWS)
        config.int8_calibrator = calibrator
        network, parser = self.session.parsed(dense_model())
        plan = self.session.builder.build_serialized_network(network, config)
        assert parser.num_errors == 0
        return plan


def header(surface: str) -> str:
    return {"8.2": "TRT-8201", "8.5": "TRT-8502", "8.6": "TRT-8601", "10.3": "TRT-100300", "10.13": "TRT-101303"}[
        surface
    ]


@pytest.mark.parametrize("surface", SURFACES)
def test_batches_are_asked_for_until_there_are_no_more(surface: str) -> None:
    found, calls = Calibration(surface), []
    plan = found.build(found.calibrator(calls))
    assert calls[:-1] == ["size", "read", "batch", "batch", "batch"]
    assert calls[-1][1].splitlines() == [f"{header(surface)}-EntropyCalibration2", "x: 3c23d70a"]  # 1.27 / 127
    assert plan_record(plan)["calibration"]["batches"] == 2


def test_a_cache_of_this_version_is_used_as_it_is() -> None:
    found, calls = Calibration("8.6"), []
    cache = f"{header('8.6')}-EntropyCalibration2\nx: 3c23d70a\n"
    plan = found.build(found.calibrator(calls, cache.encode()))
    assert calls == ["size", "read"]
    assert plan_record(plan)["calibration"]["scales"] == {"x": "3c23d70a"}
    assert "Missing scale and zero-point for tensor y" in found.session.take("WARNING")


def test_a_cache_of_another_version_is_passed_over() -> None:
    found, calls = Calibration("8.6"), []
    found.build(found.calibrator(calls, b"TRT-8205-EntropyCalibration2\nx: 3c23d70a\n"))
    assert calls.count("batch") == 3


def test_an_exception_ends_the_process_on_8_2() -> None:
    found = Calibration("8.2")
    with pytest.raises(AssertionError, match="std::terminate: get_batch raised"):
        found.build(found.calibrator([], fails_at="batch"))


def test_an_exception_means_no_more_batches_later(capfd: pytest.CaptureFixture) -> None:
    found = Calibration("8.6")
    assert found.build(found.calibrator([], fails_at="batch")) is None
    assert "no scaling factors" in found.session.take()
    assert "Exception caught in get_batch()" in capfd.readouterr().err


def test_a_half_calibration_is_written(capfd: pytest.CaptureFixture) -> None:
    found, calls = Calibration("8.6"), []
    calibrator = found.calibrator(calls)
    first = calibrator.get_batch

    def get_batch(names: List[str]) -> Any:
        if calls.count("batch"):
            raise ValueError("lost")
        return first(names)

    calibrator.get_batch = get_batch
    assert found.build(calibrator) is not None
    assert calls[-1][0] == "write"
    assert "lost" in capfd.readouterr().err


def test_too_few_addresses_are_read_past_their_end() -> None:
    found = Calibration("8.6")
    calibrator = found.calibrator([])
    calibrator.get_batch = lambda names: np.empty(0, np.int64) if names else None
    assert found.build(calibrator) is None  # none at all is the end
    found.address += 4
    with pytest.raises(AssertionError, match="reach beyond"):
        found.build(found.calibrator([]))


def test_int8_without_scales_fails() -> None:
    found = Calibration("8.6")
    assert found.build(None) is None
    assert "no scaling factors" in found.session.take()


def test_int8_with_ranges_for_all_tensors_builds() -> None:
    session = Calibration("8.6").session
    network, _parser = session.parsed(dense_model())
    tensors = [network.get_input(0), *(layer.get_output(0) for layer in network)]
    for tensor in tensors:
        tensor.set_dynamic_range(-1.0, 1.0)
    assert session.builder.build_serialized_network(network, session.config("INT8", x=ROWS)) is not None


def test_a_calibration_profile_gives_the_shapes() -> None:
    found, calls = Calibration("10.3"), []
    session = found.session
    config = session.config("INT8", x=((1, 4), (8, 4), (8, 4)))
    profile = session.builder.create_optimization_profile()
    profile.set_shape("x", *ROWS)
    assert config.set_calibration_profile(profile)
    config.int8_calibrator = found.calibrator(calls)
    network, _parser = session.parsed(dense_model())
    assert session.builder.build_serialized_network(network, config) is not None
    assert "Running calibration with Profile 0" not in session.take("WARNING")

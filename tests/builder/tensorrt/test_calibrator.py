from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from fakes.cuda import FakeCuda
from fakes.tensorrt import fake_tensorrt

from edge_runtime.builder.tensorrt.calibrator import BatchSource, CacheSource, StoredErrors, make_calibrator
from edge_runtime.builder.tensorrt.spool import Batches, write_batches
from edge_runtime.calibration.sample import Sample
from edge_runtime.errors import CalibrationError
from edge_runtime.tensorrt_api import from_module
from edge_runtime.tensors import DType, TensorSpec

SPECS = (TensorSpec("a", DType.FP32, (-1, 2)), TensorSpec("b", DType.INT32, (-1,)))
CACHE = "TRT-8205-MinMaxCalibration\nx: 3c010204\n"


@pytest.fixture
def spooled(tmp_path: Path) -> Batches:
    samples = [Sample({"a": np.full((2, 2), n, np.float64), "b": np.array([n, n])}) for n in range(3)]
    assert write_batches(tmp_path / "spool", ["a", "b"], samples) == (3, 0)
    return Batches(tmp_path / "spool")


@pytest.fixture
def cuda() -> FakeCuda:
    cuda = FakeCuda()
    cuda.use_device(0)
    return cuda


def contents(cuda: FakeCuda, addresses: List[int]) -> Tuple[Any, Any]:
    return cuda.view(addresses[1], 16).view(np.float32).tolist(), cuda.view(addresses[0], 8).view(np.int32).tolist()


def test_batches_reach_the_device_in_the_types_and_the_order_that_tensorrt_wants(spooled: Batches, cuda: Any) -> None:
    with BatchSource(spooled, SPECS, cuda, 0) as source:
        assert source.batch_size == 2
        seen = [contents(cuda, source.addresses(["b", "a"]) or []) for _ in range(3)]
        assert seen == [([n] * 4, [n] * 2) for n in range(3)]
        assert source.is_complete
        assert source.addresses(["b", "a"]) is None
    cuda.check_leaks()


def test_names_that_were_not_spooled_are_refused(spooled: Batches, cuda: Any) -> None:
    with BatchSource(spooled, SPECS, cuda, 0) as source, pytest.raises(CalibrationError, match=r"got \['a', 'c'\]"):
        source.addresses(["a", "c"])


@pytest.mark.parametrize("failing", range(4))
def test_memory_that_runs_out_half_way_is_given_back(spooled: Batches, cuda: Any, failing: int) -> None:
    name = "allocate_host" if failing % 2 else "allocate_device"
    cuda.fail_next(name, 2, after=failing // 2)
    with pytest.raises(Exception, match="memory"):
        BatchSource(spooled, SPECS, cuda, 0)
    cuda.check_leaks()


def test_no_samples_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no calibration samples"):
        write_batches(tmp_path / "spool", ["a"], [])


def test_a_batch_of_another_shape_is_left_out(tmp_path: Path) -> None:
    samples = [Sample({"a": np.zeros((rows, 2))}) for rows in (4, 4, 1)]
    assert write_batches(tmp_path / "spool", ["a"], samples) == (2, 1)


def test_a_cache_gets_the_header_of_the_version_that_reads_it() -> None:
    source = CacheSource(CACHE, "10.3.0")
    assert source.cache() == b"TRT-100300-EntropyCalibration2\nx: 3c010204\n"
    with pytest.raises(CalibrationError, match="doesn't take the calibration cache"):
        source.addresses(["x"])


class Broken:
    batch_size = 1

    def addresses(self, names: Any) -> Any:
        raise OSError("the disk is gone")

    cache = store = addresses


@pytest.mark.parametrize("surface", ["8.2", "10.3"])
def test_what_a_source_raises_never_reaches_tensorrt_and_always_reaches_us(surface: str) -> None:
    errors = StoredErrors()
    library = from_module("tensorrt", fake_tensorrt(surface))
    calibrator = make_calibrator(library, Broken(), errors)  # type: ignore[arg-type]
    assert calibrator.get_batch(["x"]) is None
    assert calibrator.read_calibration_cache() is None
    calibrator.write_calibration_cache(b"half a cache")
    with pytest.raises(OSError, match="the disk is gone"):
        errors.raise_first()

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.cuda import FakeCuda

from edge_runtime.device.cuda.port import CopyKind
from edge_runtime.engine.tensorrt.tensor_io import EngineTensor
from edge_runtime.engine.tensorrt.tensor_memory import TensorMemory
from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType


def memory_of(cuda: FakeCuda, kind: str = "copy", wide: DType | None = None, **tensor: Any) -> TensorMemory:
    described = {"is_input": True, "dtype": DType.FP32, "shape": (-1, 4), "is_host": False, **tensor}
    return TensorMemory(cuda, EngineTensor("x", **described), wide or DType.FP32, lambda nbytes: kind, "model 'm'")


@pytest.fixture
def cuda() -> Any:
    found = FakeCuda()
    found.use_device(0)
    yield found
    found.check_leaks()


@pytest.mark.parametrize("kind", ["copy", "mapped"])
def test_memory_for_nothing_has_an_address_and_nothing_to_copy(cuda: FakeCuda, kind: str) -> None:
    memory = memory_of(cuda, kind)
    assert memory.fit(memory.nbytes((0, 4)))
    assert memory.address
    assert memory.view((0, 4)).shape == (0, 4)
    assert memory.copy(memory.nbytes((0, 4))) is None
    memory.close()


@pytest.mark.parametrize(
    ("kind", "is_host", "calls"),
    [
        ("copy", False, ["host", "device"]),
        ("mapped", False, ["mapped"]),
        ("copy", True, ["host"]),
        ("mapped", True, ["host"]),
    ],
)
def test_what_is_allocated_for_each_kind(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, kind: str, is_host: bool, calls: list
) -> None:
    asked: list = []
    host, device = cuda.allocate_host, cuda.allocate_device
    monkeypatch.setattr(
        cuda, "allocate_host", lambda n, mapped: asked.append("mapped" if mapped else "host") or host(n, mapped)
    )
    monkeypatch.setattr(cuda, "allocate_device", lambda n: asked.append("device") or device(n))
    memory = memory_of(cuda, kind, is_host=is_host)
    memory.fit(64)
    assert asked == calls
    assert (memory.address == memory.values((1, 4)).ctypes.data) == is_host
    memory.close()


def test_what_was_outgrown_is_kept_until_the_run_is_over(cuda: FakeCuda) -> None:
    memory = memory_of(cuda)
    memory.fit(16)
    first = memory.address
    assert not memory.fit(16)
    assert memory.fit(17)
    assert memory.address != first
    assert cuda.counts["free_device"] == cuda.counts["free_host"] == 0
    memory.settle()
    assert cuda.counts["free_device"] == cuda.counts["free_host"] == 1
    assert memory.capacity == 20  # whole elements
    memory.close()
    memory.close()


def test_a_failed_growth_leaves_what_was_there(cuda: FakeCuda) -> None:
    memory = memory_of(cuda)
    memory.fit(16)
    memory.view((1, 4))[:] = 7
    address = memory.address
    cuda.fail_next("allocate_device", 2)
    with pytest.raises(Exception, match="out of memory"):
        memory.fit(64)
    assert (memory.address, memory.capacity) == (address, 16)
    assert memory.view((1, 4)).tolist() == [[7, 7, 7, 7]]
    memory.close()


@pytest.mark.parametrize(("is_input", "kind"), [(True, CopyKind.HOST_TO_DEVICE), (False, CopyKind.DEVICE_TO_HOST)])
def test_copies_go_in_for_inputs_and_out_for_outputs(cuda: FakeCuda, is_input: bool, kind: CopyKind) -> None:
    memory = memory_of(cuda, is_input=is_input)
    memory.fit(32)
    copy = memory.copy(16)
    assert copy is not None
    assert (copy.nbytes, copy.kind) == (16, kind)
    assert (copy.destination if is_input else copy.source) == memory.address
    memory.close()


def test_a_narrower_integer_is_given_and_taken(cuda: FakeCuda) -> None:
    memory = memory_of(cuda, "mapped", wide=DType.INT64, dtype=DType.INT32, shape=(2,))
    memory.fit(memory.nbytes((2,)))
    memory.view((2,))[:] = [-(2**31), 2**31 - 1]
    memory.narrow((2,))
    assert memory.values((2,)).dtype == np.int32
    memory.view((2,))[:] = 0
    memory.widen((2,))
    assert memory.view((2,)).tolist() == [-(2**31), 2**31 - 1]
    memory.close()


def test_an_integer_without_a_place_is_refused(cuda: FakeCuda) -> None:
    memory = memory_of(cuda, "mapped", wide=DType.INT64, dtype=DType.INT32, shape=(2,))
    memory.fit(8)
    memory.view((2,))[:] = [0, -(2**31) - 1]
    with pytest.raises(InvalidRequestError, match=r"expected values of INT32, .* got -2147483649"):
        memory.narrow((2,))
    memory.close()


def test_a_float_without_a_place_is_infinite(cuda: FakeCuda) -> None:
    memory = memory_of(cuda, "mapped", wide=DType.FP64, dtype=DType.FP32, shape=(2,))
    memory.fit(8)
    memory.view((2,))[:] = [0.5, -1e300]
    memory.narrow((2,))
    assert memory.values((2,)).tolist() == [0.5, -np.inf]
    memory.close()

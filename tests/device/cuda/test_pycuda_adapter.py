from __future__ import annotations

import contextlib
import gc
import threading
from typing import Callable

import numpy as np
import pytest
from fakes.pycuda_driver import FakePycuda

from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer, RegisteredBuffer
from edge_runtime.device.cuda.port import CopyKind, Cuda, DeviceAttributes, MemoryInfo, version_text
from edge_runtime.device.cuda.pycuda_adapter import PyCuda
from edge_runtime.device.cuda.streams import Event, Stream
from edge_runtime.errors import BackendError, BackendUnavailableError, DeviceLostError


@pytest.fixture
def driver() -> FakePycuda:
    return FakePycuda()


@pytest.fixture
def cuda(driver: FakePycuda, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    monkeypatch.setattr("atexit.register", lambda function: function)
    cuda: Cuda = PyCuda(driver, "2022.1")
    cuda.use_device(0)
    return cuda


def run_in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return thread


def test_a_device_is_described_and_cannot_register(cuda: Cuda) -> None:
    assert (cuda.name, cuda.has_graphs, cuda.device_count()) == ("pycuda 2022.1", False, 1)
    assert (version_text(cuda.driver_version()), version_text(cuda.runtime_version())) == ("11.4", "11.4")
    assert cuda.attributes(0) == DeviceAttributes("Xavier", (7, 2), True, True, False, False, 8 << 30)
    assert cuda.memory_info() == MemoryInfo(3, 8)
    cuda.synchronize_device()
    cuda.check()


def test_a_round_trip_leaves_nothing(cuda: Cuda, driver: FakePycuda) -> None:
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(Stream(cuda))
        device, other, host = (stack.enter_context(kind(cuda, 8)) for kind in (DeviceBuffer, DeviceBuffer, HostBuffer))
        host.array(np.uint8, (8,))[:] = range(8)
        stream.copy(device.address, host.address, 8, CopyKind.HOST_TO_DEVICE)
        stream.fill(device.address, 9, 2)
        stream.copy(other.address, device.address, 8, CopyKind.DEVICE_TO_DEVICE)
        stream.copy(host.address, other.address, 6, CopyKind.DEVICE_TO_HOST)
        stream.synchronize()
        assert host.array(np.uint8, (8,)).tolist() == [9, 9, 2, 3, 4, 5, 6, 7]
    assert driver.alive == 0


def test_events_order_and_measure(cuda: Cuda, driver: FakePycuda) -> None:
    with Stream(cuda) as stream, Event(cuda, timing=True) as start, Event(cuda, timing=True, blocking=True) as end:
        start.record(stream)
        end.record(stream)
        stream.wait(end)
        end.synchronize()
        assert (end.is_done, end.elapsed_ms(start)) == (True, 1.5)
    assert driver.alive == 0


def test_mapped_memory_has_a_device_address_inside_it_too(cuda: Cuda) -> None:
    with HostBuffer(cuda, 64, mapped=True) as host, HostBuffer(cuda, 64) as unmapped:
        assert host.device_address == 0xA000
        assert cuda.device_address(host.address + 5) == 0xA005
        with pytest.raises(BackendError, match="invalid argument"):
            cuda.device_address(unmapped.address)


def test_every_thread_gets_the_one_context_and_ends_without_it(cuda: Cuda, driver: FakePycuda) -> None:
    seen = []

    def work() -> None:
        cuda.use_device(0)
        cuda.use_device(0)
        with DeviceBuffer(cuda, 8):
            seen.extend(driver.stack())

    threads = [run_in_thread(work) for _ in range(2)]
    assert len(seen) == len(set(seen)) + 1 == 2
    gc.collect()
    assert [driver.stacks[thread.ident or 0] for thread in threads] == [[], []]


def test_a_thread_without_a_context_may_only_give_back(cuda: Cuda, driver: FakePycuda) -> None:
    resources = [DeviceBuffer(cuda, 8), HostBuffer(cuda, 8), Stream(cuda), Event(cuda)]
    refused = []

    def work() -> None:
        try:
            DeviceBuffer(cuda, 8)
        except BackendError as error:
            refused.append(str(error))
        for resource in resources:
            resource.close()

    thread = run_in_thread(work)
    assert driver.alive == 0
    assert driver.stacks[thread.ident or 0] == []
    assert "invalid device context; call use_device on this thread first" in refused[0]


def test_the_end_of_the_process_releases_the_context(cuda: Cuda, driver: FakePycuda) -> None:
    cuda._contexts.close()  # type: ignore[attr-defined]
    assert (driver.stack(), driver.released) == ([], [1])


@pytest.mark.parametrize(
    ("problem", "kind", "message"),
    [
        ("out of memory", BackendError, r"cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY \(2\): out of memory; use smaller"),
        ("an illegal memory access was encountered", DeviceLostError, "end this process and start a new one"),
        ("no CUDA-capable device is detected", BackendUnavailableError, "machine with an NVIDIA GPU"),
        ("invalid argument - not an array", BackendError, r"\(1\): invalid argument - not an array$"),
        ("words of tomorrow", BackendError, "^cuMemAlloc: words of tomorrow$"),
    ],
)
def test_the_drivers_text_becomes_an_error_of_ours(
    cuda: Cuda, driver: FakePycuda, problem: str, kind: type, message: str
) -> None:
    driver.problem = problem
    with pytest.raises(BackendError, match=message) as caught:
        DeviceBuffer(cuda, 8)
    assert type(caught.value) is kind


def test_what_pycuda_cannot_do_is_refused_with_the_way_out(cuda: Cuda) -> None:
    with pytest.raises(BackendError, match=r"pycuda 2022\.1 can't register 16 bytes at .*, or install cuda-python"):
        RegisteredBuffer(cuda, bytearray(16))
    with pytest.raises(BackendError, match="isn't registered"):
        cuda.unregister_host(16)
    with Stream(cuda) as stream:
        with pytest.raises(BackendError, match=r"pycuda 2022\.1 has no CUDA graphs"):
            stream.capture(lambda: None)
        with pytest.raises(BackendError, match="has no CUDA graphs"):
            cuda.abandon_capture(stream=stream.handle)


@pytest.mark.parametrize("call", ["free_device", "free_host", "destroy_stream", "destroy_event", "synchronize_stream"])
def test_an_unknown_number_is_refused(cuda: Cuda, call: str) -> None:
    with pytest.raises(BackendError, match=r"0x4d2 is no .* of this process, or no longer"):
        getattr(cuda, call)(1234)
    with pytest.raises(BackendError, match="0x4d2 is no pinned host memory"):
        cuda.device_address(1234)

from __future__ import annotations

import contextlib
import inspect
import re
from typing import Any, Callable

import pytest
from fakes.cuda_runtime import CONSTANTS, ENUMERATIONS, CaptureMode, CopyDirection, FakeRuntime, Status

from edge_runtime.device.cuda import cuda_python
from edge_runtime.device.cuda.cuda_python import CudaPython, load_cuda_python
from edge_runtime.device.cuda.loading import driver_version
from edge_runtime.device.cuda.port import CopyKind, Cuda, DeviceAttributes, MemoryInfo, version_text
from edge_runtime.errors import BackendError, BackendUnavailableError, DeviceLostError

CODE = re.sub("#.*", "", inspect.getsource(cuda_python))
NAMES = sorted(set(re.findall(r"\bcuda[A-Z]\w+", CODE)) - {"cudaError"})


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def cuda(runtime: FakeRuntime) -> Cuda:
    return CudaPython(runtime, "12.9.1")


def test_a_device_is_described_by_attributes(cuda: Cuda) -> None:
    assert (cuda.name, cuda.has_graphs, cuda.device_count()) == ("cuda-python 12.9.1", True, 1)
    assert (version_text(cuda.driver_version()), version_text(cuda.runtime_version())) == ("12.4", "12.9")
    assert cuda.attributes(0) == DeviceAttributes("Orin", (8, 7), True, True, True, False, 8 << 30)
    assert cuda.memory_info() == MemoryInfo(3, 8)


def calls() -> dict[str, tuple[Callable[[Cuda], Any], tuple[Any, ...]]]:
    to_host, local = CopyDirection.cudaMemcpyDeviceToHost, CaptureMode.cudaStreamCaptureModeThreadLocal
    return {
        "use_device": (lambda c: c.use_device(1), ("cudaSetDevice", 1)),
        "device": (lambda c: c.allocate_device(16), ("cudaMalloc", 16)),
        "pinned": (lambda c: c.allocate_host(16, False), ("cudaHostAlloc", 16, 1)),
        "mapped": (lambda c: c.allocate_host(16, True), ("cudaHostAlloc", 16, 3)),
        "register": (lambda c: c.register_host(4096, 16, False), ("cudaHostRegister", 4096, 16, 1)),
        "register mapped": (lambda c: c.register_host(4096, 16, True), ("cudaHostRegister", 4096, 16, 3)),
        "unregister": (lambda c: c.unregister_host(4096), ("cudaHostUnregister", 4096)),
        "device address": (lambda c: c.device_address(4096), ("cudaHostGetDevicePointer", 4096, 0)),
        "stream": (lambda c: c.create_stream(), ("cudaStreamCreateWithFlags", 1)),
        "copy": (
            lambda c: c.copy_async(1, 2, 16, CopyKind.DEVICE_TO_HOST, 5),
            ("cudaMemcpyAsync", 1, 2, 16, to_host, 5),
        ),
        "fill": (lambda c: c.fill_async(1, 255, 16, 5), ("cudaMemsetAsync", 1, 255, 16, 5)),
        "wait": (lambda c: c.wait_event(5, 6), ("cudaStreamWaitEvent", 5, 6, 0)),
        "event": (lambda c: c.create_event(False), ("cudaEventCreateWithFlags", 2)),
        "timed event": (lambda c: c.create_event(True), ("cudaEventCreateWithFlags", 0)),
        "sleeping event": (lambda c: c.create_event(False, blocking=True), ("cudaEventCreateWithFlags", 3)),
        "record": (lambda c: c.record_event(6, 5), ("cudaEventRecord", 6, 5)),
        "elapsed": (lambda c: c.elapsed_ms(6, 7), ("cudaEventElapsedTime", 6, 7)),
        "capture": (lambda c: c.begin_capture(5), ("cudaStreamBeginCapture", 5, local)),
        "launch": (lambda c: c.launch_graph(8, 5), ("cudaGraphLaunch", 8, 5)),
        "free device": (lambda c: c.free_device(1), ("cudaFree", 1)),
        "free host": (lambda c: c.free_host(1), ("cudaFreeHost", 1)),
        "destroy stream": (lambda c: c.destroy_stream(5), ("cudaStreamDestroy", 5)),
        "destroy event": (lambda c: c.destroy_event(6), ("cudaEventDestroy", 6)),
        "destroy graph": (lambda c: c.destroy_graph(8), ("cudaGraphExecDestroy", 8)),
        "wait for stream": (lambda c: c.synchronize_stream(5), ("cudaStreamSynchronize", 5)),
        "wait for event": (lambda c: c.synchronize_event(6), ("cudaEventSynchronize", 6)),
        "wait for device": (lambda c: c.synchronize_device(), ("cudaDeviceSynchronize",)),
    }


@pytest.mark.parametrize("name", calls())
def test_each_call_is_one_of_the_runtimes(cuda: Cuda, runtime: FakeRuntime, name: str) -> None:
    call, expected = calls()[name]
    result = call(cuda)
    assert runtime.calls == [expected]
    assert result is None or type(result) in (int, float)


def test_a_capture_becomes_an_executable_graph_and_its_template_goes(cuda: Cuda, runtime: FakeRuntime) -> None:
    executable = cuda.end_capture(5)
    template = runtime.calls[1][1]
    assert [call[0] for call in runtime.calls] == [
        "cudaStreamEndCapture",
        "cudaGraphInstantiateWithFlags",
        "cudaGraphDestroy",
    ]
    assert runtime.calls[2][1] is template
    assert type(executable) is int
    assert executable != int(template)


def test_the_template_goes_when_it_cannot_be_made_executable(cuda: Cuda, runtime: FakeRuntime) -> None:
    runtime.answers["cudaGraphInstantiateWithFlags"] = 2
    with pytest.raises(BackendError, match="out of memory"):
        cuda.end_capture(5)
    assert runtime.calls[-1][0] == "cudaGraphDestroy"


@pytest.mark.parametrize(("status", "last"), [(0, "cudaGraphDestroy"), (901, "cudaStreamEndCapture")])
def test_an_abandoned_capture_leaves_no_graph_and_no_error(
    cuda: Cuda, runtime: FakeRuntime, status: int, last: str
) -> None:
    runtime.answers["cudaStreamEndCapture"] = status
    cuda.abandon_capture(5)
    assert runtime.calls[-1][0] == last
    cuda.check()


def test_an_event_that_is_not_done_is_no_error(cuda: Cuda, runtime: FakeRuntime) -> None:
    runtime.answers["cudaEventQuery"] = 600
    assert not cuda.is_event_done(6)
    cuda.check()
    assert cuda.is_event_done(6)
    runtime.answers["cudaEventQuery"] = 700
    with pytest.raises(DeviceLostError, match=r"cudaEventQuery: cudaErrorIllegalAddress \(700\)"):
        cuda.is_event_done(6)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (2, BackendError, r"cudaMalloc: cudaErrorMemoryAllocation \(2\): out of memory; use smaller shapes"),
        (100, BackendUnavailableError, "no CUDA-capable device is detected; run it on a machine with an NVIDIA GPU"),
        (35, BackendUnavailableError, "install the CUDA bindings for that driver"),
        (700, DeviceLostError, "the GPU's context is dead: end this process and start a new one"),
        (
            RuntimeError('Function "cuInit" not found'),
            BackendUnavailableError,
            "the NVIDIA driver is missing, or older",
        ),
        (ValueError("721 is not a valid cudaError_t"), BackendError, "721 is not a valid cudaError_t; update cuda"),
    ],
)
def test_every_failure_is_ours_and_reported_once(
    cuda: Cuda, runtime: FakeRuntime, status: int | Exception, kind: type, message: str
) -> None:
    runtime.answers["cudaMalloc"] = status
    with pytest.raises(BackendError, match=message) as caught:
        cuda.allocate_device(1)
    assert type(caught.value) is kind
    cuda.check()


def test_an_error_that_somebody_else_left_is_raised_and_forgotten(cuda: Cuda, runtime: FakeRuntime) -> None:
    runtime.last = Status(1)
    with pytest.raises(BackendError, match="cudaErrorInvalidValue"):
        cuda.check()
    cuda.check()


def test_without_a_driver_its_version_is_zero(cuda: Cuda, runtime: FakeRuntime) -> None:
    runtime.answers["cudaDriverGetVersion"] = RuntimeError('Function "cuDriverGetVersion" not found')
    assert cuda.driver_version() == 0
    assert version_text(0) == "none"


@pytest.fixture
def installed() -> Any:
    """The bindings that are installed here, of whatever version."""
    try:
        return load_cuda_python()._runtime
    except BackendUnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_bindings_have_each_name(installed: Any, name: str) -> None:
    assert any(hasattr(place, name) for place in (installed, *(getattr(installed, each) for each in ENUMERATIONS)))


@pytest.mark.parametrize("name", calls())
def test_the_installed_bindings_take_each_calls_arguments(installed: Any, name: str) -> None:
    if driver_version() is not None:
        pytest.skip("this machine has a driver, and the arguments are made up")
    with contextlib.suppress(BackendError):  # what they don't take is a TypeError
        calls()[name][0](CudaPython(installed, "of any version"))


@pytest.mark.parametrize("name", NAMES)
def test_the_fake_has_each_name(name: str) -> None:
    assert any(hasattr(place, name) for place in (FakeRuntime(), *ENUMERATIONS.values()))


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_the_fakes_numbers_are_those_of_the_bindings(installed: Any, name: str) -> None:
    theirs = getattr(installed, name)
    for item in ENUMERATIONS[name]:
        assert int(getattr(theirs, item.name)) == item
    for constant, value in CONSTANTS.items():
        assert int(getattr(installed, constant)) == value


def test_the_installed_bindings_without_a_driver_say_so(installed: Any) -> None:
    if driver_version() is not None:
        pytest.skip("this machine has a driver")
    with pytest.raises(BackendUnavailableError):
        load_cuda_python().device_count()
    assert load_cuda_python().driver_version() == 0

"""The adapters on a GPU, whichever of their libraries is installed; on a fake driver in test_real_bindings.py."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
import threading
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

from edge_runtime.device.cuda.loading import ADAPTERS, open_cuda, probe
from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer, RegisteredBuffer
from edge_runtime.device.cuda.port import CopyKind, Cuda, version_text
from edge_runtime.device.cuda.streams import Event, Stream
from edge_runtime.errors import BackendError

pytestmark = pytest.mark.gpu

NBYTES = 1 << 20
KERNEL = """
.version 5.0
.target sm_50
.address_size 64
.visible .entry bad() {
    .reg .b64 %rd1;
    .reg .b32 %r1;
    mov.u64 %rd1, 64;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
"""
LAUNCH = {
    "cuda-python": """
        try:
            from cuda.bindings import driver
        except ImportError:
            from cuda import cuda as driver
        _, module = driver.cuModuleLoadData(KERNEL.encode() + b"\\0")
        _, function = driver.cuModuleGetFunction(module, b"bad")
        driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0)
    """,
    "pycuda": """
        import pycuda.driver as driver
        function = driver.module_from_buffer(KERNEL.encode() + b"\\0").get_function("bad")
        function(block=(1, 1, 1), stream=driver.Stream())
    """,
}


@pytest.fixture(params=ADAPTERS)
def cuda(request: pytest.FixtureRequest) -> Cuda:
    found = probe(request.param)
    if not found.device_count:
        pytest.skip(f"{request.param}: {found.problem}")
    cuda = open_cuda(0, request.param)
    cuda.use_device(0)
    return cuda


def run_child(cuda: Cuda, script: str) -> subprocess.CompletedProcess[str]:
    adapter = cuda.name.split()[0]
    start = f"""
        from edge_runtime.device.cuda.loading import open_cuda
        from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer
        from edge_runtime.device.cuda.streams import Event, Stream
        from edge_runtime.errors import BackendError, DeviceLostError
        cuda = open_cuda(0, {adapter!r})
        cuda.use_device(0)
    """
    code = textwrap.dedent(start) + f"KERNEL = {KERNEL!r}\n" + textwrap.dedent(script)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_the_device_is_described(cuda: Cuda) -> None:
    attributes, memory = cuda.attributes(0), cuda.memory_info()
    assert attributes.name
    assert (5, 0) <= attributes.compute_capability < (20, 0)
    assert 0 < memory.free_nbytes <= memory.total_nbytes
    assert attributes.total_nbytes == pytest.approx(memory.total_nbytes, rel=0.1)
    assert version_text(cuda.driver_version()) >= "10"
    assert cuda.runtime_version() // 1000 <= cuda.driver_version() // 1000
    cuda.check()


def test_pinned_memory_goes_to_the_device_and_back(cuda: Cuda) -> None:
    values = np.random.default_rng(0).integers(0, 256, NBYTES, np.uint8)
    with Stream(cuda) as stream, DeviceBuffer(cuda, NBYTES) as device, HostBuffer(cuda, NBYTES) as host:
        assert (host.address % 256, device.address % 256) == (0, 0)
        host.array(np.uint8, (NBYTES,))[:] = values
        stream.copy(device.address, host.address, NBYTES, CopyKind.HOST_TO_DEVICE)
        stream.synchronize()
        host.array(np.uint8, (NBYTES,))[:] = 0
        stream.fill(device.address, 7, 5)
        stream.copy(host.address, device.address, NBYTES, CopyKind.DEVICE_TO_HOST)
        stream.synchronize()
        result = host.array(np.uint8, (NBYTES,))
        assert result[:5].tolist() == [7] * 5
        np.testing.assert_array_equal(result[5:], values[5:])
        del result


def test_mapped_memory_is_seen_by_the_device_and_by_the_host(cuda: Cuda) -> None:
    if not cuda.attributes(0).can_map_host:
        pytest.skip("this device can't map host memory")
    with Stream(cuda) as stream, DeviceBuffer(cuda, 64) as device, HostBuffer(cuda, 64, mapped=True) as host:
        host.array(np.uint8, (64,))[:] = range(64)
        stream.copy(device.address, host.device_address, 64, CopyKind.DEVICE_TO_DEVICE)
        stream.copy(host.device_address + 32, device.address, 32, CopyKind.DEVICE_TO_DEVICE)
        stream.synchronize()
        assert host.array(np.uint8, (64,)).tolist() == [*range(32), *range(32)]


@pytest.mark.parametrize("mapped", [False, True])
def test_shared_memory_is_registered_and_copied_to(cuda: Cuda, mapped: bool) -> None:
    shared = SharedMemory(create=True, size=8192)
    try:
        if cuda.attributes(0).can_register_host:
            with RegisteredBuffer(cuda, shared.buf, mapped) as buffer, DeviceBuffer(cuda, 8192) as device:
                with Stream(cuda) as stream:
                    stream.fill(device.address, 9, 8192)
                    stream.copy(buffer.address, device.address, 8192, CopyKind.DEVICE_TO_HOST)
                    if mapped:
                        stream.fill(buffer.device_address, 8, 4)
                    stream.synchronize()
                with pytest.raises(BackendError, match="register each page once"):
                    RegisteredBuffer(cuda, shared.buf, mapped)
            assert bytes(shared.buf[:5]) == (bytes([8, 8, 8, 8, 9]) if mapped else bytes([9] * 5))
        else:
            with pytest.raises(BackendError, match="copy"):
                RegisteredBuffer(cuda, shared.buf, mapped)
    finally:
        shared.close()
        shared.unlink()


def test_an_event_orders_streams_and_measures(cuda: Cuda) -> None:
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(Stream(cuda)) for _ in range(2))
        start, end = (stack.enter_context(Event(cuda, timing=True)) for _ in range(2))
        device, host = (stack.enter_context(kind(cuda, NBYTES)) for kind in (DeviceBuffer, HostBuffer))
        for value in range(8):
            start.record(first)
            first.fill(device.address, value, NBYTES)
            end.record(first)
            second.wait(end)
            second.copy(host.address, device.address, NBYTES, CopyKind.DEVICE_TO_HOST)
            second.synchronize()
            assert (host.array(np.uint8, (NBYTES,)) == value).all()
            assert end.is_done
            assert 0 <= end.elapsed_ms(start) < 1000


def test_a_blocking_event_can_be_waited_for(cuda: Cuda) -> None:
    with Stream(cuda) as stream, DeviceBuffer(cuda, NBYTES) as device, Event(cuda, blocking=True) as event:
        assert event.is_done
        stream.fill(device.address, 1, NBYTES)
        event.record(stream)
        event.synchronize()
        assert event.is_done


def test_a_graph_copies_what_is_there_when_it_is_launched(cuda: Cuda) -> None:
    with Stream(cuda) as stream, DeviceBuffer(cuda, 64) as device, HostBuffer(cuda, 128) as host:
        view = host.array(np.uint8, (128,))

        def record() -> None:
            stream.copy(device.address, host.address, 64, CopyKind.HOST_TO_DEVICE)
            stream.copy(host.address + 64, device.address, 64, CopyKind.DEVICE_TO_HOST)

        if not cuda.has_graphs:
            with pytest.raises(BackendError, match="has no CUDA graphs"):
                stream.capture(record)
            return
        with stream.capture(record) as graph:
            for value in (1, 2):
                view[:] = [value] * 64 + [0] * 64
                graph.launch(stream)
                stream.synchronize()
                assert set(view.tolist()) == {value}


def test_a_capture_that_waits_fails_and_the_stream_works_on(cuda: Cuda) -> None:
    if not cuda.has_graphs:
        pytest.skip(f"{cuda.name} has no graphs")
    with Stream(cuda) as stream, DeviceBuffer(cuda, 64) as device:
        with pytest.raises(BackendError, match=r"StreamCapture\w+ \(90\d\)"):
            stream.capture(stream.synchronize)
        stream.fill(device.address, 1, 64)
        stream.synchronize()
        cuda.check()


def test_threads_have_their_own_streams_and_may_end_in_any_order(cuda: Cuda) -> None:
    failures: list[str] = []

    def work(value: int) -> None:
        cuda.use_device(0)
        with Stream(cuda) as stream, DeviceBuffer(cuda, NBYTES) as device, HostBuffer(cuda, NBYTES) as host:
            for _ in range(20):
                stream.fill(device.address, value, NBYTES)
                stream.copy(host.address, device.address, NBYTES, CopyKind.DEVICE_TO_HOST)
                stream.synchronize()
                if not (host.array(np.uint8, (NBYTES,)) == value).all():
                    failures.append(f"thread {value}")

    threads = [threading.Thread(target=work, args=(value,)) for value in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_memory_is_given_back_by_a_thread_that_never_used_cuda(cuda: Cuda, caplog: pytest.LogCaptureFixture) -> None:
    buffer = HostBuffer(cuda, NBYTES)
    kept = [buffer.array(np.uint8, (NBYTES,))]
    buffer.close()
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    assert caplog.text == ""


def test_more_memory_than_there_is_is_refused_in_words(cuda: Cuda) -> None:
    with pytest.raises(BackendError, match=r"\(2\): out of memory; use smaller shapes"):
        DeviceBuffer(cuda, cuda.attributes(0).total_nbytes * 16)
    cuda.check()
    DeviceBuffer(cuda, 1024).close()


def test_a_process_may_end_with_everything_open(cuda: Cuda) -> None:
    script = """
        kept = [Stream(cuda), Event(cuda), DeviceBuffer(cuda, 64), HostBuffer(cuda, 64, mapped=True)]
        view = kept[3].array("uint8", (64,))
        print("end")
    """
    child = run_child(cuda, script)
    assert (child.returncode, child.stdout, child.stderr) == (0, "end\n", "")


def test_a_kernel_that_writes_where_it_may_not_loses_the_device(cuda: Cuda) -> None:
    if cuda.attributes(0).name.startswith("Fake"):
        pytest.skip("a fake driver runs no kernels")
    wait = """
        for _ in range(2):
            try:
                cuda.synchronize_device()
            except DeviceLostError as error:
                print("lost:", error)
    """
    child = run_child(cuda, textwrap.dedent(LAUNCH[cuda.name.split()[0]]) + textwrap.dedent(wait))
    lines = [line for line in child.stdout.splitlines() if line.startswith("lost:")]
    assert len(lines) == 2, child.stdout + child.stderr
    assert all("end this process and start a new one" in line for line in lines)

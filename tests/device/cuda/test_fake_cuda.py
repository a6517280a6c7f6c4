"""The fake is strict: what real CUDA punishes, it refuses."""

from __future__ import annotations

import ctypes
import threading
from typing import Callable

import numpy as np
import pytest
from fakes.cuda import DISCRETE, NANO, POISON, CudaViolationError, FakeCuda

from edge_runtime.device.cuda.port import CopyKind
from edge_runtime.errors import BackendError, BackendUnavailableError, DeviceLostError


@pytest.fixture
def fake() -> FakeCuda:
    """One that may be left in any state."""
    fake = FakeCuda()
    fake.use_device(0)
    return fake


def host_view(address: int, nbytes: int) -> np.ndarray:
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), np.uint8)


def test_work_runs_when_somebody_waits_and_its_target_is_poisoned_until_then(fake: FakeCuda) -> None:
    host, device, stream = fake.allocate_host(8, False), fake.allocate_device(8), fake.create_stream()
    host_view(host, 8)[:] = 3
    fake.copy_async(device, host, 8, CopyKind.HOST_TO_DEVICE, stream)
    fake.copy_async(host, device, 8, CopyKind.DEVICE_TO_HOST, stream)
    assert host_view(host, 8).tolist() == [3] * 8, "the first copy still reads it"
    fake.synchronize_stream(stream)
    fake.copy_async(host, device, 8, CopyKind.DEVICE_TO_HOST, stream)
    assert host_view(host, 8).tolist() == [POISON] * 8
    fake.synchronize_stream(stream)
    assert host_view(host, 8).tolist() == [3] * 8
    assert fake.counts["copy_async"] == 3


def test_streams_are_in_order_and_wait_for_events(fake: FakeCuda) -> None:
    first, second, event, done = fake.create_stream(), fake.create_stream(), fake.create_event(False), []
    fake.enqueue(first, lambda: done.append("first"))
    fake.record_event(event, first)
    fake.enqueue(first, lambda: done.append("later"))
    fake.wait_event(second, event)
    fake.enqueue(second, lambda: done.append("second"))
    fake.synchronize_stream(second)
    assert done == ["first", "second"]
    assert fake.pending(first) == ["kernel"]
    fake.synchronize_device()
    assert done == ["first", "second", "later"]


def test_polling_an_event_ends_and_time_passes(fake: FakeCuda) -> None:
    stream, start, end = fake.create_stream(), fake.create_event(True), fake.create_event(True)
    assert fake.is_event_done(end), "never recorded"
    fake.record_event(start, stream)
    fake.enqueue(stream, lambda: None)
    fake.record_event(end, stream)
    assert [fake.is_event_done(end) for _ in range(4)] == [False, False, False, True]
    assert fake.elapsed_ms(start, end) == 0.5


def test_a_replay_runs_what_was_recorded_on_what_is_there_now(fake: FakeCuda) -> None:
    device, stream, seen = fake.allocate_device(4), fake.create_stream(), []
    fake.begin_capture(stream)
    fake.fill_async(device, 7, 4, stream)
    fake.enqueue(stream, lambda: seen.append(fake.view(device, 4).tolist()))
    graph = fake.end_capture(stream)
    fake.synchronize_stream(stream)
    assert not seen
    for _ in range(2):
        fake.launch_graph(graph, stream)
    fake.synchronize_stream(stream)
    assert seen == [[7] * 4] * 2


def test_a_capture_takes_in_streams_that_wait_for_it_and_they_must_join_again(fake: FakeCuda) -> None:
    first, second, fork, join = fake.create_stream(), fake.create_stream(), *(fake.create_event(False) for _ in "ab")
    done: list = []

    def record(joins: bool) -> int:
        fake.begin_capture(first)
        fake.record_event(fork, first)
        fake.wait_event(second, fork)
        fake.enqueue(second, lambda: done.append(1))
        fake.record_event(join, second)
        if joins:
            fake.wait_event(first, join)
        return fake.end_capture(first)

    with pytest.raises(BackendError, match="unjoined"):
        record(joins=False)
    fake.launch_graph(record(joins=True), first)
    fake.synchronize_stream(first)
    assert done == [1]


@pytest.mark.parametrize(
    ("illegal", "number"),
    [
        (lambda fake, stream, event: fake.allocate_device(4), 900),
        (lambda fake, stream, event: fake.allocate_host(4, True), 900),
        (lambda fake, stream, event: fake.synchronize_stream(stream), 900),
        (lambda fake, stream, event: fake.synchronize_device(), 900),
        (lambda fake, stream, event: fake.synchronize_event(event), 907),
        (lambda fake, stream, event: fake.is_event_done(event), 907),
    ],
)
def test_what_cannot_be_captured_breaks_the_capture(fake: FakeCuda, illegal: Callable[..., None], number: int) -> None:
    stream, event = fake.create_stream(), fake.create_event(False)
    fake.begin_capture(stream)
    fake.record_event(event, stream)
    with pytest.raises(BackendError, match=f"\\({number}\\)"):
        illegal(fake, stream, event)
    with pytest.raises(BackendError, match=r"\(901\)"):
        fake.enqueue(stream, lambda: None)
    with pytest.raises(BackendError, match=r"\(901\)"):
        fake.end_capture(stream)
    fake.synchronize_stream(stream)


def test_another_thread_may_allocate_and_wait_during_a_capture(fake: FakeCuda) -> None:
    stream = fake.create_stream()
    fake.begin_capture(stream)

    def work() -> None:
        fake.use_device(0)
        fake.free_device(fake.allocate_device(4))
        fake.synchronize_stream(fake.create_stream())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    fake.destroy_graph(fake.end_capture(stream))


def violations() -> dict[str, Callable[[FakeCuda, int], None]]:
    host, to_device = CopyKind.DEVICE_TO_HOST, CopyKind.HOST_TO_DEVICE

    def twice(fake: FakeCuda, give: str, free: str, *arguments: object) -> None:
        handle = getattr(fake, give)(*arguments)
        getattr(fake, free)(handle)
        getattr(fake, free)(handle)

    def freed_in_use(fake: FakeCuda, stream: int) -> None:
        address = fake.allocate_host(4, False)
        fake.copy_async(fake.allocate_device(4), address, 4, to_device, stream)
        fake.free_host(address)

    def graph_of_freed(fake: FakeCuda, stream: int) -> None:
        address = fake.allocate_device(4)
        fake.begin_capture(stream)
        fake.fill_async(address, 0, 4, stream)
        graph = fake.end_capture(stream)
        fake.free_device(address)
        fake.launch_graph(graph, stream)

    def from_kernel(fake: FakeCuda, stream: int) -> None:
        fake.enqueue(stream, fake.synchronize_device)
        fake.synchronize_stream(stream)

    return {
        "given back twice": lambda fake, _: twice(fake, "allocate_device", "free_device", 4),
        "isn't the start of any host": lambda fake, _: fake.free_host(fake.allocate_host(8, True) + 4),
        "is no stream; it is destroyed": lambda fake, _: twice(fake, "create_stream", "destroy_stream"),
        "is no event; it is destroyed": lambda fake, _: twice(fake, "create_event", "destroy_event", True),
        "is no stream": lambda fake, _: fake.synchronize_stream(0),
        "is no graph": lambda fake, stream: fake.launch_graph(1, stream),
        "reach beyond device memory": lambda fake, stream: fake.fill_async(fake.allocate_device(4), 0, 5, stream),
        "is used after it was given back": graph_of_freed,
        "while a queued copy HOST_TO_DEVICE uses it": freed_in_use,
        "is a host address": lambda fake, _: fake.view(fake.allocate_host(4, True), 4),
        "is no device address": lambda fake, _: fake.view(12345, 4),
        "is a device address where host memory": lambda fake, stream: fake.copy_async(
            fake.allocate_device(4), fake.allocate_device(4), 4, host, stream
        ),
        "neither pinned nor registered": lambda fake, stream: fake.copy_async(
            fake.allocate_device(4), np.zeros(4).ctypes.data, 4, to_device, stream
        ),
        "an allocation of 0 bytes": lambda fake, _: fake.allocate_device(0),
        "isn't a byte": lambda fake, stream: fake.fill_async(fake.allocate_device(4), 256, 4, stream),
        "without timing": lambda fake, _: fake.elapsed_ms(fake.create_event(False), fake.create_event(False)),
        "a kernel can't call CUDA": from_kernel,
    }


@pytest.mark.parametrize("message", violations())
def test_violations_are_raised_and_kept(fake: FakeCuda, message: str) -> None:
    stream = fake.create_stream()
    with pytest.raises(CudaViolationError, match=message):
        violations()[message](fake, stream)
    with pytest.raises(AssertionError, match=message):
        fake.check_leaks()


def test_a_copy_onto_itself_is_a_violation(fake: FakeCuda) -> None:
    address = fake.allocate_device(8)
    with pytest.raises(CudaViolationError, match="onto itself"):
        fake.copy_async(address + 2, address, 4, CopyKind.DEVICE_TO_DEVICE, fake.create_stream())


def test_a_thread_needs_use_device_except_to_give_back(fake: FakeCuda) -> None:
    address, caught = fake.allocate_device(4), []

    def work() -> None:
        fake.free_device(address)
        try:
            fake.allocate_device(4)
        except CudaViolationError as error:
            caught.append(str(error))

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    assert caught == ["thread 'worker' hasn't called use_device"]


def test_mapped_memory_has_another_address_for_kernels(fake: FakeCuda) -> None:
    address, stream = fake.allocate_host(8, True), fake.create_stream()
    alias = fake.device_address(address + 2)
    assert alias != address + 2
    fake.enqueue(stream, lambda: fake.view(alias, 2).fill(9), writes=[(alias, 2)])
    assert host_view(address, 8).tolist() == [POISON] * 8
    fake.synchronize_stream(stream)
    assert host_view(address, 8).tolist() == [POISON] * 2 + [9, 9] + [POISON] * 4
    with pytest.raises(BackendError, match="invalid argument"):
        fake.device_address(fake.allocate_host(8, False))


def test_a_failure_comes_once_and_a_lost_device_stays_lost(fake: FakeCuda) -> None:
    fake.fail_next("allocate_device", 2, after=1)
    fake.allocate_device(4)
    with pytest.raises(BackendError, match="out of memory"):
        fake.allocate_device(4)
    fake.allocate_device(4)
    fake.fail_next("synchronize_device", 700)
    for call in (fake.synchronize_device, fake.memory_info, fake.check):
        with pytest.raises(DeviceLostError, match="illegal memory access"):
            call()
    fake.check_leaks()


def test_a_kernel_that_kills_the_context_is_noticed_by_whoever_waits(fake: FakeCuda) -> None:
    def kernel() -> None:
        raise DeviceLostError("cudaErrorIllegalAddress")

    stream = fake.create_stream()
    fake.enqueue(stream, kernel)
    for _ in range(2):
        with pytest.raises(DeviceLostError):
            fake.synchronize_stream(stream)


def test_a_device_is_what_its_attributes_say() -> None:
    nano, pc = FakeCuda(NANO), FakeCuda(DISCRETE, devices=2)
    for fake in (nano, pc):
        fake.use_device(0)
    with pytest.raises(BackendError, match="operation not supported"):
        nano.register_host(np.zeros(8).ctypes.data, 64, False)
    with pytest.raises(BackendError, match="out of memory"):
        nano.allocate_device(4 << 30 | 1)
    pc.use_device(1)
    with pytest.raises(BackendUnavailableError, match="invalid device ordinal"):
        pc.use_device(2)
    kept = pc.allocate_host(1 << 20, False)
    assert pc.memory_info().free_nbytes == DISCRETE.total_nbytes, "host memory isn't the device's"
    pc.free_host(kept)


def test_leaks_are_listed(fake: FakeCuda) -> None:
    fake.allocate_device(1024)
    fake.create_stream()
    with pytest.raises(AssertionError, match=r"never given back: device memory at .* of 1,024 bytes; .*stream"):
        fake.check_leaks()


def test_a_kernel_that_waits_stops_nobody_but_its_stream(fake: FakeCuda) -> None:
    gate, slow, fast = threading.Event(), fake.create_stream(), fake.create_stream()
    fake.enqueue(slow, lambda: gate.wait(60))

    def work() -> None:
        fake.use_device(0)
        fake.synchronize_stream(slow)

    thread = threading.Thread(target=work)
    thread.start()
    fake.enqueue(fast, gate.set)
    fake.synchronize_stream(fast)
    thread.join()
    assert fake.pending(slow) == []

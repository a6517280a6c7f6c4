from __future__ import annotations

import mmap
import threading
from typing import Any, Callable

import numpy as np
import pytest
from fakes.cuda import NANO, POISON, FakeCuda

from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer, RegisteredBuffer
from edge_runtime.device.cuda.owned import Lease
from edge_runtime.device.cuda.streams import Event, Stream
from edge_runtime.errors import BackendError

KINDS = {
    "device": lambda cuda, nbytes: DeviceBuffer(cuda, nbytes, name="x"),
    "host": lambda cuda, nbytes: HostBuffer(cuda, nbytes, name="x"),
    "mapped": lambda cuda, nbytes: HostBuffer(cuda, nbytes, mapped=True, name="x"),
    "registered": lambda cuda, nbytes: RegisteredBuffer(cuda, bytearray(nbytes), mapped=True, name="x"),
    "stream": lambda cuda, nbytes: Stream(cuda, name="x"),
    "event": lambda cuda, nbytes: Event(cuda, name="x"),
}
GIVES_BACK = {
    "device": "free_device",
    "host": "free_host",
    "mapped": "free_host",
    "registered": "unregister_host",
    "stream": "destroy_stream",
    "event": "destroy_event",
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def address_of(owned: Any) -> int:
    return owned.handle if hasattr(type(owned), "handle") else owned.address


@EVERY_KIND
def test_closing_gives_back_once_and_use_after_it_is_refused_by_name(fake_cuda: FakeCuda, kind: str) -> None:
    with KINDS[kind](fake_cuda, 64) as owned:
        assert address_of(owned)
        assert not owned.is_closed
    owned.close()
    assert owned.is_closed
    assert "'x'" in repr(owned)
    assert fake_cuda.counts[GIVES_BACK[kind]] == 1
    with pytest.raises(BackendError, match=r"'x'.* is closed; make a new one"):
        address_of(owned)


@EVERY_KIND
def test_what_is_forgotten_is_given_back_with_a_warning(
    fake_cuda: FakeCuda, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    owned = [KINDS[kind](fake_cuda, 64)]
    with pytest.warns(ResourceWarning, match="'x'.* was never closed"):
        owned.clear()
    assert "was never closed" in caplog.text
    assert fake_cuda.counts[GIVES_BACK[kind]] == 1


@EVERY_KIND
def test_a_refusal_to_give_back_is_raised_and_not_repeated(kind: str) -> None:
    fake = FakeCuda()
    fake.use_device(0)
    owned = KINDS[kind](fake, 64)
    fake.fail_next(GIVES_BACK[kind], 1)
    with pytest.raises(BackendError, match="invalid argument"):
        owned.close()
    owned.close()
    assert owned.is_closed


def test_a_failed_allocation_leaves_nothing(fake_cuda: FakeCuda) -> None:
    for call, kind in (("allocate_device", "device"), ("allocate_host", "mapped"), ("register_host", "registered")):
        fake_cuda.fail_next(call, 2)
        with pytest.raises(BackendError, match="out of memory; use smaller shapes"):
            KINDS[kind](fake_cuda, 64)
    assert fake_cuda.alive() == []


@pytest.mark.parametrize("kind", ["device", "host", "mapped", "registered"])
def test_buffers_of_no_bytes_work(fake_cuda: FakeCuda, kind: str) -> None:
    with KINDS[kind](fake_cuda, 0) as buffer:
        assert buffer.nbytes == 0
        assert buffer.address
        if kind in ("mapped", "registered"):
            assert buffer.device_address
        if kind in ("host", "mapped"):
            assert buffer.array(np.float32, (3, 0)).shape == (3, 0)


def test_arrays_are_writable_views_at_an_offset(fake_cuda: FakeCuda) -> None:
    with HostBuffer(fake_cuda, 64) as buffer:
        assert buffer.address % 256 == 0
        view = buffer.array(np.float32, (2, 3), offset=16)
        assert (view.ctypes.data, view.shape, view.flags.writeable) == (buffer.address + 16, (2, 3), True)
        view[:] = 1
        every = buffer.array(np.uint8, [64])
        assert every[:16].tolist() == [POISON] * 16
        assert every[16:40].view(np.float32).tolist() == [1.0] * 6
        assert buffer.array(np.int64, (), offset=56).shape == ()


@pytest.mark.parametrize(
    ("shape", "offset", "found"), [((17,), 0, "0 to 68"), ((1,), 61, "61 to 65"), ((1,), -4, "-4 to 0")]
)
def test_a_view_outside_the_buffer_is_refused(
    fake_cuda: FakeCuda, shape: tuple[int, ...], offset: int, found: str
) -> None:
    text = f"host buffer 'x' of 64 bytes: expected .* 64 bytes, got {found}"
    with HostBuffer(fake_cuda, 64, name="x") as buffer, pytest.raises(BackendError, match=text):
        buffer.array(np.float32, shape, offset)


def views() -> dict[str, Callable[[np.ndarray], Any]]:
    return {
        "the array": lambda array: array,
        "a slice": lambda array: array[1:3],
        "a reshaped view of another type": lambda array: array.view(np.int16).reshape(4, -1),
        "a memoryview": lambda array: memoryview(array)[2:],
        "a list of rows": lambda array: list(array.reshape(2, 4)),
    }


@pytest.mark.parametrize("what", views())
def test_memory_stays_until_the_last_view_of_a_closed_buffer_is_gone(fake_cuda: FakeCuda, what: str) -> None:
    buffer = HostBuffer(fake_cuda, 32)
    view = views()[what](buffer.array(np.float32, (8,)))
    buffer.close()
    assert fake_cuda.counts["free_host"] == 0
    with pytest.raises(BackendError, match="is closed"):
        buffer.array(np.float32, (8,))
    np.asarray(view)[...] = 5
    del view
    assert fake_cuda.counts["free_host"] == 1


def test_a_view_that_comes_while_the_buffer_closes_is_refused_and_holds_nothing() -> None:
    freed: list[int] = []
    lease, views = Lease("x", 7, freed.append), [threading.Event(), threading.Event()]
    lease.hold(views[0])
    lease.close()
    with pytest.raises(BackendError, match="x is closed"):
        lease.hold(views[1])
    assert freed == []
    del views[0]
    assert freed == [7]


def test_the_last_view_may_go_on_another_thread_and_a_refusal_is_logged(
    fake_cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    buffer, kept = HostBuffer(fake_cuda, 32), []
    kept.append(buffer.array(np.uint8, (32,)))
    address = buffer.address
    buffer.close()
    fake_cuda.fail_next("free_host", 1)
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    assert "not given back: free_host: cudaErrorInvalidValue (1)" in caplog.text
    fake_cuda.free_host(address)


def test_mapped_memory_has_a_device_address(fake_cuda: FakeCuda) -> None:
    with HostBuffer(fake_cuda, 16, mapped=True) as buffer:
        buffer.array(np.uint8, (16,))[:] = range(16)
        assert fake_cuda.view(buffer.device_address, 16).tolist() == list(range(16))
    with HostBuffer(fake_cuda, 16) as buffer, pytest.raises(BackendError, match="make it with mapped=True"):
        _ = buffer.device_address


@pytest.mark.parametrize(
    "memory",
    [np.zeros((4, 8), np.float16), bytearray(64), mmap.mmap(-1, 64), memoryview(bytearray(64)).cast("d")],
    ids=["array", "bytearray", "mmap", "memoryview"],
)
def test_any_writable_memory_can_be_registered(fake_cuda: FakeCuda, memory: Any) -> None:
    with RegisteredBuffer(fake_cuda, memory, mapped=True) as buffer:
        assert buffer.nbytes == 64
        fake_cuda.view(buffer.device_address, 64)[:] = 7
        assert set(bytes(memory)) == {7}


@pytest.mark.parametrize(
    ("memory", "found"),
    [(bytes(8), "read-only"), (np.zeros((4, 4))[:, ::2], "not contiguous"), (np.zeros((4, 4)).T, "not contiguous")],
)
def test_memory_that_cannot_be_registered_is_refused(fake_cuda: FakeCuda, memory: Any, found: str) -> None:
    with pytest.raises(BackendError, match=f"'x' of .* bytes: expected writable, contiguous memory, got .* {found}"):
        RegisteredBuffer(fake_cuda, memory, name="x")


def test_registered_memory_cannot_be_unmapped_meanwhile(fake_cuda: FakeCuda) -> None:
    memory = mmap.mmap(-1, 4096)
    with RegisteredBuffer(fake_cuda, memory), pytest.raises(BufferError, match="exported pointers"):
        memory.close()
    memory.close()


def test_memory_is_registered_once_and_only_where_the_device_can() -> None:
    nano, memory = FakeCuda(NANO), bytearray(64)
    nano.use_device(0)
    with pytest.raises(BackendError, match="operation not supported; this device can't"):
        RegisteredBuffer(nano, memory)
    memory.append(0)  # nothing holds it


def test_overlapping_registrations_are_refused(fake_cuda: FakeCuda) -> None:
    memory = np.zeros(64, np.uint8)
    with RegisteredBuffer(fake_cuda, memory), pytest.raises(BackendError, match="register each page once"):
        RegisteredBuffer(fake_cuda, memory[32:])


def test_a_negative_size_is_refused(fake_cuda: FakeCuda) -> None:
    with pytest.raises(BackendError, match="expected 0 bytes or more, got -1"):
        DeviceBuffer(fake_cuda, -1)

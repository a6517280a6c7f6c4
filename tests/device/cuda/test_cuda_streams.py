from __future__ import annotations

import numpy as np
import pytest
from fakes.cuda import FakeCuda

from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer
from edge_runtime.device.cuda.port import CopyKind
from edge_runtime.device.cuda.streams import Event, Stream
from edge_runtime.errors import BackendError, DeviceLostError


def test_a_round_trip_over_the_device(fake_cuda: FakeCuda) -> None:
    with Stream(fake_cuda) as stream, DeviceBuffer(fake_cuda, 16) as device, HostBuffer(fake_cuda, 16) as host:
        values = host.array(np.int32, (4,))
        values[:] = range(4)
        stream.copy(device.address, host.address, 16, CopyKind.HOST_TO_DEVICE)
        stream.fill(device.address + 4, 0, 4)
        stream.copy(host.address, device.address, 16, CopyKind.DEVICE_TO_HOST)
        stream.synchronize()
        assert values.tolist() == [0, 0, 2, 3]


def test_an_event_is_done_when_the_work_before_it_is(fake_cuda: FakeCuda) -> None:
    done: list = []
    with Stream(fake_cuda) as first, Stream(fake_cuda) as second, Event(fake_cuda) as event:
        assert event.is_done
        fake_cuda.enqueue(first.handle, lambda: done.append(1))
        event.record(first)
        second.wait(event)
        assert not event.is_done
        second.synchronize()
        assert done == [1]
        assert event.is_done
        event.synchronize()


def test_timed_events_measure_the_work_between_them(fake_cuda: FakeCuda) -> None:
    with Stream(fake_cuda) as stream, Event(fake_cuda, timing=True) as start, Event(fake_cuda, timing=True) as end:
        start.record(stream)
        end.record(stream)
        with pytest.raises(BackendError, match="device not ready"):
            end.elapsed_ms(start)
        end.synchronize()
        assert end.elapsed_ms(start) == 0.25


def test_a_graph_replays_what_was_captured(fake_cuda: FakeCuda) -> None:
    seen: list = []
    with Stream(fake_cuda) as stream:
        with stream.capture(lambda: fake_cuda.enqueue(stream.handle, lambda: seen.append(1)), name="batch 4") as graph:
            stream.synchronize()
            assert seen == []
            graph.launch(stream)
            graph.launch(stream)
            stream.synchronize()
        assert seen == [1, 1]
        with pytest.raises(BackendError, match="graph 'batch 4' is closed"):
            graph.launch(stream)


@pytest.mark.parametrize("error", [KeyError("mistake"), KeyboardInterrupt()])
def test_a_capture_that_raises_is_abandoned_and_the_stream_works_on(fake_cuda: FakeCuda, error: BaseException) -> None:
    def record() -> None:
        raise error

    with Stream(fake_cuda) as stream:
        with pytest.raises(type(error)):
            stream.capture(record)
        stream.synchronize()
        stream.capture(lambda: None).close()


def test_a_capture_that_waits_is_refused_and_the_stream_works_on(fake_cuda: FakeCuda) -> None:
    with Stream(fake_cuda) as stream:
        with pytest.raises(BackendError, match=r"StreamCaptureUnsupported \(900\).*run without a graph"):
            stream.capture(stream.synchronize)
        stream.synchronize()


def test_a_library_without_graphs_says_so() -> None:
    fake = FakeCuda(has_graphs=False)
    fake.use_device(0)
    with Stream(fake) as stream, pytest.raises(
        BackendError, match="has no CUDA graphs; run without one, or install cuda"
    ):
        stream.capture(lambda: None)


def test_a_lost_device_is_told_from_other_failures(fake_cuda: FakeCuda) -> None:
    fake_cuda.fail_next("synchronize_stream", 719)
    with pytest.raises(DeviceLostError, match="end this process and start a new one"), Stream(fake_cuda) as stream:
        stream.synchronize()

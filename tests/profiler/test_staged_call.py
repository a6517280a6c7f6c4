from __future__ import annotations

from array import array

import numpy as np
import pytest

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, load
from edge_runtime.errors import BackendError
from edge_runtime.profiler.staged_call import StagedCall, http_body
from edge_runtime.profiler.stages import ARRIVAL, END, READY, START, SUBMITTED, WAITED, WIDTH
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec
from edge_runtime.wire.http_infer import request_from_body

NOT_ITS_OWN = (ARRIVAL, READY, WAITED)


class Slot:
    """Doubles x; its clock ticks with every look."""

    def __init__(self, clock):
        self.clock = clock
        self.memory = np.zeros((2, 3), np.float32)

    def bind(self, name, shape):
        return self.memory.reshape(shape)

    def run(self):
        self.clock()
        return {"y": self.memory * 2}

    def close(self):
        pass


class TellingSlot(Slot):
    """Says when all was enqueued, as those of TensorRT do."""

    submitted_ns = 0

    def run(self):
        self.submitted_ns = self.clock()
        return {"y": self.memory * 2}


class FailingSlot(Slot):
    def run(self):
        raise BackendError("made up")


def engine_of(kind, clock, dtype=DType.FP32):
    x, y = (TensorSpec(name, dtype, (2, 3), ("", "")) for name in "xy")
    signature = Signature((x,), (y,), {"x": ShapeRange.fixed((2, 3))})
    info = EngineInfo("double", 1, "fake", "fake_fake", "fp32", "cpu")
    return Engine(info, signature, lambda: kind(clock), 1)


def ticking():
    return iter(range(1000, 10**6, 1000)).__next__


FEEDS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.mark.parametrize(("kind", "tells"), [(Slot, False), (TellingSlot, True)])
def test_every_stage_is_stamped_in_order(kind, tells):
    clock, stamps = ticking(), array("q", bytes(8 * 2 * WIDTH))
    call = StagedCall(engine_of(kind, clock), FEEDS, clock)
    call(stamps, WIDTH)
    own = [stamps[WIDTH + place] for place in range(START, END + 1) if place != SUBMITTED or tells]
    assert call.tells_submission == tells
    assert own == sorted(set(own))
    assert not any(stamps[:WIDTH])
    assert not any(stamps[WIDTH + place] for place in NOT_ITS_OWN)


def test_a_run_that_fails_gives_its_slot_back():
    clock = ticking()
    engine = engine_of(FailingSlot, clock)
    call = StagedCall(engine, FEEDS, clock)
    with pytest.raises(BackendError, match="made up"):
        call(array("q", bytes(8 * WIDTH)), 0)
    assert engine.try_acquire() is not None


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (DType.FP32, np.arange(6, dtype=">f4").reshape(2, 3)),
        (DType.FP32, np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::2]),
        (DType.BOOL, np.array([[True, False, True], [False, False, True]])),
        (DType.FP16, np.ones((2, 3), np.float16)),
        (DType.BYTES, np.array([[b"a", b"", b"ccc"], [b"d", b"\xff", b"f"]], np.object_)),
    ],
)
def test_the_body_is_one_that_the_servers_codec_reads_back(dtype, value):
    signature = engine_of(Slot, ticking(), dtype).signature
    head_nbytes, body = http_body({"x": value})
    request = request_from_body(memoryview(body), head_nbytes, "double", "", signature)
    np.testing.assert_array_equal(request.inputs["x"], value)
    assert all(output.is_binary for output in request.outputs)


def test_a_real_engine_runs_through_all_stages(make_plan):
    with load(make_plan(), EngineOptions(1)) as engine:
        clock, stamps = ticking(), array("q", bytes(8 * WIDTH))
        StagedCall(engine, {"x": np.ones((2, 4), np.float32)}, clock)(stamps, 0)
    assert stamps[END] > stamps[START] > 0
    assert stamps[SUBMITTED] == 0

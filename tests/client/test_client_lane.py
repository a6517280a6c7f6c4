"""Frames of shared memory: our client against our server of the lane, over made-up model tables."""

from __future__ import annotations

import gc
import mmap
import os
import socket
import threading
import weakref

import numpy as np
import pytest
from fakes.dtypes import PLAIN
from fakes.lane_models import MODELS, lane_engines
from fakes.lane_server import LaneServer, MadeUpModel

from edge_runtime.client.lane import Frames
from edge_runtime.errors import (
    BackendError,
    DeadlineExpiredError,
    DeadlineRefusedError,
    InvalidRequestError,
    QueueFullError,
    RemoteError,
    ServerUnavailableError,
)
from edge_runtime.wire import lane as wire
from edge_runtime.wire.lane import LaneOpen


@pytest.fixture(scope="module")
def engines():
    made = lane_engines()
    yield made
    for engine in made.values():
        engine.close()


@pytest.fixture(params=[True, False], ids=["over", "copied"])
def served(request, engines, tmp_path):
    """A server whose models run at once: over the shared memory, or on copies."""
    models = {name: MadeUpModel(engine, request.param) for name, engine in engines.items()}
    server = LaneServer(str(tmp_path / "s"), models)
    yield server
    server.stop()


@pytest.fixture
def frames(served):
    made = []

    def open_frames(model, shapes, outputs=(), count=1, **options):
        wanted = LaneOpen(model, "", shapes, tuple(outputs), count)
        made.append(Frames(served.path, wanted, **{"timeout_s": 10.0, **options}))
        return made[-1]

    yield open_frames
    for one in made:
        one.close()


def test_a_run_reads_and_writes_the_shared_memory(frames):
    (frame,) = frames("double", {"x": (2, 4)})
    for value in (1.5, -3):
        frame.inputs["x"].fill(value)
        outputs = frame.run()
        assert outputs is frame.outputs
        assert (outputs["y"] == 2 * value).all()


def test_every_data_type_goes_there_and_back(frames):
    (frame,) = frames("types", {d.value: (2, 3) for d in PLAIN})
    rng = np.random.default_rng(0)
    feeds = {d.value: rng.integers(0, 2, (2, 3)).astype(d.numpy) for d in PLAIN}
    for name, value in feeds.items():
        np.copyto(frame.inputs[name], value)
    for name, value in frame.run().items():
        expected = feeds[name[:-4]]
        np.testing.assert_array_equal(value, expected)
        assert value.dtype == expected.dtype


def test_scalars_go_there_and_back(frames):
    (frame,) = frames("scalar", {"x": ()})
    frame.inputs["x"][...] = 2.5
    assert frame.run()["y"] == -2.5


def test_any_byte_but_zero_is_true(frames):
    (frame,) = frames("not", {"x": (3,)})
    frame.inputs["x"].view(np.uint8)[:] = [0, 1, 77]
    assert frame.run()["y"].view(np.uint8).tolist() == [1, 0, 0]


def test_only_the_outputs_asked_for_are_shared(frames):
    (frame,) = frames("pair", {"a": (1, 4), "b": (1, 4)}, ["rest"])
    frame.inputs["a"].fill(3)
    frame.inputs["b"].fill(1)
    outputs = frame.run()
    assert list(outputs) == ["rest"]
    assert (outputs["rest"] == 2).all()


def test_frames_have_memory_of_their_own_and_may_run_together(frames):
    one = frames("large", {"x": MODELS["large"][1]["x"][1]}, count=4)
    for number, frame in enumerate(one):
        frame.inputs["x"].fill(number)
        frame.start()
    for number in (2, 0, 3, 1):
        assert (one[number].wait()["y"] == -number).all()


def test_a_frame_in_use_is_not_started_again_nor_awaited_unstarted(frames, served):
    (frame,) = frames("double", {"x": (1, 4)})
    with pytest.raises(InvalidRequestError, match="start it first"):
        frame.wait()
    frame.start()
    with pytest.raises(InvalidRequestError, match="frame 0 is in use"):
        frame.start()
    frame.wait()
    frame.run()


def test_deadlines_and_priorities_reach_the_scheduler(frames, served):
    (frame,) = frames("double", {"x": (1, 4)})
    frame.run()
    frame.run(deadline_ms=20.5, priority=3)
    plain, urgent = served.models["double"].seen[-2:]
    assert (plain.deadline_ns, plain.priority) == (None, 0)
    assert (urgent.deadline_ns - urgent.arrival_ns, urgent.priority) == (20_500_000, 3)


@pytest.mark.parametrize(
    "hurry", [{"deadline_ms": 0}, {"deadline_ms": float("nan")}, {"priority": -1}, {"priority": 70_000}]
)
def test_impossible_deadlines_and_priorities_are_refused_and_the_frame_stays_free(frames, hurry):
    (frame,) = frames("double", {"x": (1, 4)})
    with pytest.raises(InvalidRequestError):
        frame.run(**hurry)
    frame.run()


@pytest.mark.parametrize(
    "error",
    [
        QueueFullError("full", 0.25),
        DeadlineRefusedError("no", 2.0),
        DeadlineExpiredError("over"),
        ServerUnavailableError("x"),
    ],
)
def test_refusals_keep_their_type_and_their_wait(frames, served, error):
    (frame,) = frames("double", {"x": (1, 4)})
    served.models["double"].refusal = error
    with pytest.raises(type(error), match=str(error)) as caught:
        frame.run()
    assert type(caught.value) is type(error)
    assert caught.value.retry_after_s == error.retry_after_s
    served.models["double"].refusal = None
    frame.run()


def test_a_refused_run_is_tried_again_as_often_as_may_be(frames, served):
    (frame,) = frames("double", {"x": (1, 4)})
    (patient,) = frames("double", {"x": (1, 4)}, retries=2)
    model, refused = served.models["double"], []

    def refuse(request):
        refused.append(request.deadline_ns)
        if len(refused) % 3:
            raise QueueFullError("full", 0.001)
        request.emit(None)

    model.submit = refuse
    with pytest.raises(QueueFullError):
        frame.run()
    refused.clear()
    patient.run(deadline_ms=10_000)
    assert len(refused) == 3


def test_a_failed_run_is_a_remote_error_and_the_frame_lives_on(frames):
    (frame,) = frames("picky", {"x": (4,), "at": (1,)})
    frame.inputs["x"][:] = [1, 2, 3, 4]
    frame.inputs["at"][:] = 99
    with pytest.raises(RemoteError, match="INTERNAL: the inference failed; see the server's log"):
        frame.run()
    frame.inputs["at"][:] = 2
    assert frame.run()["y"] == 3


@pytest.mark.parametrize(
    ("model", "shapes", "outputs", "status"),
    [
        ("none", {"x": (1, 4)}, (), "NOT_FOUND"),
        ("double", {"x": (9, 4)}, (), "INVALID_ARGUMENT"),
        ("double", {"x": (1, 2**62)}, (), "INVALID_ARGUMENT"),
        ("double", {"x": (1,)}, (), "INVALID_ARGUMENT"),
        ("double", {}, (), "INVALID_ARGUMENT"),
        ("double", {"z": (1, 4)}, (), "INVALID_ARGUMENT"),
        ("double", {"x": (1, 4)}, ("z",), "INVALID_ARGUMENT"),
        ("double", {"x": (1, 4)}, ("y", "y"), "INVALID_ARGUMENT"),
        ("pair", {"a": (1, 4), "b": (2, 4)}, (), "INVALID_ARGUMENT"),
        ("nonzero", {"x": (8,)}, (), "INVALID_ARGUMENT"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(frames, model, shapes, outputs, status):
    with pytest.raises(RemoteError) as caught:
        frames(model, shapes, outputs)
    assert caught.value.status == status


def test_output_shapes_that_depend_on_the_data_are_explained(frames):
    with pytest.raises(RemoteError, match=r"output 'y' has shapes that depend on the data .* over HTTP or gRPC"):
        frames("nonzero", {"x": (8,)})


def test_a_client_without_a_server_says_so(tmp_path):
    with pytest.raises(ServerUnavailableError, match="is the server running"):
        Frames(str(tmp_path / "none"), LaneOpen("m", "", {}), 1)


def test_closed_frames_say_so_and_their_arrays_stay_valid(frames):
    one = frames("double", {"x": (1, 4)})
    frame = one[0]
    frame.inputs["x"].fill(1)
    frame.run()
    one.close()
    one.close()
    assert (frame.outputs["y"] == 2).all()
    with pytest.raises(ServerUnavailableError, match="these frames are closed"):
        frame.run()


def test_the_memory_goes_with_the_last_array(frames):
    one = frames("double", {"x": (1, 4)})
    array = one[0].inputs["x"]
    base = array
    while not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else base.base
    gone = weakref.ref(base)
    one.close()
    del base
    assert gone() is not None
    one._frames.clear()
    del array
    gc.collect()
    assert gone() is None


def test_a_silent_server_is_unavailable_after_the_time_limit(frames, served):
    (frame,) = frames("double", {"x": (1, 4)}, timeout_s=0.05)
    served.models["double"].holds = True
    with pytest.raises(ServerUnavailableError, match=r"no answer within 0\.05 s"):
        frame.run()
    with pytest.raises(ServerUnavailableError, match="these frames are closed"):
        frame.run()


def test_a_server_that_goes_away_is_unavailable(frames, served):
    (frame,) = frames("double", {"x": (1, 4)})
    served.models["double"].holds = True
    frame.start()
    served.until(lambda: served.models["double"].waiting)
    served.call(served.protocols[-1]._transport.abort)
    with pytest.raises(ServerUnavailableError):
        frame.wait()


@pytest.fixture
def hostile(tmp_path):
    """`hostile(answer, descriptors)`: what our client makes of this made-up server's answer to its first message."""
    path = str(tmp_path / "hostile")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    threads = []

    def run(answer, descriptors=(), then=b""):
        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                connection.recv(65536)
                if descriptors:
                    rights = np.array(descriptors, np.int32).tobytes()
                    connection.sendmsg([answer], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                else:
                    connection.sendall(answer)
                if then:
                    connection.recv(65536)
                    connection.sendall(then)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return Frames(path, LaneOpen("m", "", {}), 10)

    yield run
    listener.close()
    for thread in threads:
        thread.join(10)


LAYOUT = wire.layout_of([], [], 1)


def memory(nbytes: int) -> int:
    descriptor = os.memfd_create("made-up", 0)
    os.ftruncate(descriptor, nbytes)
    return descriptor


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        wire.done_message(1, 0, 0),
        wire.message(wire.Record(wire.FAILED), b"nonsense"),
        wire.message(wire.Record(wire.OPENED), b"{}"),
        wire.opened_message(0, 1, LAYOUT),
    ],
)
def test_a_broken_answer_is_a_remote_error(hostile, answer):
    with pytest.raises(RemoteError, match="broken answer"):
        hostile(answer)


@pytest.mark.parametrize("nbytes", [0, 1, 8192])
def test_memory_of_another_size_is_a_broken_answer(hostile, nbytes):
    descriptor = memory(nbytes)
    with pytest.raises(RemoteError, match=f"frames of 4096 bytes in memory of {nbytes}"):
        hostile(wire.opened_message(0, 1, LAYOUT), [descriptor])


def test_an_answer_cut_short_is_unavailable(hostile):
    with pytest.raises(ServerUnavailableError, match="closed the connection"):
        hostile(wire.opened_message(0, 1, LAYOUT)[:40])


@pytest.mark.parametrize(
    ("then", "kind", "text"),
    [
        (wire.done_message(1, 0, 77), RemoteError, "nothing asked for"),
        (wire.opened_message(1, 1, LAYOUT), RemoteError, "nothing asked for"),
        (b"x" * 32, RemoteError, "broken answer"),
        (wire.failed_message(0, BackendError("x")), RemoteError, "INTERNAL"),
        (wire.failed_message(0, QueueFullError("x")), QueueFullError, "RESOURCE_EXHAUSTED"),
    ],
)
def test_broken_answers_to_a_run_end_the_connection(hostile, then, kind, text):
    frames = hostile(wire.opened_message(0, 1, LAYOUT), [memory(4096)], then)
    with pytest.raises(kind, match=text):
        frames[0].run()
    with pytest.raises(ServerUnavailableError, match="these frames are closed"):
        frames[0].run()

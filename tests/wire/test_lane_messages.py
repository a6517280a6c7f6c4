from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import (
    BackendError,
    DeadlineExpiredError,
    DeadlineRefusedError,
    InvalidRequestError,
    QueueFullError,
    ServerUnavailableError,
    UnknownNameError,
)
from edge_runtime.tensors import DType, TensorSpec
from edge_runtime.wire import lane
from edge_runtime.wire.lane import LaneOpen, LaneReader, Record

X = TensorSpec("x", DType.FP32, (2, 3))
Y = TensorSpec("é", DType.UINT8, (5000,))
WANTED = LaneOpen("m", "3", {"x": (2, 3), "é": ()}, ("y",), 4)


def only(data: bytes, limits=lane.CLIENT_LIMITS):
    (found,) = LaneReader(limits).messages(data)
    return found


def opening(**changes) -> bytes:
    content = {"model": "m", "version": "", "inputs": [{"name": "x", "shape": [1]}], "outputs": [], "frames": 1}
    return json.dumps({**content, **changes}).encode()


def opened(**changes) -> bytes:
    row = {"name": "x", "datatype": "FP32", "shape": [2], "offset": 256, "nbytes": 8}
    content = {"stride": 4096, "frames": 1, "inputs": [], "outputs": []}
    tensor = {key: changes.pop(key) for key in list(changes) if key in row}
    return json.dumps({**content, "inputs": [{**row, **tensor}], **changes}).encode()


def test_a_record_is_32_bytes_and_no_http_begins_as_a_connection_does():
    assert lane.RECORD_NBYTES == 32
    assert lane.MAGIC[:1] == b"\0"
    assert lane.MAGIC.startswith(lane.PREFIX)


def test_opens_go_there_and_back():
    record, payload = only(lane.open_message(7, WANTED))
    assert (record.kind, record.request_id, lane.open_from_payload(payload)) == (lane.OPEN, 7, WANTED)


def test_runs_and_their_answers_go_there_and_back():
    run, payload = only(lane.run_message(3, 2, 2**64 - 1, 33_000, 65535))
    assert (run, payload) == (Record(lane.RUN, 65535, 3, 2, 0, 2**64 - 1, 33_000), b"")
    done, _ = only(lane.done_message(3, 2, 9), lane.SERVER_LIMITS)
    assert done == Record(lane.DONE, 0, 3, 2, 0, 9, 0)


def test_layouts_go_there_and_back_and_tensors_lie_apart():
    layout = lane.layout_of([X, Y], [TensorSpec("s", DType.INT64, ()), TensorSpec("e", DType.FP32, (0, 2))], 3)
    record, payload = only(lane.opened_message(1, 5, layout), lane.SERVER_LIMITS)
    assert (record.region, lane.layout_from_payload(payload)) == (5, layout)
    tensors = sorted((*layout.inputs, *layout.outputs), key=lambda tensor: tensor.offset)
    for before, after in zip(tensors, tensors[1:]):
        assert before.offset + before.nbytes <= after.offset
    assert layout.stride % 4096 == 0
    assert tensors[-1].offset + tensors[-1].nbytes <= layout.stride
    assert layout.nbytes == 3 * layout.stride


def test_an_output_that_is_an_input_lies_where_the_input_does():
    layout = lane.layout_of([X], [TensorSpec("y", DType.FP32, (1,)), X], 1)
    assert layout.outputs[1] == layout.inputs[0]


@pytest.mark.parametrize(
    ("error", "expected", "wait_us"),
    [
        (UnknownNameError("no\nmodel"), ("NOT_FOUND", "", "no model"), 0),
        (BackendError("inside"), ("INTERNAL", "", "the inference failed; see the server's log"), 0),
        (QueueFullError("full", 0.25), ("RESOURCE_EXHAUSTED", "QueueFullError", "full"), 250_000),
        (DeadlineRefusedError("late"), ("RESOURCE_EXHAUSTED", "DeadlineRefusedError", "late"), 1_000_000),
        (DeadlineExpiredError("late"), ("DEADLINE_EXCEEDED", "DeadlineExpiredError", "late"), 1_000_000),
        (ServerUnavailableError("é" * 5000), ("UNAVAILABLE", "ServerUnavailableError", "é" * 1000), 1_000_000),
    ],
)
def test_failures_go_there_and_back_on_one_line(error, expected, wait_us):
    record, payload = only(lane.failed_message(4, error), lane.SERVER_LIMITS)
    found = lane.failure_from_payload(payload)
    assert (record.request_id, record.wait_us, (found.status, found.kind, found.text)) == (4, wait_us, expected)


def test_messages_are_found_in_pieces_of_any_size():
    data = lane.MAGIC + lane.open_message(1, WANTED) + lane.run_message(1, 0, 2) + lane.run_message(1, 1, 3)
    for size in (1, 7, 32, 33, len(data)):
        reader = LaneReader(lane.CLIENT_LIMITS, lane.MAGIC)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        found = [record.request_id for piece in pieces for record, _ in reader.messages(piece)]
        assert found == [1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0LANE\2\r\n",
        b"\0LANX",
        lane.MAGIC + lane.done_message(1, 1, 1),
        lane.MAGIC + bytes(32),
        lane.MAGIC + lane.message(Record(lane.RUN), b"x"),
        lane.MAGIC + lane.message(Record(lane.OPEN), bytes(2**16 + 1))[:32],
    ],
)
def test_what_is_no_message_is_refused_before_its_payload_comes(data):
    with pytest.raises(InvalidRequestError):
        list(LaneReader(lane.CLIENT_LIMITS, lane.MAGIC).messages(data))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 1000,
        opening(extra=1),
        opening(model=1),
        opening(version=None),
        opening(frames=0),
        opening(frames=10**9),
        opening(frames=True),
        opening(frames="1"),
        opening(inputs={}),
        opening(inputs=[1]),
        opening(inputs=[{"shape": [1]}]),
        opening(inputs=[{"name": "x", "shape": [1]}] * 2),
        opening(inputs=[{"name": str(i), "shape": [1]} for i in range(257)]),
        opening(inputs=[{"name": "x"}]),
        opening(inputs=[{"name": "x", "shape": [-1]}]),
        opening(inputs=[{"name": "x", "shape": [2**63]}]),
        opening(inputs=[{"name": "x", "shape": [1.0]}]),
        opening(inputs=[{"name": "x", "shape": [1] * 33}]),
        opening(outputs="y"),
        opening(outputs=[1]),
    ],
)
def test_an_open_that_is_not_sound_is_refused(payload):
    with pytest.raises(InvalidRequestError):
        lane.open_from_payload(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        opened(stride=0),
        opened(stride=2**60),
        opened(frames=0),
        opened(frames=2**40),
        opened(datatype="BYTES"),
        opened(shape=[2**62, 2**62]),
        opened(shape=[-2]),
        opened(offset=-256),
        opened(offset=1),
        opened(offset=4352),
        opened(offset=2**70),
        opened(nbytes=16),
        opened(shape=[2000], nbytes=8000),
        opened(name=3),
    ],
)
def test_a_layout_that_reaches_outside_its_frame_is_refused(payload):
    with pytest.raises(InvalidRequestError):
        lane.layout_from_payload(payload)
    assert lane.layout_from_payload(opened()).inputs[0].nbytes == 8


@pytest.mark.parametrize("payload", [b"", b"one", b"a\nb", b"a\nb\nc\nd"])
def test_a_failure_that_does_not_say_what_failed_is_refused(payload):
    with pytest.raises(InvalidRequestError):
        lane.failure_from_payload(payload)


def test_an_open_larger_than_a_server_takes_is_not_sent():
    with pytest.raises(InvalidRequestError, match="more than 65536"):
        lane.open_message(1, LaneOpen("m" * 70_000, "", {}))


@given(pieces=st.lists(st.binary(max_size=80), max_size=6), seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_nothing_but_a_refusal_comes_of_any_bytes(pieces, seed):
    rng = np.random.default_rng(seed)
    message = bytearray(lane.open_message(1, WANTED))
    message[int(rng.integers(len(message)))] = int(rng.integers(256))
    reader = LaneReader(lane.CLIENT_LIMITS, b"")
    try:
        for piece in (bytes(message), *pieces):
            for record, payload in reader.messages(piece):
                if record.kind == lane.OPEN:
                    lane.open_from_payload(payload)
    except InvalidRequestError:
        pass

"""Many streams that end in every way: memory, descriptors and threads stay as they are, and no answer is wrong."""

from __future__ import annotations

import gc
import random
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.http2_client import DATA, END_STREAM, RawClient, fields, frame, head, message, rst_stream
from tritonclient.grpc import service_pb2

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"
ENDS = ("well", "reset", "lost", "garbage", "half a message")


def resident_nbytes() -> int:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def request(each: int) -> bytes:
    """Every seventh is a bad one."""
    made = service_pb2.ModelInferRequest(model_name=("identity", "unhurried")[each % 2], id=str(each))
    made.inputs.add(name="x", datatype="FP32", shape=[1, 4 if each % 7 else 5])
    made.raw_input_contents.append(np.full(4, each, np.float32).tobytes())
    return made.SerializeToString()


def check(answer: bytes, each: int) -> None:
    found = service_pb2.ModelStreamInferResponse.FromString(answer)
    assert found.infer_response.id == str(each)
    assert bool(found.error_message) == (each % 7 == 0)
    if each % 7:
        assert found.infer_response.raw_output_contents[0] == np.full(4, each, np.float32).tobytes()


def streamed(address: tuple[str, int], requests: list[bytes], end: str) -> int:
    """Sends the requests on a stream that ends so; gives how many were answered, each of them rightly."""
    with RawClient(address) as client:
        client.send(head(1, fields(PATH)) + b"".join(frame(DATA, 0, 1, message(each)) for each in requests))
        if end == "lost":
            return 0
        ends = {
            "well": frame(DATA, END_STREAM, 1),
            "reset": rst_stream(1),
            "garbage": frame(DATA, 0, 1, message(b"\xff\xff")),
            "half a message": frame(DATA, END_STREAM, 1, message(b"x", length=9)),
        }
        client.send(ends[end])
        if end != "reset":
            client.answer()
        client.finished()  # so that the server has closed its end before what is left is counted
        data = b"".join(each.payload for each in client.seen if each.kind == DATA)
        count = 0
        while data:
            size = struct.unpack(">xL", data[:5])[0]
            check(data[5 : 5 + size], count)
            data, count = data[5 + size :], count + 1
        return count


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_thousand_streams_leave_nothing_behind(serving: Any, unhurried: Any) -> None:
    rng, requests = random.Random(0), [request(each) for each in range(60)]
    with serving("identity", unhurried) as server:
        host, port = server.bound.grpc.rsplit(":", 1)
        address = (host, int(port))

        def batch(count: int) -> None:
            for each in range(count):
                end, length = ENDS[each % len(ENDS)], rng.randrange(1, len(requests))
                answered = streamed(address, requests[:length], end)
                assert answered == length or end in ("reset", "lost")
            server.ask("GET", "/v2")
            assert streamed(address, requests, "well") == len(requests)

        batch(400)
        before = resident_nbytes(), descriptors(), threading.active_count()
        batch(1600)
        after = resident_nbytes(), descriptors(), threading.active_count()
        assert after[0] - before[0] < 2 << 20
        assert after[1:] == before[1:]
        assert server.failures("identity").keys() <= {"CANCELED", "OTHER"}

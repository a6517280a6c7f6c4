"""What a request costs in memory: no slot is made anew, and no tensor is copied twice."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from edge_runtime.engine import onnxruntime

NBYTES = 4 << 18


@pytest.fixture
def large_request(http_message) -> bytes:
    item = {"name": "x", "datatype": "FP32", "shape": [1 << 18], "parameters": {"binary_data_size": NBYTES}}
    head = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    lengths = {"Inference-Header-Content-Length": str(len(head))}
    return http_message("POST", "/v2/models/sum/infer", head + np.ones(1 << 18, np.float32).tobytes(), lengths)


def ask(connection: Any, request: bytes, buffer: bytearray) -> int:
    connection.sendall(request)
    return connection.recv_into(buffer)  # type: ignore[no-any-return]


def test_a_thousand_warm_requests_allocate_no_slot_and_no_tensor(serving, large_request, monkeypatch) -> None:
    made: list[Any] = []
    allocated = onnxruntime._allocated
    buffer = bytearray(1 << 16)
    with serving("sum") as server, server.connection() as connection:
        for _ in range(20):
            assert ask(connection, large_request, buffer) > 0
        monkeypatch.setattr(onnxruntime, "_allocated", lambda *a, **k: made.append(a) or allocated(*a, **k))
        tracemalloc.start()
        try:
            for _ in range(1000):
                assert ask(connection, large_request, buffer) > 0
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert buffer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert np.frombuffer(buffer[:4096].split(b"\r\n\r\n")[1].split(b"}]}")[1][:4], np.float32)[0] == 1 << 18
    assert made == []
    assert peak < NBYTES, "of which the connection's buffer isn't part: it was there before"

"""Many requests, and clients that die: memory, descriptors and threads stay as they are, and no answer is wrong."""

from __future__ import annotations

import gc
import json
import random
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CLIENT = """
import sys
import numpy as np
from edge_runtime.client.client import Client

url, seed = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(seed)
print("ready", flush=True)
with Client(url) as client:
    while True:
        rows = rng.standard_normal((int(rng.integers(1, 8)), 4)).astype(np.float32)
        client.infer("identity", {"x": rows})
"""


def resident_nbytes() -> int:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def requests(http_message: Any, count: int) -> list[tuple[bytes, bytes]]:
    """Requests to `identity`, and the tensor that each must be answered with."""
    rng, made = np.random.default_rng(0), []
    for index in range(count):
        rows = rng.standard_normal((index % 7 + 1, 4)).astype(np.float32)
        item = {"name": "x", "datatype": "FP32", "shape": list(rows.shape)}
        head = {
            "inputs": [{**item, "parameters": {"binary_data_size": rows.nbytes}}],
            "parameters": {"binary_data_output": True, **({"deadline_ms": 5000} if index % 3 else {})},
        }
        text = json.dumps(head).encode()
        lengths = {"Inference-Header-Content-Length": str(len(text))}
        body = text + rows.tobytes()
        made.append((http_message("POST", "/v2/models/identity/infer", body, lengths), rows.tobytes()))
    return made


def answered(connection: socket.socket, request: bytes, tensor: bytes, http_replies: Any) -> None:
    connection.sendall(request)
    (reply,) = http_replies(connection, 1)
    assert (reply.status, reply.body[-len(tensor) :]) == (200, tensor)


def killed_clients(url: str, rng: random.Random) -> None:
    clients = [
        subprocess.Popen([sys.executable, "-c", CLIENT, url, str(rng.randrange(1000))], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for client in clients:
        assert client.stdout is not None
        client.stdout.readline()
    threading.Event().wait(rng.random() * 0.3)
    for client in clients:
        client.send_signal(signal.SIGKILL)
        client.wait()
        client.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_5_5_twenty_thousand_requests_with_dying_clients_leave_nothing_behind(
    serving, http_message, http_replies, tmp_path
) -> None:
    rng, path = random.Random(0), str(tmp_path / "socket")
    with serving("identity", unix=path) as server:
        made = requests(http_message, 50)

        def batch(count: int) -> None:
            with server.connection() as tcp, socket.socket(socket.AF_UNIX) as unix:
                unix.connect(path)
                for index in range(count):
                    answered((tcp, unix)[index % 2], *made[index % len(made)], http_replies)
                for connection in (tcp, unix):  # the server has closed its end before what is left is counted
                    connection.shutdown(socket.SHUT_WR)
                    assert connection.recv(1) == b""

        def everybody(count: int) -> None:
            for url in (f"http://{server.bound.http}", f"grpc://{server.bound.grpc}", f"unix://{path}"):
                killed_clients(url, rng)
            batch(count)

        everybody(4000)
        before = resident_nbytes(), descriptors(), threading.active_count()
        for _ in range(4):
            everybody(5000)
        after = resident_nbytes(), descriptors(), threading.active_count()
        assert after[0] - before[0] < 2 << 20
        assert after[1:] == before[1:]
        succeeded, _ = server.counts("identity")
        assert succeeded >= 24_000
        assert server.failures("identity").keys() <= {"CANCELED"}

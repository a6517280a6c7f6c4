"""Requests as bytes, and answers read off a blocking socket."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
from typing import Any, Dict, Iterator, Mapping, Tuple

from robustness.nets import WIDTH

INFER_METHOD = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_S = 20.0
Answer = Tuple[int, bytes]


def rows(count: int, rng: random.Random) -> bytes:
    """Random float32 rows."""
    return struct.pack(f"<{count * WIDTH}f", *(rng.uniform(-1, 1) for _ in range(count * WIDTH)))


def doubled(tensor: bytes) -> bytes:
    """What `double` answers."""
    count = len(tensor) // 4
    return struct.pack(f"<{count}f", *(2 * value for value in struct.unpack(f"<{count}f", tensor)))


def http(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole request."""
    lines = {"Host": "localhost", "Content-Length": str(len(body)), **(headers or {})}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines.items()) + "\r\n"
    return head.encode("latin-1") + body


def http_infer(model: str, tensor: bytes, **parameters: Any) -> bytes:
    """A binary inference whose answer is binary too."""
    head = infer_head(len(tensor), **parameters)
    return http("POST", f"/v2/models/{model}/infer", head + tensor, {"Inference-Header-Content-Length": str(len(head))})


def infer_head(nbytes: int, **parameters: Any) -> bytes:
    """The JSON head of a binary inference."""
    item = {"name": "x", "datatype": "FP32", "shape": [nbytes // 4 // WIDTH, WIDTH]}
    told = {"inputs": [{**item, "parameters": {"binary_data_size": nbytes}}]}
    return json.dumps({**told, "parameters": {"binary_data_output": True, **parameters}}).encode()


def grpc_infer(model: str, tensor: bytes) -> bytes:
    """A ModelInferRequest."""
    from edge_runtime.wire.messages import message  # noqa: PLC0415

    request = message("inference.ModelInferRequest")(model_name=model, raw_input_contents=[tensor])
    request.inputs.add(name="x", datatype="FP32", shape=[len(tensor) // 4 // WIDTH, WIDTH])
    return bytes(request.SerializeToString())


def address_of(text: str) -> Tuple[str, int]:
    """Host and port."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def connection(address: str, timeout_s: float = TIMEOUT_S) -> socket.socket:
    """A socket to HOST:PORT, or to a path."""
    if not address.startswith("/"):
        return socket.create_connection(address_of(address), timeout_s)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(timeout_s)
    made.connect(address)
    return made


@contextlib.contextmanager
def asking(address: str) -> Iterator[Any]:
    """A function from a request's bytes to its answer, on one connection."""
    with connection(address) as made, made.makefile("rb") as file:

        def ask(request: bytes) -> Answer:
            made.sendall(request)
            return read_answer(file)

        yield ask


def ask_once(address: str, request: bytes) -> Answer:
    """The answer on a connection of its own."""
    with asking(address) as ask:
        answer: Answer = ask(request)
    return answer


def read_answer(file: Any) -> Answer:
    """Status and body of the next answer.

    Raises:
        ConnectionError: there is none, or not a whole one.
    """
    line = file.readline()
    if not line:
        raise ConnectionError("closed without an answer")
    headers: Dict[str, str] = {}
    for header in iter(file.readline, b"\r\n"):
        if not header:
            raise ConnectionError("closed within an answer's head")
        key, _, value = header.decode("latin-1").partition(":")
        headers[key.strip().lower()] = value.strip()
    nbytes = int(headers.get("content-length", 0))
    body = file.read(nbytes)
    if len(body) != nbytes:
        raise ConnectionError("closed within an answer's body")
    return int(line.split()[1]), body

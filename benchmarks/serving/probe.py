"""When a server first answers right, and whether it answers every net right on every way.

A child process, so that its libraries aren't in the memory that is measured. It is told a way, an address and nets by a
line of JSON, asks until each net has answered what ONNX Runtime does, and prints when the first did.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any, Callable, Dict, Iterator, Sequence, Tuple

from serving.nets import Net, net_of
from serving.places import own_environment, own_module
from serving.processes import Tree, last_words, started
from serving.ways import GRPC, UNIX, Target

_POLL_S, _ANSWER_S = 0.003, 10.0
_RELATIVE, _SHARE_OF_LARGEST = 1e-3, 1e-4
_FRAME = 5


class NoAnswerError(Exception):
    """There was no answer, or not the right one."""


class Probe:
    """The child, from this side."""

    def __init__(self, tree: Tree) -> None:
        self._process = tree.process
        self._process.stdout.readline()

    def first_answer(self, target: Target, nets: Sequence[Net], patience_s: float) -> float:
        """When the first right answer of the first net came (no nets: when it listened), by the monotonic clock.

        Raises:
            RuntimeError: a net didn't answer right in time.
        """
        names = [net.name for net in nets]
        order = {**asdict(target), "nets": names, "patience_s": patience_s}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"the probe ended: {last_words('probe')}"}
        if answer.get("error"):
            raise RuntimeError(answer["error"])
        return float(answer["first_s"])


@contextlib.contextmanager
def probe() -> Iterator[Probe]:
    """A probe that has loaded all it needs."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started(own_module("probe"), "probe", own_environment(), **pipes) as tree:
        yield Probe(tree)


def main() -> None:
    """Answers each order until the input ends."""
    ask_grpc = _grpc_asker()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        target = Target(order["way"], order["address"])
        limit = time.monotonic() + order["patience_s"]
        answer: Dict[str, Any] = {}
        if not order["nets"]:
            answer = _wait_for_listener(target, limit)
        for name in order["nets"]:
            try:
                answered_s = _wait(target, net_of(name), ask_grpc if target.way == GRPC else _ask_http, limit)
            except NoAnswerError as error:
                answer["error"] = f"{name} over {target.way}: {error}"
                break
            answer.setdefault("first_s", answered_s)
        print(json.dumps(answer), flush=True)


def _wait(target: Target, net: Net, ask: Callable[[Target, Net], bytes], limit: float) -> float:
    while True:
        try:
            _check(ask(target, net), net)
            return time.monotonic()
        except NoAnswerError:
            if time.monotonic() > limit:
                raise
        time.sleep(_POLL_S)


def _wait_for_listener(target: Target, limit: float) -> Dict[str, Any]:
    while time.monotonic() < limit:
        with contextlib.suppress(OSError), socket.create_connection(_host_and_port(target), timeout=_ANSWER_S):
            return {"first_s": time.monotonic()}
        time.sleep(_POLL_S)
    return {"error": f"nobody listens at {target.address}"}


def _check(got: bytes, net: Net) -> None:
    import numpy as np  # noqa: PLC0415

    if len(got) != net.output_nbytes:
        raise NoAnswerError(f"the output has {len(got)} bytes; expected {net.output_nbytes}")
    expected = np.fromfile(net.expected_file, np.float32)
    tolerance = _SHARE_OF_LARGEST * float(np.abs(expected).max())
    if not np.allclose(np.frombuffer(got, np.float32), expected, rtol=_RELATIVE, atol=tolerance):
        raise NoAnswerError("the output isn't ONNX Runtime's")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask_http(target: Target, net: Net) -> bytes:
    is_unix = target.way == UNIX
    connection = (
        _UnixConnection(target.address) if is_unix else http.client.HTTPConnection(target.address, timeout=_ANSWER_S)
    )
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(net.http_header_nbytes),
        "answer-nbytes": str(net.output_nbytes),
    }
    try:
        connection.request("POST", f"/v2/models/{net.name}/infer", net.http_body.read_bytes(), headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(repr(error)) from None
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise NoAnswerError(f"status {response.status}: {body[:200]!r}")
    return body[int(response.headers.get("inference-header-content-length", 0)) :]


def _grpc_asker() -> Callable[[Target, Net], bytes]:
    import grpc  # noqa: PLC0415

    from edge_runtime.wire.messages import message  # noqa: PLC0415

    answer_type = message("inference.ModelInferResponse")
    message("inference.ModelInferRequest")

    def ask(target: Target, net: Net) -> bytes:
        try:
            socket.create_connection(_host_and_port(target), timeout=_ANSWER_S).close()
        except OSError as error:  # asked first, for a channel backs off for a second where nobody listens yet
            raise NoAnswerError(repr(error)) from None
        try:
            with grpc.insecure_channel(target.address) as channel:
                call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
                answer = answer_type.FromString(call(net.grpc_body.read_bytes()[_FRAME:], timeout=_ANSWER_S))
        except grpc.RpcError as error:
            raise NoAnswerError(f"{error.code().name}: {error.details()}") from None
        if not answer.raw_output_contents:
            raise NoAnswerError("no raw output contents")
        return bytes(answer.raw_output_contents[0])

    return ask


def _host_and_port(target: Target) -> Tuple[str, int]:
    host, _, port = target.address.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    main()

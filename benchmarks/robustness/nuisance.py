"""Clients that nobody wants: `python -m robustness.nuisance slow|bad ADDRESS`, until the process is ended.

`slow`: twenty at once, of which some send half a head, some a body byte by byte, and some never read their answers.
`bad`: 200 requests a second that must be refused. Prints a line once it has begun.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import time
from typing import List, Tuple

from robustness.nets import CHAIN, DOUBLE, WIDTH
from robustness.requests import TIMEOUT_S, connection, http, http_infer, read_answer, rows

SLOW_CLIENTS = 20
_TRICKLE_S = 0.2
_BAD_PER_S = 200
_PIPELINED = 4000  # so many answers fill the kernel's buffers

HOSTILE_NAMES = (
    "a\r\nINJECTED x",
    "INJECTED\n2026-01-01 ERROR INJECTED",
    "\x1b[31mINJECTED\x1b[0m",
    "\x00INJECTED",
    "a\u2028INJECTED\u202e",
    "\u00e9" * 50,
    "%s%n{0}{self}",
    "n" * (1 << 20),
)


def bad_requests() -> List[bytes]:
    """Requests each of which is refused, for reasons of their own."""
    tensor = rows(1, random.Random(0))
    return [
        http("POST", f"/v2/models/{DOUBLE}/infer", b"{"),
        http("POST", f"/v2/models/{DOUBLE}/infer", b'{"inputs":[{"name":"' + b"x" * 5000 + b'"}]}'),
        http("POST", "/v2/models/none/infer", b"x" * 2000),
        http("GET", "/none"),
        http_infer(DOUBLE, tensor + b"\0" * 4),
        http_infer(DOUBLE, tensor, sequence_id=4),
        http("POST", f"/v2/models/{CHAIN}/infer", shaped([16, WIDTH])),
        b"nonsense\r\n\r\n",
    ]


def shaped(shape: List[int]) -> bytes:
    """A JSON inference of 16 numbers that claims a shape."""
    numbers = ",".join(["1"] * 16)
    text = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":{shape},"data":[{numbers}]}}]}}'
    return text.encode()


def slow(address: str) -> None:
    """Twenty slow clients; who is thrown out comes again."""
    tensor = rows(1, random.Random(0))
    body = http_infer(DOUBLE, tensor)
    clients: List[Tuple[int, socket.socket, int]] = []
    while True:
        while len(clients) < SLOW_CLIENTS:
            kind = len(clients) % 3
            made = connection(address)
            made.setblocking(False)
            clients.append((kind, made, 0))
        left = []
        for kind, made, sent in clients:
            try:
                left.append((kind, made, sent + _trickled(kind, made, body, sent)))
            except OSError:
                made.close()
        clients = left
        print("begun", flush=True)
        time.sleep(_TRICKLE_S)


def _trickled(kind: int, made: socket.socket, body: bytes, sent: int) -> int:
    """The next bytes of one client: of a head without an end, of a body, or requests without reading an answer."""
    if kind == 0:
        return made.send(b"GET /v2 HTTP/1.1\r\nX: " if sent == 0 else b"x")
    if kind == 1:
        end = body.index(b"\r\n\r\n") + 4 if sent == 0 else sent + 1
        return made.send(body[sent:end]) if sent < len(body) else 0
    with contextlib.suppress(BlockingIOError):
        made.send(http("GET", "/metrics") * (_PIPELINED // 100))
    return 0


def bad(address: str) -> None:
    """A storm of requests that are refused, on connections that the server closes or keeps as it likes."""
    requests, index = bad_requests(), 0
    next_s = time.monotonic()
    print("begun", flush=True)
    while True:
        with contextlib.suppress(OSError), connection(address, TIMEOUT_S) as made, made.makefile("rb") as file:
            while True:
                next_s = max(next_s + 1 / _BAD_PER_S, time.monotonic() - 1)
                time.sleep(max(0.0, next_s - time.monotonic()))
                index += 1
                made.sendall(requests[index % len(requests)])
                read_answer(file)


if __name__ == "__main__":
    {"slow": slow, "bad": bad}[sys.argv[1]](sys.argv[2])

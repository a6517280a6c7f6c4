"""Figure 16: clients that are killed with regions registered, and that shrink, unlink and rewrite them meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

from robustness.nets import DOUBLE, WIDTH
from robustness.ours import Ours, serving
from robustness.requests import ask_once, asking, connection, doubled, http, http_infer, read_answer
from robustness.requests import rows as random_rows
from robustness.rows import Row, verdict_of
from robustness.soak import killed_client

_ROUNDS = 200
_KINDS = ("killed", "shrunk", "unlinked", "rewritten")
_NBYTES = 1 << 12
_MOST_REGIONS = 1_100  # registered at once, which is more than a server may keep
_PREFIX = "edge-robust"
_RETURN_S, _MISCHIEF_S = 2.0, 0.02


def rows() -> Iterator[Row]:
    """200 rounds, then more regions than the server keeps."""
    with _objects(), serving() as ours:
        with asking(ours.unix) as ask:
            count_of(ask)  # the server has this connection open from here on
            before = ours.descriptors()
            rng = random.Random(0)
            wrong = sum(not _is_right(_round(ours, number, rng)) for number in range(_ROUNDS))
            left = count_of(ask)
            refused_at = _fill(ask)
            status, _ = ask(http("POST", "/v2/systemsharedmemory/unregister"))
            after = _descriptors(ours, before)
        text = f"{left} regions of {_ROUNDS} killed clients left; descriptors {before} -> {after} once unregistered"
        text += f"; {wrong} good answers wrong"
        is_held = ours.is_alive and left == _ROUNDS and after == before and not wrong and status == 200
        goal = "server lives, descriptors return"
        yield Row("16 killed, shrunk, unlinked, rewritten", goal, text, _ROUNDS, verdict_of(is_held))
        text = "never refused" if refused_at is None else f"429 with {refused_at} kept"
        is_bounded = refused_at is not None and refused_at <= 1000
        yield Row("16 too many regions", "bounded (1,000), then 429", text, _MOST_REGIONS, verdict_of(is_bounded))


@contextlib.contextmanager
def _objects() -> Iterator[None]:
    """Nothing of ours stays in /dev/shm."""
    try:
        yield
    finally:
        for path in Path("/dev/shm").glob(f"{_PREFIX}-{os.getpid()}-*"):
            path.unlink()


def _round(ours: Ours, number: int, rng: random.Random) -> Ours:
    """A client that infers from its region again and again, while what its kind says is done to it, until it dies."""
    key = f"{_PREFIX}-{os.getpid()}-{number}"
    path = Path("/dev/shm") / key
    path.write_bytes(random_rows(1, rng).ljust(_NBYTES, b"\0"))
    with killed_client(rng.uniform(0, 0.01), partial(infer_from_region, ours.unix, key)):
        limit_s = time.monotonic() + _MISCHIEF_S
        kind = _KINDS[number % len(_KINDS)]
        while time.monotonic() < limit_s:
            if kind == "rewritten":
                path.write_bytes(os.urandom(_NBYTES))
            elif kind == "shrunk":
                os.truncate(path, rng.choice((0, 100, _NBYTES)))
            elif kind == "unlinked" and path.exists():
                path.unlink()
            time.sleep(0.001)
    return ours


def infer_from_region(address: str, key: str, begun: Callable[[], None]) -> None:
    """Registers the region, says so, and infers from it and into it until the connection ends."""
    request = region_infer(key)
    with connection(address) as made, made.makefile("rb") as file:
        made.sendall(register(key, key, _NBYTES))
        read_answer(file)
        begun()
        while True:
            made.sendall(request)
            read_answer(file)


def register(name: str, key: str, nbytes: int) -> bytes:
    """The request that makes an object's start a region."""
    body = json.dumps({"key": f"/{key}", "offset": 0, "byte_size": nbytes}).encode()
    return http("POST", f"/v2/systemsharedmemory/region/{name}/register", body)


def region_infer(name: str, model: str = DOUBLE) -> bytes:
    """An inference of one row whose input lies at a region's start and whose output goes behind it."""
    place: Dict[str, Any] = {"shared_memory_region": name, "shared_memory_byte_size": 4 * WIDTH}
    into = {**place, "shared_memory_offset": 4 * WIDTH}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "parameters": place}
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "y", "parameters": into}]}).encode()
    return http("POST", f"/v2/models/{model}/infer", body)


def _is_right(ours: Ours) -> bool:
    tensor = random_rows(1, random.Random(5))
    status, body = ask_once(ours.unix, http_infer(DOUBLE, tensor))
    return status == 200 and body.endswith(doubled(tensor))


def count_of(ask: Any) -> int:
    """How many regions there are."""
    found: List[Any] = json.loads(ask(http("GET", "/v2/systemsharedmemory/status"))[1])
    return len(found)


def _fill(ask: Any) -> int | None:
    """How many regions were kept when one more was refused; None if none was."""
    key = f"{_PREFIX}-{os.getpid()}-fill"
    (Path("/dev/shm") / key).write_bytes(bytes(_NBYTES))
    for number in range(_MOST_REGIONS):
        status, _ = ask(register(f"fill-{number}", key, _NBYTES))
        if status == 429:
            return count_of(ask)
    return None


def _descriptors(ours: Ours, wanted: int) -> int:
    limit_s = time.monotonic() + _RETURN_S
    while ours.descriptors() != wanted and time.monotonic() < limit_s:
        time.sleep(0.05)
    return ours.descriptors()

"""Four ways in which one client without any rights ended a server: Triton's, and what they do to ours."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

from robustness import peer
from robustness.load import HTTP
from robustness.nets import DOUBLE, WIDTH
from robustness.nuisance import shaped
from robustness.ours import serving
from robustness.regions import region_infer, register
from robustness.requests import INFER_METHOD, ask_once, asking, grpc_infer, http, http_infer
from robustness.rows import BESIDE, Row, verdict_of

_NBYTES = 1 << 12
_STORMS, _CALLS = 8, 100
_DEATH_S = 3.0
_CALL_S = 5.0


def rows() -> Iterator[Row]:
    """Each on a server of its own kind that runs at that time."""
    for label, attack in ATTACKS:
        with serving(["--allow-client-shm"]) as ours:
            said = attack(ours)
            outcome = _outcome(ours)
        yield Row(f"1.2 {label}", "answered, server lives", f"{said}; {outcome}", 1, verdict_of(outcome == LIVES))
        with contextlib.suppress(peer.UnavailableError), peer.triton(DOUBLE) as triton:
            said = attack(triton)
            yield Row(f"1.2 {label}", "", f"{said}; {_outcome(triton)}", 1, BESIDE, triton.label)


LIVES = "lives and answers"


def _outcome(server: Any) -> str:
    """Whether the server is still there, and answers."""
    limit_s = time.monotonic() + _DEATH_S
    text = "runs, but doesn't answer"
    while time.monotonic() < limit_s:
        status = server.tree.process.poll()
        if status is not None:
            return f"DEAD, {f'signal {-status}' if status < 0 else f'exit {status}'}"
        with contextlib.suppress(OSError):
            if ask_once(server.http, http_infer(DOUBLE, bytes(4 * WIDTH)))[0] == 200:
                text = LIVES
                break
        time.sleep(0.05)
    return text


def _said(server: Any, request: bytes) -> str:
    try:
        return str(ask_once(server.http, request)[0])
    except OSError as error:
        return type(error).__name__


def _shrunk_region(server: Any) -> str:
    key = f"edge-robust-{os.getpid()}-shrunk"
    path = Path("/dev/shm") / key
    path.write_bytes(bytes(_NBYTES))
    try:
        with asking(server.http) as ask:
            registered, _ = ask(register(key, key, _NBYTES))
            os.truncate(path, 0)
        return f"{HTTP} {registered}, then {_said(server, region_infer(key))}"
    finally:
        path.unlink()


def _huge_shape(server: Any) -> str:
    return f"{HTTP} {_said(server, http('POST', f'/v2/models/{DOUBLE}/infer', shaped([(1 << 31) - 1, WIDTH])))}"


def _long_file_name(server: Any) -> str:
    parameters = {"config": json.dumps({"backend": "python"}), f"file:{'n' * 300}": "AAAA"}
    body = json.dumps({"parameters": parameters}).encode()
    return f"{HTTP} {_said(server, http('POST', '/v2/repository/models/new/load', body))}"


def _cancel_storm(server: Any) -> str:
    import grpc  # noqa: PLC0415

    request = grpc_infer(DOUBLE, bytes(4 * WIDTH))
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(INFER_METHOD)
        for storm in range(_STORMS):
            calls = [infer.future(request, timeout=_CALL_S) for _ in range(_CALLS)]
            for call in calls:
                call.cancel()
            if not server.is_alive:
                return f"in storm {storm + 1}"
    return f"{_STORMS} storms"


ATTACKS: List[Tuple[str, Callable[[Any], str]]] = [
    ("region shrunk to nothing", _shrunk_region),
    ("JSON shape of 2^31 - 1 rows", _huge_shape),
    ("load with a file name of 300 letters", _long_file_name),
    ("100 gRPC calls cancelled at once", _cancel_storm),
]

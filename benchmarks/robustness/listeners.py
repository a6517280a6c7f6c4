"""Figures 17 and 19: who can reach the server, who may ask, and what hostile names do to its log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator, List, Tuple
from urllib.parse import quote

from serving.processes import output_of
from serving.servers import own_program

from robustness.nets import DOUBLE, WIDTH
from robustness.nuisance import HOSTILE_NAMES
from robustness.ours import Ours, command, log_text, serving
from robustness.places import environment
from robustness.requests import INFER_METHOD, ask_once, grpc_infer, http, infer_head
from robustness.rows import NOT_MEASURED, Row, verdict_of
from robustness.stopping import ended

_LISTEN = "0A"
_PUBLIC = (("--http", "0.0.0.0:0"), ("--grpc", "0.0.0.0:0"), ("--http", "[::]:0"))
_SECRET, _TOKEN = b"SECRET-TENSOR-SECRET", "SECRET-TOKEN-SECRET"
_MOST_LINE_NBYTES = 4096
_CALL_S = 5.0


def listener_rows() -> Iterator[Row]:
    """What listens, what refuses to, and who is refused without a token."""
    with serving() as ours:
        found = listening(ours.pid)
    text = ", ".join(sorted(found))
    is_held = len(found) == 2 and all(each.startswith("127.0.0.1:") for each in found)
    yield Row("17 TCP listeners", "127.0.0.1 only", text, len(found), verdict_of(is_held))
    with tempfile.TemporaryDirectory(prefix="robustness-") as folder:
        for words in _PUBLIC:
            status, took_s, said = ended(command(f"{folder}/edge.sock", words))
            text = f"exit {status} after {took_s:.2f} s: {said}"
            yield Row(f"17 {' '.join(words)}", "exits 78", text, 1, verdict_of(status == 78))
    yield _token_row()


def listening(pid: int) -> List[str]:
    """The TCP addresses at which a process listens."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(entry)))
    tables = [(Path(f"/proc/{pid}/net/{name}").read_text()) for name in ("tcp", "tcp6")]
    return [address for text in tables for address, inode in listeners_in(text) if inode in inodes]


def listeners_in(text: str) -> List[Tuple[str, str]]:
    """Address and inode of each listener in the text of /proc/net/tcp or tcp6."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if words[3] == _LISTEN:
            host, port = words[1].split(":")
            found.append((f"{host_of(host)}:{int(port, 16)}", words[9]))
    return found


def host_of(text: str) -> str:
    """An address of /proc/net/tcp, whose 32-bit words are in the machine's order."""
    words = [
        bytes.fromhex(text[at : at + 8])[:: -1 if sys.byteorder == "little" else 1] for at in range(0, len(text), 8)
    ]
    raw = b"".join(words)
    if len(raw) == 4:
        return ".".join(map(str, raw))
    return "[" + ":".join(f"{raw[at] << 8 | raw[at + 1]:x}" for at in range(0, 16, 2)) + "]"


def _token_row() -> Row:
    """Every route of the router and every method of the protocol's services, asked without a token."""
    figure, goal = "17 without a token", "every route 401, every RPC UNAUTHENTICATED"
    routes, methods = http_routes(), rpc_paths()
    helped = output_of([own_program(), "serve", "--help"], "ours-help", 60, environment(COLUMNS="200"))
    if "--tokens" not in helped:
        text = f"serve has no --tokens yet; {len(routes)} routes and {len(methods)} RPCs are there"
        return Row(figure, goal, text, 0, NOT_MEASURED)
    with tempfile.TemporaryDirectory(prefix="robustness-") as folder:
        file = f"{folder}/tokens"
        subprocess.run(
            [own_program(), "token", "somebody", "--file", file], check=True, env=environment(), capture_output=True
        )
        with serving(["--tokens", file, "--allow-client-shm"]) as ours:
            passed = [f"{method} {path}" for method, path in routes if _status(ours, method, path) != 401]
            passed += [path for path in methods if _code(ours, path) != "UNAUTHENTICATED"]
    count = len(routes) + len(methods)
    text = f"{count - len(passed)} of {count} refused{f'; NOT: {passed[:4]}' if passed else ''}"
    return Row(figure, goal, text, count, verdict_of(not passed))


def http_routes() -> List[Tuple[str, str]]:
    """Method and a path of every route, from the router itself."""
    from edge_runtime.server.client_regions import ClientRegions  # noqa: PLC0415
    from edge_runtime.server.models import ModelTable  # noqa: PLC0415
    from edge_runtime.server.region_access import RegionAccess  # noqa: PLC0415
    from edge_runtime.server.routes import HttpRoutes  # noqa: PLC0415

    routes = HttpRoutes(ModelTable([]), RegionAccess(ClientRegions(), 1 << 20))._routes
    return [(method, path) for method, pattern, _ in routes for path in paths_of(pattern.pattern)]


def paths_of(pattern: str) -> List[str]:
    """Paths that match a route's pattern, each alternative and each optional part once."""
    pattern = re.sub(r"\(\?P<\w+>[^)]*\)", DOUBLE, re.sub(r"\(\?P<version>[^)]*\)", "1", pattern))
    pattern = pattern.replace("[^/]+", DOUBLE).replace("/.*", "/x")
    paths = [pattern]
    while any("(?:" in path or "?" in path for path in paths):
        paths = [made for path in paths for made in _one_step(path)]
    return sorted({f"/{path}" for path in paths})


def _one_step(path: str) -> List[str]:
    """A pattern with its first innermost group, or else its first optional character, resolved."""
    group = re.search(r"\(\?:([^()]*)\)(\??)", path)
    if group is not None:
        choices = group[1].split("|") + ([""] if group[2] else [])
        return [path[: group.start()] + choice + path[group.end() :] for choice in choices]
    optional = re.search(r"(.)\?", path)
    if optional is not None:
        return [path[: optional.start()] + choice + path[optional.end() :] for choice in (optional[1], "")]
    return [path]


def rpc_paths() -> List[str]:
    """The path of every method of the services, from the protocol's own description."""
    from edge_runtime.wire.messages import HEALTH_SERVICE, SERVICE, methods  # noqa: PLC0415

    return [f"/{service}/{method[0]}" for service in (SERVICE, HEALTH_SERVICE) for method in methods(service)]


def _status(ours: Ours, method: str, path: str) -> int:
    return ask_once(ours.http, http(method, path))[0]


def _code(ours: Ours, path: str) -> str:
    import grpc  # noqa: PLC0415

    with grpc.insecure_channel(ours.grpc) as channel:
        try:
            channel.unary_unary(path)(b"", timeout=_CALL_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def log_rows() -> Iterator[Row]:
    """Hostile names wherever a request has one, with everything logged; then the log is read."""
    with serving(["--log-level", "DEBUG", "--allow-client-shm"]) as ours:
        sent = sum(_hostile(ours, name) for name in HOSTILE_NAMES)
        is_alive = ours.is_alive
    lines = log_text().split("\n")
    faults = log_faults(lines)
    text = f"{len(lines) - 1} lines logged, the longest {max(map(len, lines))} bytes; {len(faults)} bad"
    text += f": {faults[0][:60]!r}" if faults else ""
    goal = "one line <= 4 KiB each, nothing injected, no tensor, no token"
    yield Row("19 hostile names in the log", goal, text, sent, verdict_of(not faults and is_alive))


def log_faults(lines: List[str]) -> List[str]:
    """Lines that are too long, hold what isn't printable, begin with what a client sent, or show a secret."""
    return [
        line
        for line in lines
        if len(line) > _MOST_LINE_NBYTES
        or not all(char.isprintable() or char == "\t" for char in line)
        or line.startswith(("INJECTED", "2026-01-01"))
        or _SECRET.decode() in line
        or _TOKEN in line
    ]


def _hostile(ours: Ours, name: str) -> int:
    """How many requests with this name were sent."""
    import grpc  # noqa: PLC0415

    tensor = (_SECRET * WIDTH)[: 4 * WIDTH]
    head = infer_head(len(tensor))
    length = {"Inference-Header-Content-Length": str(len(head))}
    quoted = quote(name[:8000], safe="")
    plain = re.sub(r"[\r\n\0]", " ", name)[:8000].encode("utf-8").decode("latin-1")
    renamed = json.dumps({"inputs": [{"name": name, "datatype": name, "shape": [1], "data": [1]}]}).encode()
    requests = [
        http("POST", f"/v2/models/{quoted}/infer", head + tensor, length),
        http("POST", f"/v2/models/{DOUBLE}/versions/{quoted}/infer", head + tensor, length),
        http("POST", f"/v2/models/{DOUBLE}/infer", renamed),
        http("POST", f"/v2/models/{DOUBLE}/infer", head + tensor, {"Content-Encoding": plain, **length}),
        http("POST", f"/v2/models/{DOUBLE}/infer", infer_head(len(tensor), **{name[:99]: name}) + tensor, length),
        http("POST", f"/v2/systemsharedmemory/region/{quoted}/register", json.dumps({"key": name}).encode()),
        http("GET", f"/{quoted}"),
        http(
            "GET", "/v2", headers={"X-Forwarded-For": plain, "User-Agent": plain, "Authorization": f"Bearer {_TOKEN}"}
        ),
    ]
    for request in requests:
        with contextlib.suppress(OSError):
            ask_once(ours.http, request)
    bodies = [grpc_infer(name, tensor), grpc_infer(DOUBLE, tensor).replace(b"FP32", b"\n\x1b[")]
    with grpc.insecure_channel(ours.grpc) as channel:
        for body in bodies:
            with contextlib.suppress(grpc.RpcError):
                channel.unary_unary(INFER_METHOD)(
                    body, timeout=_CALL_S, metadata=[("authorization", f"Bearer {_TOKEN}")]
                )
    return len(requests) + len(bodies)

"""Load by h2load (nghttp2): HTTP/1.1, gRPC as a POST over HTTP/2 without TLS, and both over a Unix socket."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

from serving.latencies import Load, load_from_latencies
from serving.nets import Net
from serving.places import TOOLS
from serving.processes import output_of
from serving.ways import GRPC, UNIX, Target

_WARM_UP_SHARE = 0.25
_PATIENCE_S = 30.0
_OK = 200
_DATA = re.compile(r"^traffic:.*\((\d+)\) data$", re.MULTILINE)
_DONE = re.compile(r"^requests:.* (\d+) done, .* (\d+) failed, (\d+) errored", re.MULTILINE)


@dataclass(frozen=True)
class Demand:
    """How many requests at once, for how long."""

    concurrency: int
    seconds: float


def binary() -> Tuple[str, Dict[str, str]]:
    """h2load and the environment that it needs.

    Raises:
        RuntimeError: there is none.
    """
    if shutil.which("h2load"):
        return "h2load", {}
    own = TOOLS / "usr" / "bin" / "h2load"
    if not own.is_file():
        raise RuntimeError("h2load isn't installed; make serving-peers, or apt-get install nghttp2-client")
    return str(own), {"LD_LIBRARY_PATH": ":".join(map(str, (TOOLS / "usr" / "lib").glob("*-linux-gnu")))}


def load(target: Target, net: Net, demand: Demand) -> Load:
    """The figures of one load on one net.

    Raises:
        RuntimeError: h2load failed, or an answer was none or too short for the net's output.
    """
    program, env = binary()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "latencies.log"
        warm_up_s = demand.seconds * _WARM_UP_SHARE
        command = [program, *flags(target, net, demand), f"--warm-up-time={_ms(warm_up_s)}", f"--log-file={log}"]
        text = output_of(
            [*command, url(target, net)], "h2load", demand.seconds + warm_up_s + _PATIENCE_S, {**os.environ, **env}
        )
        latencies_us = latencies_from_log(log.read_text() if log.exists() else "")
    check_summary(text, net.output_nbytes, demand.concurrency)
    return load_from_latencies(latencies_us, demand.seconds)


def flags(target: Target, net: Net, demand: Demand) -> List[str]:
    """The flags of a load, but for those of its log."""
    count = demand.concurrency
    common = [f"-c{count}", "-t1", "-m1", "-D", _ms(demand.seconds)]
    if target.way == GRPC:
        headers = ["content-type: application/grpc", "te: trailers"]
        return [*common, "-d", str(net.grpc_body), *_headers(headers)]
    headers = [
        "content-type: application/octet-stream",
        f"inference-header-content-length: {net.http_header_nbytes}",
        f"answer-nbytes: {net.output_nbytes}",  # read by the responder in C alone
    ]
    base = ["-B", f"unix:{target.address}"] if target.way == UNIX else []
    return [*common, "--h1", *base, "-d", str(net.http_body), *_headers(headers)]


def url(target: Target, net: Net) -> str:
    """Where a net is asked."""
    host = "localhost" if target.way == UNIX else target.address
    if target.way == GRPC:
        return f"http://{host}/inference.GRPCInferenceService/ModelInfer"
    return f"http://{host}/v2/models/{net.name}/infer"


def latencies_from_log(text: str) -> List[float]:
    """The latency of each answer in us, from lines of start, status and latency.

    Raises:
        RuntimeError: there is no answer, or one with another status than 200.
    """
    rows = [line.split("\t") for line in text.splitlines()]
    others = sorted({int(status) for _, status, _ in rows} - {_OK})
    if others:
        raise RuntimeError(f"h2load: answers with status {', '.join(map(str, others))}; expected 200 only")
    if not rows:
        raise RuntimeError("h2load: no answer at all")
    return [float(latency) for _, _, latency in rows]


def check_summary(text: str, least_nbytes: int, concurrency: int) -> None:
    """Holds what h2load says at its end against the size of an answer: a gRPC error is a short 200.

    An answer on each connection may have come in part before the measurement began.

    Raises:
        RuntimeError: requests failed, or the answers were too short.
    """
    data, done = _DATA.search(text), _DONE.search(text)
    if data is None or done is None:
        raise RuntimeError("h2load: its summary lacks `requests` or `traffic`")
    count, failed, errored = (int(number) for number in done.groups())
    if failed or errored:
        raise RuntimeError(f"h2load: {failed} requests failed, {errored} broke off")
    if int(data.group(1)) < least_nbytes * (count - concurrency):
        each = int(data.group(1)) / max(count, 1)
        raise RuntimeError(f"h2load: answers of {each:.0f} bytes on average; the output alone has {least_nbytes}")


def _headers(lines: List[str]) -> List[str]:
    return [word for line in lines for word in ("-H", line)]


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"

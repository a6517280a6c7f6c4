"""Triton's perf_analyzer as a second load: its C++ client costs more, and it uses what a server declares."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Dict, Sequence, Tuple

from serving.latencies import Load
from serving.nets import Net
from serving.places import TOOLS
from serving.processes import output_of
from serving.ways import GRPC, HTTP, Target, UnavailableError

MEMORIES = ("none", "system")
_EXTENSION = "system_shared_memory"
_WINDOW_MS, _TRIALS, _PATIENCE_S = 700, 4, 60.0
_BINARY = TOOLS / "bin" / "perf_analyzer"


def check_set_up() -> None:
    """Raises `UnavailableError` where it isn't there."""
    if not _BINARY.is_file():
        raise UnavailableError("perf_analyzer isn't set up; make serving-peers")


def extensions(http_address: str) -> Sequence[str]:
    """What a server declares in its metadata."""
    connection = http.client.HTTPConnection(http_address, timeout=10)
    try:
        connection.request("GET", "/v2")
        return list(json.loads(connection.getresponse().read()).get("extensions", []))
    finally:
        connection.close()


def measure(target: Target, net: Net, memory: str, declared: Sequence[str]) -> Dict[int, Load]:
    """The figures at 1 and at 16 requests at once.

    Raises:
        UnavailableError: the server doesn't declare the memory's extension.
        RuntimeError: perf_analyzer failed.
    """
    if memory == "system" and _EXTENSION not in declared:
        raise UnavailableError(f"the server doesn't declare the extension {_EXTENSION}")
    loads = {}
    for concurrency in (1, 16):
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.csv"
            command = [*_command(target, net, memory), f"--concurrency-range={concurrency}", "-f", str(report)]
            env = {**os.environ, "LD_LIBRARY_PATH": str(TOOLS / "lib")}
            output_of(command, "perf_analyzer", _TRIALS * _WINDOW_MS / 1000 * 4 + _PATIENCE_S, env)
            loads[concurrency] = load_from_report(report.read_text())
    return loads


def way_name(way: str, memory: str) -> str:
    """What a row of the report is called."""
    return f"perf_analyzer, {way}" + ("" if memory == "none" else f", {memory} shared memory")


def load_from_report(text: str) -> Load:
    """The figures of a report with one row; it tells no count but answers a second.

    Raises:
        RuntimeError: the report has no row, or lacks a column.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    try:
        row = rows[0]
        per_s, p50, p99 = (float(row[name]) for name in ("Inferences/Second", "p50 latency", "p99 latency"))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise RuntimeError(f"perf_analyzer: its report can't be read: {error!r}") from None
    return Load(round(per_s * _WINDOW_MS / 1000), p50, p99, per_s)


def _command(target: Target, net: Net, memory: str) -> Tuple[str, ...]:
    shape = f"--shape={net.input_name}:{','.join(map(str, net.input_shape))}"
    protocol = {HTTP: "http", GRPC: "grpc"}[target.way]
    memory_flags = (f"--shared-memory={memory}", f"--output-shared-memory-size={max(net.output_nbytes, 1024)}")
    return (
        str(_BINARY), "-m", net.name, "-u", target.address, "-i", protocol, shape, *memory_flags,
        "-p", str(_WINDOW_MS), "-r", str(_TRIALS), "-s", "999",
    )  # fmt: skip

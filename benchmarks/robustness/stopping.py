"""Figures 10, 15 and 22: a stop under load, no descriptors left, and two servers in one place."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from robustness.nets import CHAIN, DOUBLE, WIDTH
from robustness.ours import Ours, command, log_text, serving
from robustness.places import environment
from robustness.requests import INFER_METHOD, address_of, ask_once, connection, grpc_infer, http_infer, read_answer
from robustness.rows import Row, verdict_of

_STOPS, _CLIENTS, _LOADED_S, _EXIT_S = 3, 12, 1.0, 5.0
_DESCRIPTORS, _CONNECTIONS, _WATCHED_S, _ROUNDS = 64, 200, 2.0, 3
_MOST_LOGGED = 10
_MOST_CPU, _RECOVERED_S = 0.2, 1.0
_CONFIG_EXIT, _AT_ONCE_S = 78, 2.0
_PATIENCE_S = 30.0
_SAID_LENGTH = 70
_REFUSAL = "shutting down"  # a channel calls a closed connection UNAVAILABLE too


@dataclass
class _Outcomes:
    """Of requests that were sent whole: before the signal, and after it."""

    statuses: List[int] = field(default_factory=list)
    lost_before: int = 0
    lost_after: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, status: int) -> None:
        """One was answered."""
        with self._lock:
            self.statuses.append(status)

    def lost(self, sent_s: float, stopped_s: float) -> None:
        """One got no answer."""
        with self._lock:
            if sent_s < stopped_s:
                self.lost_before += 1
            else:
                self.lost_after += 1


def drain_rows() -> Iterator[Row]:
    """The server as it comes."""
    yield drain_row("10 SIGTERM under load")


def drain_row(figure: str, arguments: Sequence[str] = ()) -> Row:
    """SIGTERM while requests wait over HTTP and gRPC, with some clients that have sent half a head.

    All processes of the server get it, as a service manager does it.
    """
    whole, took, exits = _Outcomes(), [], []
    for _ in range(_STOPS):
        with serving(arguments) as ours:
            took.append(_stopped(ours, whole))
            exits.append(ours.tree.process.returncode)
    answered, refused = whole.statuses.count(200), whole.statuses.count(503)
    others = len(whole.statuses) - answered - refused
    text = f"{whole.lost_before} lost of {answered + refused}; {refused} refused; {whole.lost_after} sent after it and "
    text += f"met a closed connection; exit {sorted(set(exits))} after at most {max(took):.2f} s; {_STOPS} stops"
    is_held = not whole.lost_before and not others and set(exits) == {0} and max(took) <= _EXIT_S
    goal = "0 lost, new ones refused, exit <= 5 s"
    return Row(figure, goal, text, len(whole.statuses), verdict_of(is_held))


def _stopped(ours: Ours, outcomes: _Outcomes) -> float:
    """Seconds from the signal to the end."""
    stopped = [float("inf")]
    request = http_infer(CHAIN, bytes(4 * WIDTH))

    def keep_asking() -> None:
        with contextlib.suppress(OSError), connection(ours.http) as made, made.makefile("rb") as file:
            while True:
                sent_s = time.monotonic()
                try:
                    made.sendall(request)
                except OSError:
                    return  # not sent whole
                try:
                    status, _ = read_answer(file)
                except OSError:
                    outcomes.lost(sent_s, stopped[0])
                    return
                outcomes.answered(status)
                if status != 200:
                    return

    def keep_calling() -> None:
        import grpc  # noqa: PLC0415

        message = grpc_infer(CHAIN, bytes(4 * WIDTH))
        with grpc.insecure_channel(ours.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            infer = channel.unary_unary(INFER_METHOD)
            while True:
                sent_s = time.monotonic()
                try:
                    infer(message, timeout=_PATIENCE_S)
                except grpc.RpcError as error:
                    if _REFUSAL in (error.details() or ""):
                        outcomes.answered(503)
                    else:
                        outcomes.lost(sent_s, stopped[0])
                    return
                outcomes.answered(200)

    threads = [threading.Thread(target=each) for each in [keep_asking, keep_calling] * _CLIENTS]
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connection(ours.http)).sendall(b"GET /v2 HTTP/1.1\r\nX: ")
        for thread in threads:
            thread.start()
        time.sleep(_LOADED_S)
        processes = ours.tree.processes()
        stopped[0] = time.monotonic()
        for pid in processes:
            os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            ours.tree.process.wait(_PATIENCE_S)
        took_s = time.monotonic() - stopped[0]
    for thread in threads:
        thread.join()
    return took_s


def descriptor_rows() -> Iterator[Row]:
    """200 connections to a server that may have 64 descriptors, three times."""
    with serving(most_descriptors=_DESCRIPTORS) as ours:
        request = http_infer(DOUBLE, bytes(4 * WIDTH))
        ask_once(ours.http, request)
        found = [_exhausted(ours, request) for _ in range(_ROUNDS)]
        is_alive = ours.is_alive
    cpu, recovered_s = (max(each[index] for each in found) for index in (0, 1))
    held = min(each[2] for each in found)
    text = (
        f"at most {cpu:.1%} of a core with {held:g} of {_DESCRIPTORS} open; answers at most {recovered_s:.2f} s after"
    )
    is_held = cpu < _MOST_CPU and recovered_s <= _RECOVERED_S and is_alive and held >= _DESCRIPTORS - 2
    measured = f"{text} {_CONNECTIONS} connections end"
    yield Row("15 no descriptors left", "CPU < 20 %, recovers <= 1 s", measured, _ROUNDS, verdict_of(is_held))
    logged = log_text().count("\n")
    is_held = 0 < logged <= _MOST_LOGGED
    yield Row("15 what it logs", "1 to 10 lines", f"{logged} lines", _ROUNDS, verdict_of(is_held))


def _exhausted(ours: Ours, request: bytes) -> Tuple[float, float, float]:
    """The share of a core that it used meanwhile, the seconds until it answered again, and its descriptors."""
    with contextlib.ExitStack() as stack:
        for _ in range(_CONNECTIONS):
            made = stack.enter_context(socket.socket())
            made.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                made.connect(address_of(ours.http))
        begin_s, begin_cpu_s = time.monotonic(), ours.tree.cpu_s()
        time.sleep(_WATCHED_S)
        held = ours.descriptors()
        cpu = (ours.tree.cpu_s() - begin_cpu_s) / (time.monotonic() - begin_s)
    return cpu, _until_answered(ours.http, request), held


def _until_answered(address: str, request: bytes) -> float:
    begin_s = time.monotonic()
    while time.monotonic() < begin_s + _PATIENCE_S:
        with contextlib.suppress(OSError):
            if ask_once(address, request)[0] == 200:
                break
    return time.monotonic() - begin_s


def place_rows() -> Iterator[Row]:
    """A second server on a port or a socket that is taken; then one on a socket whose server was killed."""
    with tempfile.TemporaryDirectory(prefix="robustness-") as folder, serving() as ours:
        free = f"{folder}/free.sock"
        for name, words in (
            ("HTTP port", command(free, ["--http", ours.http])),
            ("gRPC port", command(free, ["--grpc", ours.grpc])),
            ("Unix socket", command(ours.unix)),
        ):
            status, took_s, said = ended(words)
            is_held = status == _CONFIG_EXIT and took_s <= _AT_ONCE_S and ours.is_alive
            text = f"exit {status} after {took_s:.2f} s: {said}"
            yield Row(f"22 two servers, one {name}", "exits 78 at once (<= 2 s)", text, 1, verdict_of(is_held))
    with tempfile.TemporaryDirectory(prefix="robustness-") as folder:
        path = f"{folder}/edge.sock"
        with serving(["--unix", path]) as first:
            os.kill(first.pid, signal.SIGKILL)
            first.tree.process.wait()
        was_left = Path(path).is_socket()
        with serving(["--unix", path]) as second:
            status, _ = ask_once(second.unix, http_infer(DOUBLE, bytes(4 * WIDTH)))
        text = f"{'left by kill -9' if was_left else 'NOT left'}; the next server answers {status} on it"
        yield Row("22 stale socket", "taken over", text, 1, verdict_of(was_left and status == 200))


def ended(words: List[str]) -> Tuple[int, float, str]:
    """Exit status of a server that ends by itself, the seconds that it took, and the start of what it said."""
    begin_s = time.monotonic()
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        text, _ = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
    return process.returncode, time.monotonic() - begin_s, message_of(text)


def message_of(text: str) -> str:
    """The error of our JSON output, or the start of any other text, on one line."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = json.loads(text.splitlines()[0])["error"]["message"]
    return " ".join(text.split())[:_SAID_LENGTH]

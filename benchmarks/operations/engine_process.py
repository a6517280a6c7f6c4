"""Figures 9 and 10 with each engine in a process of its own: it crashes under load, and all is stopped under load.

Clients of HTTP and gRPC ask two models, and look at each answer. At random moments the process of one of them gets
SIGSEGV: what ran in it must end in 503 or UNAVAILABLE, the other model's requests must not notice, and the next ones
must be answered again. A server is replaced after some crashes, for a process that ends again and again is started
ever later. The load is about half of what two cores do, generator and all; beside it stands one that saturates them,
where a new process has to share the cores to start.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from robustness.nets import CHAIN, DOUBLE, build
from robustness.ours import Ours, serving
from robustness.requests import INFER_METHOD, ask_once, connection, grpc_infer, http, http_infer, read_answer
from robustness.requests import rows as random_rows
from robustness.rows import BESIDE, Row, verdict_of
from robustness.stopping import drain_row
from serving.processes import process_table

FLAGS = ("--engine-process",)
_SERVERS, _SATURATED_SERVERS, _KILLS_A_SERVER, _CLIENTS = 7, 3, 3, 3
_PERIODS_S, _NO_PERIODS_S = {DOUBLE: 0.02, CHAIN: 0.06}, {DOUBLE: 0.0, CHAIN: 0.0}
_MOST_TO_ANSWER_S, _CALL_S, _PATIENCE_S = 3.0, 20.0, 30.0
_CALM_S = (0.2, 0.8)
_REFUSED_S, _POLL_S = 0.005, 0.005
_SEED = 9
_OK, _REFUSED = 200, 503
_SAID_NBYTES = 120
_RESTARTS = re.compile(r'^edge_runtime_engine_restarts_total\{model="(\w+)",.*reason="crashed"\} ([0-9]+)', re.M)


@dataclass(frozen=True)
class Asked:
    """A request and what became of it: a status, or 0 where there was no answer; a wrong one isn't right."""

    model: str
    sent_s: float
    ended_s: float
    status: int
    is_right: bool
    said: str = ""


@dataclass(frozen=True)
class Crash:
    """When which model's process was ended, and when the first answer came to a request that was sent later."""

    model: str
    at_s: float
    answered_s: float


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Crashes, then stops."""
    del options
    build()
    goal = "running ones 503, none lost or wrong, answers again <= 3 s, the other model goes on"
    text, is_held = result_of(*_crashed(_SERVERS, _PERIODS_S))
    kills = _SERVERS * _KILLS_A_SERVER
    yield Row("9 SIGSEGV under load, engine processes", goal, text, kills, verdict_of(is_held))
    text, _ = result_of(*_crashed(_SATURATED_SERVERS, _NO_PERIODS_S))
    kills = _SATURATED_SERVERS * _KILLS_A_SERVER
    yield Row("9 the same, all cores saturated", "-", text, kills, BESIDE)
    yield drain_row("10 SIGTERM under load, engine processes", FLAGS)


def _crashed(servers: int, periods_s: Mapping[str, float]) -> Tuple[List[Asked], List[Crash]]:
    """What was asked, and the crashes meanwhile, of so many servers one after another."""
    asked: List[Asked] = []
    crashes: List[Crash] = []
    rng = random.Random(_SEED)
    for _ in range(servers):
        with serving(FLAGS) as ours:
            _lower_priority(ours.pid)
            with Load(ours, periods_s) as load:
                crashes += [_crash(ours, load, rng) for _ in range(_KILLS_A_SERVER)]
            asked += load.asked
    return asked, crashes


def _lower_priority(pid: int) -> None:
    """To that of engine processes, which lead sessions of their own and so are not before others as the server is."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("0")


def result_of(asked: Sequence[Asked], crashes: Sequence[Crash]) -> Tuple[str, bool]:
    """All crashes in words, and whether the goal is held."""
    wrong = sum(each.status == _OK and not each.is_right for each in asked)
    lost = sum(each.status not in (_OK, _REFUSED) for each in asked)
    struck = [[each for each in asked if each.sent_s < crash.at_s < each.ended_s] for crash in crashes]
    failed = [[each for each in these if each.status == _REFUSED] for these in struck]
    longest_s = max((each.ended_s - crash.at_s for crash, these in zip(crashes, failed) for each in these), default=0.0)
    others = [each for each in asked if each.status == _REFUSED and not _is_excused(each, crashes)]
    answered_s = [crash.answered_s - crash.at_s for crash in crashes]
    text = (
        f"{lost} lost, {wrong} wrong of {len(asked):,}; {sum(map(len, failed))} that ran had their 503 after at most "
        f"{longest_s * 1e3:.0f} ms; right answers again after {statistics.median(answered_s):.2f} s (at most "
        f"{max(answered_s):.2f}); {len(others)} refused without cause"
    )
    if others:
        text += f", first {others[0].model}: {others[0].said}"
    is_held = any(failed) and not lost and not wrong and not others
    return text, is_held and max(*answered_s, longest_s) <= _MOST_TO_ANSWER_S


def _is_excused(asked: Asked, crashes: Sequence[Crash]) -> bool:
    """Whether a refused request met its own model's process while that was away."""
    return any(
        crash.model == asked.model and asked.ended_s > crash.at_s and asked.sent_s < crash.answered_s
        for crash in crashes
    )


def _crash(ours: Ours, load: Load, rng: random.Random) -> Crash:
    """Ends one of the processes at a random moment, and waits until its model answers again.

    Raises:
        RuntimeError: it doesn't.
    """
    time.sleep(rng.uniform(*_CALM_S))
    before = _restarts(ours)
    pids = sorted(pid for pid, entry in process_table().items() if entry.parent == ours.pid)
    at_s = time.monotonic()
    os.kill(rng.choice(pids), signal.SIGSEGV)
    model = _until(lambda: next((name for name, count in _restarts(ours).items() if count > before[name]), None))
    gone_s: float = _until(lambda: load.first_s(model, _REFUSED, at_s))
    answered_s: float = _until(lambda: load.first_s(model, _OK, gone_s))
    return Crash(model, at_s, answered_s)


def _restarts(ours: Ours) -> Dict[str, int]:
    """How often each model's process was replaced after a crash, by the server's metrics."""
    _, page = ask_once(ours.http, http("GET", "/metrics"))
    found = {name: int(count) for name, count in _RESTARTS.findall(page.decode())}
    return {name: found.get(name, 0) for name in (DOUBLE, CHAIN)}


def _until(find: Callable[[], Any]) -> Any:
    limit_s = time.monotonic() + _PATIENCE_S
    while True:
        found = find()
        if found is not None:
            return found
        if time.monotonic() > limit_s:
            raise RuntimeError(f"the engine's process wasn't replaced within {_PATIENCE_S:.0f} s")
        time.sleep(_POLL_S)


class Load:
    """Clients of both protocols and models, each with one request under way; they end with the block."""

    def __init__(self, ours: Ours, periods_s: Mapping[str, float]) -> None:
        self.asked: List[Asked] = []
        self._ours = ours
        self._periods_s = periods_s
        self._ends = threading.Event()
        self._threads = [
            threading.Thread(target=ask, args=(model, seed))
            for model in (DOUBLE, CHAIN)
            for ask in (self._ask_http, self._ask_grpc)
            for seed in range(_CLIENTS)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        for model in (DOUBLE, CHAIN):
            _until(lambda model=model: self.first_s(model, _OK, 0.0))
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def first_s(self, model: str, status: int, since_s: float) -> float | None:
        """When the first request ended so that had been sent after a moment; None if none has yet."""
        found = [a.ended_s for a in list(self.asked) if (a.model, a.status) == (model, status) and a.sent_s > since_s]
        return min(found, default=None)

    def _ask_http(self, model: str, seed: int) -> None:
        tensor = _tensor(seed)
        request, right = http_infer(model, tensor), self._right(model, tensor)
        while not self._ends.is_set():
            with contextlib.suppress(OSError), connection(self._ours.http) as made, made.makefile("rb") as file:
                while not self._ends.is_set():
                    sent_s, status, body = time.monotonic(), 0, b""
                    try:
                        made.sendall(request)
                        status, body = read_answer(file)
                    finally:
                        self._note(Asked(model, sent_s, time.monotonic(), status, body.endswith(right), _said(body)))

    def _ask_grpc(self, model: str, seed: int) -> None:
        import grpc  # noqa: PLC0415

        from edge_runtime.wire.messages import message  # noqa: PLC0415

        tensor = _tensor(seed)
        request, right = grpc_infer(model, tensor), self._right(model, tensor)
        answer = message("inference.ModelInferResponse")
        with grpc.insecure_channel(self._ours.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            infer = channel.unary_unary(INFER_METHOD, response_deserializer=answer.FromString)
            while not self._ends.is_set():
                sent_s, status, is_right, said = time.monotonic(), 0, False, ""
                try:
                    found = infer(request, timeout=_CALL_S)
                    status, is_right = _OK, found.raw_output_contents[0] == right
                except grpc.RpcError as error:
                    status, said = _REFUSED if error.code() is grpc.StatusCode.UNAVAILABLE else 0, str(error.details())
                self._note(Asked(model, sent_s, time.monotonic(), status, is_right, said))

    def _note(self, asked: Asked) -> None:
        self.asked.append(asked)
        wait_s = self._periods_s[asked.model] if asked.status == _OK else _REFUSED_S
        if wait_s:
            self._ends.wait(wait_s)

    def _right(self, model: str, tensor: bytes) -> bytes:
        """What the server answers while nothing is amiss."""
        status, body = ask_once(self._ours.http, http_infer(model, tensor))
        if status != _OK:
            raise RuntimeError(f"{model}: answered {status} before anything was done to it")
        return body[-len(tensor) :]


def _said(body: bytes) -> str:
    """The start of an error's text."""
    return body[:_SAID_NBYTES].decode(errors="replace") if body.startswith(b'{"error"') else ""


def _tensor(seed: int) -> bytes:
    return random_rows(1, random.Random(seed))

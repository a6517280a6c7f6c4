"""Figure 21: what a server does when the wall clock of its machine is set a day forward and a day back.

Boards start in 1970 and are set right later. A server with its engine in a process of its own, a deadline on each
request, a watchdog, and a store that it follows is asked all the time, over HTTP, gRPC and a Unix socket, while
libfaketime moves its wall clock; its monotonic clock goes on. That the clock has moved is read from the server's own
statistics. libfaketime turns a wait into one on the real clock when it begins, so a wait that is under way at the leap
can't be told by it: that no wait goes by the wall clock is read from the system calls instead.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Tuple

from robustness.rows import NOT_MEASURED, Row, verdict_of
from serving.places import own_environment
from serving.processes import Tree, started
from serving.servers import own_program, ready_line

from edge_runtime.plan.store import PlanStore
from operations import hot_swap
from operations.places import FOLDER

DAY_S = 86_400
_SHIFTS_S = (0, DAY_S, 0, -DAY_S, 0, -DAY_S, DAY_S, 0)
_HOLD_S, _TRACED_S = 3.0, 5.0
_DEADLINE_MS, _WATCHDOG_S, _END_S = 20_000, 5.0, 5.0  # far below a day, and no matter of how busy the cores are
_SWAP_S, _PAUSE_S = 30.0, 0.01
_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
_CALLS = "futex,clock_nanosleep,timerfd_create"
_TIMED = re.compile(r"(futex|clock_nanosleep)\(.*tv_sec|timerfd_create\(")
_BY_WALL_CLOCK = re.compile(
    r"FUTEX_CLOCK_REALTIME.*tv_sec|clock_nanosleep\(CLOCK_REALTIME, TIMER_ABSTIME|timerfd_create\(CLOCK_REALTIME"
)


@dataclass
class Seen:
    """What clients, a probe of readiness and a service manager saw."""

    longest_s: float = 0.0
    asked: int = 0
    failed: List[str] = field(default_factory=list)
    not_ready: List[str] = field(default_factory=list)
    beats_s: List[float] = field(default_factory=list)

    @property
    def longest_pause_s(self) -> float:
        """Between two signs of life."""
        return max((after - before for before, after in zip(self.beats_s, self.beats_s[1:])), default=0.0)

    @property
    def problems(self) -> List[str]:
        """All that was wrong."""
        pause = self.longest_pause_s
        silent = [f"no sign of life for {pause:.1f} s"] if pause > _WATCHDOG_S or len(self.beats_s) < 2 else []
        return [*self.failed, *self.not_ready, *silent]


def rows(_: argparse.Namespace) -> Iterator[Row]:
    """The clock set forth and back under load, and what the server waits by."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        hot_swap.build(Path(folder), Path(folder, "engines"))
        yield _moved_row(Path(folder))
        yield _waits_row(Path(folder))


def _moved_row(folder: Path) -> Row:
    figure = "21 the wall clock set a day forward and back"
    goal = f"no timeout fires, nothing hangs, ready throughout, ends <= {_END_S:g} s"
    library = next((str(path) for pattern in _LIBRARIES for path in sorted(Path("/").glob(pattern[1:]))), "")
    if not library:
        return Row(figure, goal, "needs libfaketime (apt-get install faketime)", 0, NOT_MEASURED)
    calm, moved, end_s, problems = _moved(folder, library)
    problems = [*calm.problems, *moved.problems, *problems]
    text = (
        f"{len(_SHIFTS_S) - 1} leaps, {moved.asked:,} requests with a deadline of {_DEADLINE_MS / 1e3:g} s, "
        f"{len(calm.failed) + len(moved.failed)} failed, longest {moved.longest_s * 1e3:.0f} ms "
        f"(before: {calm.longest_s * 1e3:.0f}); {len(moved.beats_s)} signs of life, {moved.longest_pause_s:.2f} s "
        f"between two at most; ended in {end_s:.2f} s"
    )
    text += f"; first: {problems[0]}" if problems else ""
    return Row(figure, goal, text, moved.asked, verdict_of(not problems and end_s <= _END_S))


def _moved(folder: Path, library: str) -> Tuple[Seen, Seen, float, List[str]]:
    """What was seen before the clock leaps and while it does, how long the end took, and what else was wrong."""
    shift = folder / "shift"
    _set_clock(shift, 0)
    environment = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(shift),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    problems = []
    with _managed(folder) as manager, _served(folder, {**environment, **manager.environment}) as (tree, ready):
        with hot_swap.clients(ready) as asks, _watched(ready["http"], asks[:-1], manager) as calm:
            time.sleep(_HOLD_S)
        with hot_swap.clients(ready) as asks, _watched(ready["http"], asks[:-1], manager) as moved:
            for shift_s in _SHIFTS_S:
                _set_clock(shift, shift_s)
                time.sleep(_HOLD_S)
                problems += _clock_problems(ready["http"], shift_s)
        problems += _swap_problems(PlanStore(folder / "engines"), ready["http"], shift)
        begun_s = time.monotonic()
        tree.process.send_signal(signal.SIGTERM)
        _set_clock(shift, DAY_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            tree.process.wait(2 * _END_S)
        end_s = time.monotonic() - begun_s
    return calm, moved, end_s, problems


def _set_clock(file: Path, shift_s: int) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(f"{shift_s:+d}\n")
    beside.replace(file)


def _clock_problems(address: str, shift_s: int) -> List[str]:
    """Whether the server's own clock isn't where it was set."""
    statistics = json.loads(_fetched(address, f"/v2/models/{hot_swap.MODEL}/stats")[1])
    last_s = statistics["model_stats"][0]["last_inference"] / 1e3
    off_s = last_s - time.time() - shift_s
    return [] if abs(off_s) < DAY_S / 24 else [f"set {shift_s:+d} s, the server's clock is {off_s:+.0f} s off that"]


def _swap_problems(store: PlanStore, address: str, shift: Path) -> List[str]:
    """Whether a new version isn't noticed any more once the clock is back."""
    _set_clock(shift, -DAY_S)
    version = next(each for each in store.versions(hot_swap.MODEL) if each != store.served(hot_swap.MODEL))
    store.serve(hot_swap.MODEL, version)
    end_s = time.monotonic() + _SWAP_S
    path = f"/v2/models/{hot_swap.MODEL}/versions/{version}/ready"
    while time.monotonic() < end_s:
        if _fetched(address, path)[0] == http.client.OK:
            return []
        time.sleep(0.05)
    return [f"a new version isn't served after {_SWAP_S:g} s"]


class _Manager:
    """The socket that a service manager listens on; keeps when signs of life came."""

    def __init__(self, receiver: socket.socket, path: Path) -> None:
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(_WATCHDOG_S * 1e6))}
        self.beats_s: List[float] = []
        self._receiver = receiver
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            message = self._receiver.recv(8192)
            if not message:
                return
            if b"WATCHDOG=1" in message.splitlines():
                self.beats_s.append(time.monotonic())

    def close(self, path: Path) -> None:
        """Ends the thread by an empty message."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", str(path))
        self._thread.join()


@contextlib.contextmanager
def _managed(folder: Path) -> Iterator[_Manager]:
    path = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        manager = _Manager(receiver, path)
        try:
            yield manager
        finally:
            manager.close(path)


@contextlib.contextmanager
def _served(folder: Path, more: Dict[str, str], *before: str) -> Iterator[Tuple[Tree, Dict[str, str]]]:
    """A server with timers of every kind, run by the words of another program `before` it."""
    command = [*before, own_program(), "serve", "--engines", str(folder / "engines"), "--follow", "--json"]
    command += ["--unix", str(folder / "socket"), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    environment = {
        **own_environment(),
        "EDGE_RUNTIME_SERVER__ENGINE_PROCESS": "true",
        "EDGE_RUNTIME_SERVER__FOLLOW_INTERVAL_S": "0.2",
        "EDGE_RUNTIME_SERVER__GOLDEN_INTERVAL_S": "1",
        "EDGE_RUNTIME_SERVING__DEADLINE_MS": str(_DEADLINE_MS),
        **more,
    }
    with started(command, "clock", environment, stdout=subprocess.PIPE) as tree:
        yield tree, ready_line(tree)


@contextlib.contextmanager
def _watched(address: str, asks: List[hot_swap.Ask], manager: _Manager | None) -> Iterator[Seen]:
    """Clients that ask, and a probe of readiness, for the length of the block."""
    seen, ends, lock = Seen(), threading.Event(), threading.Lock()
    expected = asks[0]()
    begun = len(manager.beats_s) if manager is not None else 0

    def ask_on(ask: hot_swap.Ask) -> None:
        while not ends.is_set():
            begun_s = time.monotonic()
            try:
                problem = "" if ask() == expected else "an answer is wrong"
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            with lock:
                seen.asked += 1
                seen.longest_s = max(seen.longest_s, time.monotonic() - begun_s)
                seen.failed += [problem] if problem else []
            ends.wait(_PAUSE_S)

    def probe() -> None:
        while not ends.is_set():
            status, body = _fetched(address, "/v2/health/ready")
            if status != http.client.OK:
                seen.not_ready.append(f"not ready: {body[:200]!r}")
            ends.wait(0.05)

    threads = [threading.Thread(target=ask_on, args=(ask,)) for ask in asks] + [threading.Thread(target=probe)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ends.set()
        for thread in threads:
            thread.join()
        seen.beats_s = manager.beats_s[begun:] if manager is not None else []


def _fetched(address: str, path: str) -> Tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=_SWAP_S)) as connection:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()


def _waits_row(folder: Path) -> Row:
    figure, goal = "21 waits by the wall clock while it serves", "none"
    if shutil.which("strace") is None:
        return Row(figure, goal, "needs strace (apt-get install strace)", 0, NOT_MEASURED)
    log = folder / "calls"
    strace = ("strace", "-f", "-qq", "--signal=none", "-o", str(log), "-e", f"trace={_CALLS}")
    with _served(folder, {}, *strace) as (_, ready), hot_swap.clients(ready) as asks:
        with _watched(ready["http"], asks[:-1], None) as seen:
            time.sleep(_TRACED_S)
        with log.open(errors="replace") as lines:
            timed, wrong = waits(lines)
        for pid in _servers(log):
            os.kill(pid, signal.SIGTERM)  # strace itself would let go of it at once
    text = f"{len(wrong)} of {timed:,} waits with a timeout, over {seen.asked:,} requests"
    text += f"; first: {wrong[0][:120]}" if wrong else ""
    return Row(figure, goal, text, timed, verdict_of(timed > 0 and not wrong))


def waits(lines: Iterable[str]) -> Tuple[int, List[str]]:
    """How many calls of a trace wait with a timeout, and those of them whose end the wall clock decides."""
    timed = [line for line in lines if _TIMED.search(line)]
    return len(timed), [line.split(None, 1)[1].strip() for line in timed if _BY_WALL_CLOCK.search(line)]


def _servers(log: Path) -> List[int]:
    """The process that strace started: the first one that it wrote of."""
    with log.open() as lines:
        return [int(line.split(None, 1)[0]) for line in itertools.islice(lines, 1)]

"""Processes that the benchmark starts: each leads a session of its own, and nothing of that session outlives it.

What a tree of processes holds and has used is read from /proc.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Set

from serving.places import LOGS

_AUTOGROUP = "/proc/self/autogroup"
_NICE = "-15"
_STOP_S, _LEFTOVERS_S, _POLL_S = 10.0, 1.0, 0.02


@dataclass(frozen=True)
class Entry:
    """A line of the process table; `started` tells a process from a later one of the same id."""

    parent: int
    session: int
    started: int


def entry_from_stat(text: str) -> Entry:
    """From the text of /proc/PID/stat, whose command may hold spaces and brackets."""
    words = text.rpartition(")")[2].split()
    return Entry(parent=int(words[1]), session=int(words[3]), started=int(words[19]))


def process_table() -> Dict[int, Entry]:
    """Every process now."""
    table = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                table[int(folder.name)] = entry_from_stat((folder / "stat").read_text())
    return table


def members(leader: int, table: Mapping[int, Entry]) -> Set[int]:
    """The processes of a leader: its session, and the descendants of these."""
    found = {pid for pid, entry in table.items() if leader in (pid, entry.session)}
    while True:
        more = {pid for pid, entry in table.items() if entry.parent in found} - found
        if not more:
            return found
        found |= more


def may_raise_priority() -> bool:
    """Whether a session may put its group of the scheduler before others (`/proc/self/autogroup`)."""
    command = ["sh", "-c", f"echo {_NICE} > {_AUTOGROUP} && cat {_AUTOGROUP}"]
    done = subprocess.run(command, start_new_session=True, check=False, capture_output=True, text=True)
    return f"nice {_NICE}" in done.stdout


def _raise_priority() -> None:
    with contextlib.suppress(OSError), open(_AUTOGROUP, "w") as group:  # noqa: PTH123  (between fork and exec)
        group.write(_NICE)


@dataclass
class Tree:
    """A process that leads a session, and all that came of it."""

    process: subprocess.Popen[str]
    started_s: float
    _seen: Dict[int, int] = field(default_factory=dict)

    def processes(self) -> Set[int]:
        """The ids of those alive now."""
        table = process_table()
        found = members(self.process.pid, table)
        self._seen.update({pid: table[pid].started for pid in found})
        return found

    def pss_bytes(self) -> int:
        """Proportional set size of all."""
        return sum(_pss_bytes(pid) for pid in self.processes())

    def cpu_s(self) -> float:
        """Processor time of all threads that are alive."""
        return sum(_cpu_ns(pid) for pid in self.processes()) / 1e9

    def end(self) -> None:
        """Asks the group to stop, waits, and kills what is left of the session; signals to us wait until then."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            self._end()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _end(self) -> None:
        self.processes()
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_S)
        self._wait_for_leftovers()
        for pid in self._leftovers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._wait_for_leftovers()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def _wait_for_leftovers(self) -> None:
        limit = time.monotonic() + _LEFTOVERS_S
        while self._leftovers() and time.monotonic() < limit:
            time.sleep(_POLL_S)

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _leftovers(self) -> Set[int]:
        table = process_table()
        seen = {pid for pid, started in self._seen.items() if pid in table and table[pid].started == started}
        return {pid for pid in members(self.process.pid, table) | seen if _is_running(pid)}


@contextlib.contextmanager
def started(command: Sequence[str], log: str, env: Mapping[str, str] | None = None, **streams: Any) -> Iterator[Tree]:
    """A tree that is ended at the end; what isn't in `streams` goes to `.bench/logs/<log>.log`."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{log}.log").open("w") as file:
        begin_s = time.monotonic()
        process = subprocess.Popen(
            list(command),
            env=None if env is None else dict(env),
            start_new_session=True,
            preexec_fn=_raise_priority,  # noqa: PLW1509  (one thread only)
            text=True,
            stderr=file,
            **{"stdout": file, "stdin": subprocess.DEVNULL, **streams},
        )
        tree = Tree(process, begin_s)
        try:
            yield tree
        finally:
            tree.end()


def output_of(command: Sequence[str], log: str, timeout_s: float, env: Mapping[str, str] | None = None) -> str:
    """What a command prints; it is ended if it takes longer.

    Raises:
        RuntimeError: it ended with another status than 0, or took too long; the message ends with its last words.
    """
    with started(command, log, env, stdout=subprocess.PIPE) as tree:
        try:
            text, _ = tree.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{command[0]}: no end after {timeout_s:.0f} s") from None
    if tree.process.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: status {tree.process.returncode}: {last_words(log, text)}")
    return text


def last_words(log: str, text: str = "") -> str:
    """The last line that a process wrote to its log, else of `text`."""
    written = (LOGS / f"{log}.log").read_text(errors="replace").strip() or text.strip()
    return written.splitlines()[-1] if written else "it said nothing"


def busy_s(text: str) -> float:
    """Processor time that the machine has spent, from the text of /proc/stat; what a hypervisor took counts."""
    user, nice, system, _, _, irq, softirq, steal = (int(word) for word in text.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _pss_bytes(pid: int) -> int:
    lines: List[str] = []
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _cpu_ns(pid: int) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total

"""A build in a process of its own, which can't take the board down: its memory is watched, and it always ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Type

from edge_runtime import errors
from edge_runtime.builder.tensorrt.build_plan import (
    BuildCancelledError,
    OutOfMemoryError,
    OverLimitError,
    WorkspaceError,
)
from edge_runtime.builder.tensorrt.ladder import MIB, Ceiling
from edge_runtime.builder.tensorrt.network import ParseError, ParserProblem
from edge_runtime.builder.tensorrt.request import BuildRequest
from edge_runtime.builder.tensorrt.worker import parse_request
from edge_runtime.device.memory import available_nbytes
from edge_runtime.engine.child_process import module_command
from edge_runtime.errors import BackendError, EdgeRuntimeError

OnThousandths = Callable[[int], None]

_WATCH_S = 0.05
_GRACE_S = 12.0
_KINDS: Dict[str, Type[EdgeRuntimeError]] = {
    "OutOfMemoryError": OutOfMemoryError,
    "BuildCancelledError": BuildCancelledError,
    "WorkspaceError": WorkspaceError,
}


@dataclass(frozen=True)
class ChildOptions:
    """How a child is run: its ceiling, what it is started with, and the root of /proc."""

    ceiling: Ceiling = field(default_factory=lambda: Ceiling(None, None))
    command: Sequence[str] = module_command("edge_runtime.builder.tensorrt.worker")
    root: Path = Path("/")


class BuildChild:
    """One request carried out by a child process."""

    def __init__(self, line: str, options: ChildOptions) -> None:
        self._options = options
        self._killed = ""
        self._death_kind: Type[OutOfMemoryError] = OutOfMemoryError
        self._oom_kills = _oom_kills(options.root)
        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*options.command, str(writer)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(writer,),
                start_new_session=True,  # Ctrl-C is for us to pass on
                text=True,
                errors="replace",  # libraries write what they like
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._events = os.fdopen(reader, encoding="utf-8")
        self._errors: List[str] = []
        self._threads = [
            threading.Thread(target=self._read_errors, daemon=True),
            threading.Thread(target=self._watch, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        with contextlib.suppress(BrokenPipeError):  # it ended already, of which its status tells
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def result(self, on_thousandths: OnThousandths = lambda _: None) -> Dict[str, Any]:
        """What the child made of the request. Interrupted, it is told to stop, and ended if it doesn't.

        Raises:
            EdgeRuntimeError: what it failed by; `OutOfMemoryError` if memory was the reason.
        """
        try:
            final = self._final_event(on_thousandths)
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:  # it answered, and can't end
            self._kill()
        except BaseException:
            self._stop()
            raise
        finally:
            self._close()
        if final is None:
            raise self._death()
        if final["event"] == "error":
            raise _raised(final)
        return final

    def _final_event(self, on_thousandths: OnThousandths) -> Dict[str, Any] | None:
        final = None
        for line in self._events:
            if not line.endswith("\n"):
                break  # it ended in the middle of a line
            event = json.loads(line)
            if event["event"] == "progress":
                on_thousandths(event["thousandths"])
            else:
                final = event
        return final

    def _stop(self) -> None:
        """Asks it to end, and ends it."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _close(self) -> None:
        if self._process.poll() is None:
            self._kill()
            self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stderr, self._events):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors = [*self._errors[-19:], line.rstrip()]

    def _watch(self) -> None:
        """Ends the child before it takes more than it may, or the machine has too little left."""
        ceiling = self._options.ceiling
        if ceiling.held_nbytes is None and ceiling.available_nbytes is None:
            return
        while self._process.poll() is None:
            held, left = _held_nbytes(self._options.root, self._process.pid), available_nbytes(self._options.root)
            if held is not None and ceiling.held_nbytes is not None and held > ceiling.held_nbytes:
                self._death_kind = OverLimitError
                self._killed = f"it held {held // MIB} MiB, of {ceiling.held_nbytes // MIB} MiB that it may take"
            elif left is not None and ceiling.available_nbytes is not None and left < ceiling.available_nbytes:
                least = ceiling.available_nbytes // MIB
                self._killed = f"{left // MIB} MiB were left on this machine, of {least} MiB that must stay available"
            if self._killed:
                self._kill()
                return
            time.sleep(_WATCH_S)  # memory has no event to wait for

    def _death(self) -> BackendError:
        """Why a child ended that didn't say so itself."""
        code = self._process.returncode
        if self._killed:
            return self._death_kind(f"the build was stopped: {self._killed}")
        if code == -signal.SIGKILL:
            kills = _oom_kills(self._options.root)
            is_kernel = kills is not None and self._oom_kills is not None and kills > self._oom_kills
            reason = "the kernel ended it, for memory ran out" if is_kernel else "most likely memory ran out"
            return OutOfMemoryError(f"the build was killed (SIGKILL): {reason}")
        said = f": {' | '.join(self._errors[-3:])}" if self._errors else ""
        if any("bad_alloc" in line or "out of memory" in line.lower() for line in self._errors):
            return OutOfMemoryError(f"the build's process ended for want of memory{said[:1000]}")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return BackendError(f"the build's process ended {how} and gave no reason{said[:1000]}")


def _raised(event: Mapping[str, Any]) -> EdgeRuntimeError:
    """The child's error, in this process."""
    if event["type"] == "ParseError":
        return ParseError(event["message"], [ParserProblem(**problem) for problem in event["problems"]])
    known: Type[EdgeRuntimeError] = getattr(errors, event["type"], BackendError)
    return _KINDS.get(event["type"], known)(event["message"])


def parser_problems(
    request: BuildRequest, models: Sequence[Path], options: ChildOptions
) -> Iterator[List[ParserProblem]]:
    """What the parser of a request's library says, with its plugins, of each of some models, in their order."""
    line = parse_request(request.library, [str(path) for path in models], request.plugins)
    answer = BuildChild(line, options).result()
    for problems in answer["problems"]:
        yield [ParserProblem(**problem) for problem in problems]


def _held_nbytes(root: Path, pid: int) -> int | None:
    """The memory of a process that no file backs, swapped out or not; None if it can't be read."""
    try:
        lines = (root / f"proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    sizes = [fields.get(name, "").split() for name in ("RssAnon", "RssShmem", "VmSwap")]
    return sum(int(words[0]) * 1024 for words in sizes if words)


def _oom_kills(root: Path) -> int | None:
    """How many processes the kernel has ended for want of memory since it started; None if it doesn't say."""
    try:
        lines = (root / "proc/vmstat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)

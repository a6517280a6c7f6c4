"""One recipe built in a process of its own, of which whatever happens to it is an outcome."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Mapping, Sequence

from edge_runtime.builder.progress import Progress
from edge_runtime.engine.child_process import module_command
from edge_runtime.provisioning.sources import Source

BUILT, UNCHANGED, FAILED, REFUSED, SKIPPED = "built", "unchanged", "failed", "refused", "skipped"

_GOOD = (BUILT, UNCHANGED)
_STATES = {"GateError": REFUSED, "ShortageError": SKIPPED}
_GRACE_S = 15.0


@dataclass(frozen=True)
class FleetOptions:
    """Where the plans of a store are kept, how many old ones of each, and with which keys they are made.

    `report` is the folder that what came of each model is written into, as `MODEL.json`; None: it isn't.
    """

    engines: Path
    calib_cache: Path
    keep: int = 2
    sign: Path | None = None
    encrypt: bool = False
    report: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one model.

    `reason` is why it isn't built, else why this precision was chosen; `latency` that of the chosen candidate over
    another's; `removed` are old versions.
    """

    model: str
    state: str
    source: str
    version: int | None = None
    precision: str = ""
    backend: str = ""
    latency: Mapping[str, Any] | None = None
    reason: str = ""
    is_signed: bool = False
    duration_s: float = 0.0
    removed: Sequence[int] = field(default_factory=tuple)

    @property
    def is_good(self) -> bool:
        """Whether there is a plan of it as it should be."""
        return self.state in _GOOD

    def record(self) -> Dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "removed": list(self.removed)}


def recipe_outcome(
    source: Source,
    options: FleetOptions,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
    command: Sequence[str] = module_command("edge_runtime.provisioning.recipe_worker"),
) -> Outcome:
    """Builds a source's recipe; nothing that goes wrong with it is raised."""
    begun_s = clock()
    event = _final_event(source, options, progress, command)
    duration_s = clock() - begun_s
    if event["event"] == "error":
        state = _STATES.get(event["type"], FAILED)
        return Outcome(source.model, state, str(source.path), reason=event["message"], duration_s=duration_s)
    return Outcome(
        source.model,
        UNCHANGED if event["is_reused"] else BUILT,
        str(source.path),
        event["version"],
        event["precision"],
        event["backend"],
        event["latency"],
        event["reason"],
        event["is_signed"],
        duration_s,
    )


def _final_event(
    source: Source, options: FleetOptions, progress: Progress, command: Sequence[str]
) -> Mapping[str, Any]:
    reader, writer = os.pipe()
    try:
        child = subprocess.Popen(
            [*command, str(writer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(writer,),
            start_new_session=True,  # Ctrl-C is for us to pass on
            text=True,
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8") as events:  # noqa: PTH123  (a descriptor)
        try:
            found = _heard(child, _request(source, options), events, progress)
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:  # it answered, and can't end
            pass
        finally:
            _end(child)
    return found[-1] if found else {"event": "error", "type": "BackendError", "message": _death(child.returncode)}


def _request(source: Source, options: FleetOptions) -> str:
    return json.dumps(
        {
            "source": {**asdict(source), "path": str(source.path)},
            "engines": str(options.engines),
            "calib_cache": str(options.calib_cache),
            "sign": None if options.sign is None else str(options.sign),
            "encrypt": options.encrypt,
            "report": None if options.report is None else str(options.report / f"{source.model}.json"),
        }
    )


def _heard(child: subprocess.Popen[str], request: str, events: IO[str], progress: Progress) -> List[Mapping[str, Any]]:
    """Passes progress on until the child has no more to say; what it answered, if it did."""
    try:
        assert child.stdin is not None
        child.stdin.write(request + "\n")
        child.stdin.flush()
    except BrokenPipeError:
        return []  # it ended already, of which its status tells
    final = []
    for line in events:
        if not line.endswith("\n"):
            break  # it ended in the middle of a line
        event = json.loads(line)
        if event["event"] == "stage":
            progress.stage(event["name"], event["total"])
        elif event["event"] == "advance":
            progress.advance(event["steps"])
        elif event["event"] == "note":
            progress.note(event["text"])
        else:
            final.append(event)
    return final


def _end(child: subprocess.Popen[str]) -> None:
    """Ends it if it still runs: first as Ctrl-C would, so that its work folders go with it."""
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _death(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the build was killed (SIGKILL); most likely memory ran out: stop what holds it, or use a smaller batch"
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
    return f"the build's process ended {how} and gave no reason; its messages are above"

"""The child process that builds: a request on standard input, events on the descriptor that it is given.

Its argument is the descriptor's number. Every event is a line of JSON. When standard input ends, the parent
is gone or has had enough, and the build stops.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, TextIO

from edge_runtime.builder.tensorrt.build_plan import Hooks, build_plan
from edge_runtime.builder.tensorrt.network import Network, ParseError, problem_records
from edge_runtime.builder.tensorrt.request import request_from_json
from edge_runtime.engine.tensorrt.plan_engine import load_plugins
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.tensorrt_api import MessageLog, TensorRT, load, make_logger, translated

logger = logging.getLogger(__name__)

_FIRST_VICTIM = "800"  # of the kernel, when memory runs out
_GRACE_S = 10.0
EXIT_CANCELLED = 3


class Events:
    """Events to the parent; a parent that is gone hears nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: str, **content: Any) -> None:
        """Writes one event."""
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._stream.write(json.dumps({"event": event, **content}) + "\n")
            self._stream.flush()


def main() -> None:
    """Reads one request, carries it out, and reports."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    try:
        with open(int(sys.argv[1]), "w", encoding="utf-8") as stream:  # noqa: PTH123  (a descriptor)
            _serve(Events(stream))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)  # destroying TensorRT's objects may wait for ever, and libraries without a driver crash


def _serve(events: Events) -> None:
    with contextlib.suppress(OSError):  # not everywhere may a process say so
        Path("/proc/self/oom_score_adj").write_text(_FIRST_VICTIM, encoding="utf-8")
    text = sys.stdin.readline()
    cancelled = threading.Event()
    hooks = Hooks(_throttled(events), cancelled.is_set)
    threading.Thread(target=_watch_parent, args=(cancelled, hooks), daemon=True).start()
    try:
        events.send("done", **_answer(text, hooks))
    except EdgeRuntimeError as error:
        problems = problem_records(error.problems) if isinstance(error, ParseError) else []
        events.send("error", type=type(error).__name__, message=str(error), problems=problems)
    except MemoryError:
        events.send("error", type="OutOfMemoryError", message="Python ran out of memory", problems=[])
    except Exception as error:  # this process's top frame: its parent must hear of it
        logger.exception("the build failed")
        events.send("error", type="BackendError", message=f"unexpected {type(error).__name__}: {error}", problems=[])


def _answer(text: str, hooks: Hooks) -> Dict[str, Any]:
    content = json.loads(text)
    library = load(content["library"])
    if "models" in content:
        return {"problems": _parse_problems(library, content, hooks.kept)}
    return build_plan(request_from_json(text), library, hooks).record()


def _throttled(events: Events) -> Any:
    """Sends a share that is done when it grew by a thousandth."""
    sent = [-1]

    def on_fraction(fraction: float) -> None:
        thousandths = int(fraction * 1000)
        if thousandths > sent[0]:
            sent[0] = thousandths
            events.send("progress", thousandths=thousandths)

    return on_fraction


def _parse_problems(library: TensorRT, content: Mapping[str, Any], kept: List[Any]) -> List[Any]:
    """What the parser says of each model of one node."""
    log = MessageLog()
    logger = make_logger(library, log)
    load_plugins(library, logger, content["plugins"])
    builder = library.module.Builder(logger)
    kept += [logger, builder]
    found: List[Any] = []
    for path in content["models"]:
        found.append([])
        try:
            with translated(library.text, log):
                kept.append(Network(library, builder, logger, is_strongly_typed=False))
                kept[-1].parse(path, log)
        except ParseError as error:
            found[-1] = problem_records(error.problems)
        except EdgeRuntimeError:
            pass
    return found


def _watch_parent(cancelled: threading.Event, hooks: Hooks) -> None:
    """Asks for the build's end when standard input ends, and ends the process if that isn't heard."""
    with contextlib.suppress(ValueError, OSError):
        while sys.stdin.readline():
            pass
    cancelled.set()
    if hooks.asks.is_set():
        threading.Event().wait(_GRACE_S)
    os._exit(EXIT_CANCELLED)


def parse_request(library: str, models: Sequence[str], plugins: Sequence[str]) -> str:
    """The line that asks what the parser says of each model of one node."""
    return json.dumps({"library": library, "models": list(models), "plugins": list(plugins)})

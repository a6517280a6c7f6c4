"""The process that builds one recipe: what it imports, holds and breaks is gone with it.

It reads one request, a line of JSON, from standard input, and writes events, a line of JSON each, to the descriptor
that its argument names. Standard output is the libraries'.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any, Dict, Mapping

from edge_runtime.builder.builder import BuiltPlan, build
from edge_runtime.builder.job import BuildOptions
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.plan.plan_key import plan_key
from edge_runtime.provisioning.device_key import found_key, found_signer
from edge_runtime.provisioning.sources import Source
from edge_runtime.provisioning.verdict import reporting

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


class EventProgress:
    """A build's progress as events."""

    def __init__(self, events: IO[str]) -> None:
        self._events = events

    def stage(self, name: str, total: int | None = None) -> None:
        """Sends a stage."""
        self.send({"event": "stage", "name": name, "total": total})

    def advance(self, steps: int = 1) -> None:
        """Sends steps."""
        self.send({"event": "advance", "steps": steps})

    def note(self, text: str) -> None:
        """Sends a note."""
        self.send({"event": "note", "text": text})

    def send(self, event: Mapping[str, Any]) -> None:
        """Writes one event."""
        self._events.write(json.dumps(event) + "\n")
        self._events.flush()


def answer(request: Mapping[str, Any], progress: EventProgress) -> Dict[str, Any]:
    """Builds what a request asks for; the event that ends it."""
    try:
        source = Source(**{**request["source"], "path": Path(request["source"]["path"])})
        key, report = _path(request["sign"]), _path(request["report"])
        options = BuildOptions(
            Path(request["engines"]),
            Path(request["calib_cache"]),
            seal=plan_key() if request["encrypt"] else None,
            sign=found_signer(key, source.pack_sha256),
        )
        recipe = source.recipe()
        with reporting(report, recipe, options.trust, found_key(key)) as heard:
            return _built_event(heard(build(recipe, options, progress)))
    except EdgeRuntimeError as error:
        return {"event": "error", "type": type(error).__name__, "message": str(error)}
    except MemoryError:
        return {"event": "error", "type": "ShortageError", "message": "Python ran out of memory"}
    except Exception as error:  # this process's top frame: a function of the recipe's may raise anything
        logger.exception("%s", request["source"]["path"])
        return {"event": "error", "type": "BackendError", "message": f"unexpected {type(error).__name__}: {error}"}


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _built_event(built: BuiltPlan) -> Dict[str, Any]:
    manifest = built.manifest
    chosen = next((each for each in manifest.candidates if each.verdict in ("chosen", "forced")), None)
    latency = None if chosen is None or chosen.latency is None else chosen.latency.model_dump(mode="json")
    return {
        "event": "built",
        "version": manifest.version,
        "precision": manifest.precision,
        "backend": manifest.backend.name,
        "is_reused": built.is_reused,
        "is_signed": built.is_signed,
        "latency": latency,
        "reason": manifest.reason,
    }


def main() -> None:
    """Reads one request, carries it out and answers; ends when the process that started it does."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):  # of the kernel, when memory runs out: this one first, not the server
        Path("/proc/self/oom_score_adj").write_text("800", encoding="utf-8")
    os.dup2(2, 1)  # libraries write to standard output too
    line = sys.stdin.readline()
    if not line:
        return
    with open(int(sys.argv[-1]), "w", encoding="utf-8") as events:  # noqa: PTH123  (a descriptor)
        progress = EventProgress(events)
        with contextlib.suppress(KeyboardInterrupt):  # who interrupts it needs no answer
            progress.send(answer(json.loads(line), progress))

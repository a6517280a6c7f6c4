"""The child process that tries a plan out, so that a plan which ends its process ends only this one.

It reads a request (`TrialRequest.line`) from standard input and writes
one line of JSON to standard output: that the plan can be used, or why it can't.
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
from typing import Any, Dict, List, Tuple

from edge_runtime.device.cuda.loading import open_cuda
from edge_runtime.device.cuda.port import Cuda
from edge_runtime.engine.tensorrt.plan_engine import PlanEngine
from edge_runtime.engine.tensorrt.slot import TensorRTSlot
from edge_runtime.engine.tensorrt.tensor_io import EnqueueError, UnfitInputsError
from edge_runtime.engine.tensorrt.trial_request import TrialRequest, request_from_line
from edge_runtime.errors import EdgeRuntimeError, InvalidRequestError
from edge_runtime.tensorrt_api import TensorRT, load

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def trial(request: TrialRequest, cuda: Cuda, library: TensorRT, owned: contextlib.ExitStack) -> Dict[str, Any]:
    """Loads the plan, checks it and runs it: whether it ran, or made-up data alone is why not, and the problem.

    What it makes is given back with `owned`; a process of its own just ends.

    Raises:
        PlanCorruptError: the file isn't what its record says.
        BackendError: the plan can't be used: TensorRT or CUDA fails, whatever it is fed.
    """
    file = request.file
    shared = PlanEngine(file.read(), request.signature, library, cuda, request.options, request.what)
    slot = owned.enter_context(contextlib.closing(TensorRTSlot(shared, file.read)))
    ran, problem = _run(slot, request)
    return {"ok": True, "ran": ran, "problem": problem}


def _run(slot: TensorRTSlot, request: TrialRequest) -> Tuple[bool, str]:
    """Runs the largest shapes on zeros, or on ones if it can't: a size or a divisor that is fed in can't be zero."""
    ran, problem = True, ""
    for value in (0, 1):
        for name, limits in request.signature.profile.items():
            slot.bind(name, limits.maximum).fill(value)
        try:
            slot.run()
        except (InvalidRequestError, UnfitInputsError) as error:
            problem = str(error)
        except EnqueueError as error:
            if not slot.has_deciding_values:
                raise
            ran, problem = False, str(error)
        else:
            return True, ""
    return ran, problem


def answer(line: str, owned: contextlib.ExitStack, errors: List[BaseException]) -> Dict[str, Any]:
    """What is answered to a request; CUDA is opened first, for a TensorRT without a driver may end the process.

    An error is kept in `errors`: TensorRT's objects, which hang on it, may wait for ever when they are destroyed.
    """
    what = "a trial run"
    try:
        request = request_from_line(line)
        what = request.what
        cuda = open_cuda(request.options.device)
        cuda.use_device(request.options.device)
        return trial(request, cuda, load(request.options.library), owned)
    except EdgeRuntimeError as error:
        errors.append(error)
        return {"ok": False, "type": type(error).__name__, "message": str(error)}
    except MemoryError as error:
        errors.append(error)
        return {"ok": False, "type": "BackendError", "message": f"{what}: Python ran out of memory"}
    except Exception as error:  # this process's top frame: its parent must hear of it
        errors.append(error)
        logger.exception("%s", what)
        return {"ok": False, "type": "BackendError", "message": f"{what}: unexpected {type(error).__name__}: {error}"}


def main() -> None:
    """Reads one request, carries it out and answers; ends when the process that started it does."""
    status = 1
    try:
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):  # of the kernel, when memory runs out; not everywhere may a process say so
            Path("/proc/self/oom_score_adj").write_text("800", encoding="utf-8")
        output = os.dup(1)
        os.dup2(2, 1)  # libraries write to standard output too
        owned = contextlib.ExitStack()
        errors: List[BaseException] = []
        request = sys.stdin.readline()
        if request:
            os.write(output, (json.dumps(answer(request, owned, errors)) + "\n").encode())
        status = 0
    except BaseException:
        logger.exception("no answer")
    finally:
        os._exit(status)  # destroying TensorRT's objects may wait for ever

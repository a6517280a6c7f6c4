"""The child process that tries a plan out, so that a plan which ends its process ends only this one.

It reads a request (`TrialRequest.line`) from standard input and writes
one line of JSON to standard output: what the engine is, or why it can't be used.
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
from typing import Any, Dict

from edge_runtime.device.cuda.loading import open_cuda
from edge_runtime.device.cuda.port import Cuda
from edge_runtime.engine.tensorrt.plan_engine import PlanEngine
from edge_runtime.engine.tensorrt.slot import TensorRTSlot
from edge_runtime.engine.tensorrt.trial_request import TrialRequest, request_from_line
from edge_runtime.errors import BackendError, DeviceLostError, EdgeRuntimeError
from edge_runtime.plan.contents import StoredFile
from edge_runtime.tensorrt_api import TensorRT, load

_PR_SET_PDEATHSIG = 1


def trial(request: TrialRequest, cuda: Cuda, library: TensorRT) -> Dict[str, Any]:
    """Loads the plan, checks it and runs it once: tensors, device memory, and whether it could be run on made-up data.

    Raises:
        PlanCorruptError: the file isn't what its record says.
        BackendError: the plan can't be used.
    """
    plan = StoredFile(request.path, request.record).read()
    shared = PlanEngine(plan, request.signature, library, cuda, request.options, request.what)
    before = cuda.memory_info().free_nbytes
    with contextlib.closing(TensorRTSlot(shared, lambda: plan)) as slot:
        problem = _run(slot, request)
        return {
            "ok": True,
            "tensors": [
                {
                    "name": tensor.name,
                    "is_input": tensor.is_input,
                    "dtype": tensor.dtype.value,
                    "shape": list(tensor.shape),
                }
                for tensor in shared.tensors
            ],
            "scratch_nbytes": shared.scratch_nbytes,
            "slot_nbytes": before - cuda.memory_info().free_nbytes,
            "problem": problem,
        }


def _run(slot: TensorRTSlot, request: TrialRequest) -> str:
    """Runs the largest shapes on zeros, or on ones if it can't; why it can on neither, "" if it can."""
    problem = ""
    for value in (0, 1):
        for name, limits in request.signature.profile.items():
            slot.bind(name, limits.maximum).fill(value)
        try:
            slot.run()
        except DeviceLostError:
            raise
        except BackendError as error:  # a size or a divisor that is fed in can't be zero
            problem = str(error)
        else:
            return ""
    return problem


def answer(line: str) -> Dict[str, Any]:
    """What is answered to a request; CUDA is opened first, for a TensorRT without a driver may end the process."""
    try:
        request = request_from_line(line)
        cuda = open_cuda(request.options.device)
        cuda.use_device(request.options.device)
        return trial(request, cuda, load(request.options.library))
    except EdgeRuntimeError as error:
        return {"ok": False, "type": type(error).__name__, "message": str(error)}
    except MemoryError:
        return {"ok": False, "type": "BackendError", "message": "Python ran out of memory"}


def main() -> None:
    """Reads one request, carries it out and answers; ends when the process that started it does."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):  # of the kernel, when memory runs out; not everywhere may a process say so
        Path("/proc/self/oom_score_adj").write_text("800", encoding="utf-8")
    output = os.dup(1)
    os.dup2(2, 1)  # libraries write to standard output too
    request = sys.stdin.readline()
    if request:
        os.write(output, (json.dumps(answer(request)) + "\n").encode())

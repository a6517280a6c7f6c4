"""A plan tried out in a process of its own: whatever happens there is one answer here, or one error."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import Any, Dict, Sequence, Tuple, Type

from edge_runtime import errors
from edge_runtime.engine.child_process import module_command
from edge_runtime.engine.tensorrt.trial_request import TrialRequest
from edge_runtime.errors import BackendError, EdgeRuntimeError

COMMAND = module_command("edge_runtime.engine.tensorrt.trial_run")
TIMEOUT_S = 300.0

_END_S = 10.0
_REMEDY = "build it again on this board: edge-runtime build"


def trial_run_in_child(
    request: TrialRequest, timeout_s: float = TIMEOUT_S, command: Sequence[str] = COMMAND
) -> Dict[str, Any]:
    """Loads, checks and runs a plan in a child process; its answer (see `trial_run.trial`).

    The child is ended when this returns or raises, and what it may have started.

    Raises:
        PlanCorruptError: the file isn't what its record says.
        BackendError: the plan can't be used, it ended its process, or took longer than `timeout_s`.
    """
    code, output, said = _carried_out(request, timeout_s, command)
    lines = output.decode(errors="replace").splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        answer = None
    if code < 0 or not isinstance(answer, dict):
        raise _death(request.what, code, said)
    if not answer.get("ok"):
        kind: Type[EdgeRuntimeError] = getattr(errors, str(answer.get("type")), BackendError)
        raise kind(str(answer.get("message")))
    return answer


def _carried_out(request: TrialRequest, timeout_s: float, command: Sequence[str]) -> Tuple[int, bytes, bytes]:
    """Exit status, standard output and standard error of the child."""
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that all of it can be ended
    )
    try:
        output, said = process.communicate(request.line().encode(), timeout_s)
        return process.returncode, output, said
    except subprocess.TimeoutExpired:
        _kill_group(process)  # if the child is gone, something that it started has the pipe
        raise BackendError(
            f"{request.what}: its trial run took longer than {timeout_s:g} s and was ended; "
            "try again when the board has less to do"
        ) from None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        _kill_group(process)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that hangs in the driver ends when that lets it
            process.wait(_END_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _death(what: str, code: int, said: bytes) -> BackendError:
    """Why there is no answer."""
    last = " | ".join(said.decode(errors="replace").split("\n")[-4:]).strip(" |")
    tail = f" ({last[:500]})" if last else ""
    if code == -signal.SIGKILL:
        return BackendError(
            f"{what}: ended by SIGKILL while TensorRT loaded or ran it, most likely for want of memory; "
            f"free some (free -m) or build it for smaller shapes{tail}"
        )
    if code < 0:
        name = signal.Signals(-code).name
        return BackendError(f"{what}: ended by {name} while TensorRT loaded or ran it; {_REMEDY}{tail}")
    return BackendError(f"{what}: the trial run ended with status {code} and no answer{tail}; {_REMEDY}")

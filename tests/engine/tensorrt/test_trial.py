from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
from fakes.board_setup import child_environment, use_in_process

from edge_runtime.engine.tensorrt import trial_run
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.engine.tensorrt.tensor_io import UnfitInputsError
from edge_runtime.engine.tensorrt.trial_child import trial_run_in_child
from edge_runtime.engine.tensorrt.trial_request import TrialRequest, request_from_line
from edge_runtime.errors import BackendError, BackendUnavailableError, InvalidRequestError, PlanCorruptError
from edge_runtime.plan.contents import StoredFile
from edge_runtime.plan.manifest import FileRecord
from edge_runtime.plan.plan_key import new_plan_key
from edge_runtime.plan.sealed import sealed_chunks
from edge_runtime.tensors import ShapeRange

BATCHED = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}
MakeRequest = Callable[..., TrialRequest]


@pytest.fixture
def request_for(tmp_path: Path, build_plan: Callable[..., bytes], signature_for: Any, doubling: bytes) -> MakeRequest:
    """A request for the plan of a module, or for some bytes."""

    def make(module: Any = None, content: bytes = b"no plan", **options: Any) -> TrialRequest:
        plan = content if module is None else build_plan(module, doubling, [BATCHED])
        path = tmp_path / "model.plan"
        path.write_bytes(plan)
        record = FileRecord(file=path.name, sha256=hashlib.sha256(plan).hexdigest(), nbytes=len(plan))
        return TrialRequest(path, record, signature_for(doubling, BATCHED), TensorRTOptions(**options), "model 'm'")

    return make


def child(code: str) -> tuple:
    return (sys.executable, "-c", f"import os, signal, sys, time; sys.stdin.readline(); {code}")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_request_arrives_as_it_was_sent(request_for: MakeRequest) -> None:
    sent = request_for(device=1, memory="copy", plugins=("/a.so", "/b.so"), dla_core=1, allows_host_code=True)
    got = request_from_line(sent.line())
    assert got == dataclasses.replace(sent, options=dataclasses.replace(sent.options, graphs="off"))
    assert "\n" not in sent.line()[:-1]


def test_the_key_of_an_encrypted_plan_goes_to_the_child_with_the_request_and_nowhere_else(
    make_rig: Callable[..., Any], request_for: MakeRequest, tmp_path: Path
) -> None:
    rig, key = make_rig("10.3"), new_plan_key()
    request = request_for(rig.module)
    sealed = tmp_path / "model.plan.enc"
    sealed.write_bytes(b"".join(sealed_chunks(request.path.read_bytes(), request.record, key)))
    request.path.unlink()
    request = dataclasses.replace(request, path=sealed, key=key)
    got = request_from_line(request.line())
    assert got.key == key
    assert key.raw.hex() not in repr(request)
    assert tried(rig, got) == {"ok": True, "ran": True, "problem": ""}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.plan.enc"]


def tried(rig: Any, request: TrialRequest) -> dict:
    with contextlib.ExitStack() as owned:
        return trial_run.trial(request, rig.cuda, rig.library, owned)


def test_a_plan_that_runs_is_said_to(rig: Any, request_for: MakeRequest) -> None:
    assert tried(rig, request_for(rig.module)) == {"ok": True, "ran": True, "problem": ""}


def test_a_run_that_tensorrt_refuses_whatever_it_is_fed_is_a_failure(rig: Any, request_for: MakeRequest) -> None:
    request = request_for(rig.module)
    rig.module._board.enqueue_error = "no kernel image"
    with pytest.raises(BackendError, match=r"TensorRT can't run it: .*no kernel image"):
        tried(rig, request)


def test_a_run_that_cuda_refuses_is_a_failure(rig: Any, request_for: MakeRequest) -> None:
    request = request_for(rig.module)
    rig.cuda.fail_next("synchronize_event", 2)
    with pytest.raises(BackendError, match="2"):
        tried(rig, request)


def test_a_refused_run_that_values_may_explain_is_left_open(
    make_rig: Callable[..., Any], request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig("10.3")
    request = request_for(rig.module)
    rig.module._board.enqueue_error = "a size of 0"
    monkeypatch.setattr(trial_run.TensorRTSlot, "has_deciding_values", True)
    answer = tried(rig, request)
    assert (answer["ok"], answer["ran"]) == (True, False)
    assert "a size of 0" in answer["problem"]


@pytest.mark.parametrize("error", [InvalidRequestError("too large"), UnfitInputsError("they don't fit together")])
def test_what_made_up_data_alone_explains_is_as_good_as_a_run(
    make_rig: Callable[..., Any], request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(slot: Any) -> None:
        raise error

    rig = make_rig("10.3")
    monkeypatch.setattr(trial_run.TensorRTSlot, "run", fail)
    assert tried(rig, request_for(rig.module)) == {"ok": True, "ran": True, "problem": str(error)}


def test_the_bytes_of_a_plan_are_let_go_of_before_memory_is_reserved(
    make_rig: Callable[..., Any], request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list = []

    class Plan(bytes):
        def __del__(self) -> None:
            seen.append("gone")

    rig = make_rig("10.3")
    request = request_for(rig.module)
    monkeypatch.setattr(StoredFile, "read", lambda file: Plan(file.path.read_bytes()))
    real = trial_run.TensorRTSlot
    monkeypatch.setattr(trial_run, "TensorRTSlot", lambda *given: seen.append("slot") or real(*given))
    assert tried(rig, request)["ran"]
    assert seen == ["gone", "slot"]


def test_a_file_that_changed_is_refused(make_rig: Callable[..., Any], request_for: MakeRequest) -> None:
    rig = make_rig("10.3")
    request = request_for(rig.module)
    request.path.write_bytes(request.path.read_bytes()[:-1] + b"?")
    with pytest.raises(PlanCorruptError, match=r"expected .* bytes with sha256"):
        tried(rig, request)


def test_a_failure_is_an_answer(request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use_in_process(monkeypatch, "10.3")
    errors: list = []
    answer = trial_run.answer(request_for(content=b"no plan").line(), contextlib.ExitStack(), errors)
    assert [type(error) for error in errors] == [BackendError]
    assert (answer["ok"], answer["type"]) == (False, "BackendError")
    assert "model 'm': tensorrt 10.3.0 can't load the plan" in answer["message"]


@pytest.mark.parametrize("surface", ["8.2", "10.3", "11.4"])
def test_the_child_runs_the_plan(
    surface: str, tmp_path: Path, request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in child_environment(tmp_path / "board", surface).items():
        monkeypatch.setenv(name, value)
    request = request_for(use_in_process(monkeypatch, surface).tensorrt)
    assert trial_run_in_child(request, 60) == {"ok": True, "ran": True, "problem": ""}


def test_the_child_refuses_a_plan_that_is_none(
    tmp_path: Path, request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in child_environment(tmp_path / "board", "10.3").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BackendError, match=r"model 'm': tensorrt 10\.3\.0 can't load the plan: .*; build it again"):
        trial_run_in_child(request_for(), 60)


def test_without_a_gpu_the_child_says_so(request_for: MakeRequest) -> None:
    if trial_run.open_cuda.__module__ and Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    with pytest.raises(BackendUnavailableError, match="driver"):
        trial_run_in_child(request_for(), 60)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_child_that_crashes_is_one_line(request_for: MakeRequest, number: signal.Signals) -> None:
    command = child(f"print('last words', file=sys.stderr, flush=True); os.kill(os.getpid(), {int(number)})")
    with pytest.raises(BackendError) as caught:
        trial_run_in_child(request_for(), 60, command)
    assert str(caught.value) == (
        f"model 'm': ended by {number.name} while TensorRT loaded or ran it; build it again on this board: "
        "edge-runtime build (last words)"
    )


def test_a_child_that_is_killed_most_likely_lacked_memory(request_for: MakeRequest) -> None:
    with pytest.raises(
        BackendError, match=r"ended by SIGKILL .* most likely for want of memory; free some \(free -m\)"
    ):
        trial_run_in_child(request_for(), 60, child("os.kill(os.getpid(), 9)"))


BEFORE_MAIN = "import atexit, time; from edge_runtime.engine.tensorrt import trial_run as t; "


def test_what_nobody_foresaw_is_an_answer_of_the_child(request_for: MakeRequest) -> None:
    code = f"{BEFORE_MAIN}t.open_cuda = lambda ordinal: {{}}['what']; atexit.register(time.sleep, 600); t.main()"
    with pytest.raises(BackendError, match=r"^model 'm': unexpected KeyError: 'what'$"):
        trial_run_in_child(request_for(), 60, (sys.executable, "-c", code))


def test_a_child_that_cannot_answer_ends_without_taking_anything_down(request_for: MakeRequest) -> None:
    code = f"{BEFORE_MAIN}t.answer = None; atexit.register(time.sleep, 600); t.main()"
    with pytest.raises(BackendError, match=r"ended with status 1 and no answer \(.*TypeError"):
        trial_run_in_child(request_for(), 60, (sys.executable, "-c", code))


@pytest.mark.parametrize("code", ["sys.exit(3)", "print('no json'); sys.exit(3)", "print('[]'); sys.exit(3)"])
def test_a_child_without_an_answer_is_an_error(request_for: MakeRequest, code: str) -> None:
    with pytest.raises(BackendError, match="the trial run ended with status 3 and no answer"):
        trial_run_in_child(request_for(), 60, child(code))


def test_what_the_child_says_it_failed_by_is_raised(request_for: MakeRequest) -> None:
    answer = json.dumps({"ok": False, "type": "PlanCorruptError", "message": "the text"})
    with pytest.raises(PlanCorruptError, match=r"^the text$"):
        trial_run_in_child(request_for(), 60, child(f"print('noise'); print({answer!r})"))


def test_a_child_that_takes_too_long_is_ended(request_for: MakeRequest, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(BackendError, match=r"took longer than 2 s and was ended"):
        trial_run_in_child(request_for(), 2, child(code))
    assert not is_alive(int(pid_file.read_text()))


def test_what_keeps_the_pipe_of_a_child_that_ended_is_ended(request_for: MakeRequest, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    code = f"os.open({str(fifo)!r}, os.O_WRONLY); os.fork() or time.sleep(600); os._exit(0)"
    with pytest.raises(BackendError, match=r"took longer than 2 s and was ended"):
        trial_run_in_child(request_for(), 2, child(code))
    assert select.select([reader], [], [], 30)[0]  # nobody has the other end
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_an_interrupted_trial_leaves_no_child(
    request_for: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def interrupted(process: Any, *_: Any) -> None:
        started.append(process.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trial_run_in_child(request_for(), 60, child("time.sleep(600)"))
    assert not is_alive(started[0])

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest

from edge_runtime.builder.tensorrt.build_plan import OutOfMemoryError, OverLimitError
from edge_runtime.builder.tensorrt.child import BuildChild, ChildOptions
from edge_runtime.builder.tensorrt.ladder import MIB, Ceiling
from edge_runtime.builder.tensorrt.network import ParseError
from edge_runtime.errors import BackendError, BackendUnavailableError, ConfigError

PRELUDE = "import json, os, signal, sys, time\nevents = os.fdopen(int(sys.argv[1]), 'w')\nline = sys.stdin.readline()\n"
SEND = "def send(**event):\n    events.write(json.dumps(event) + chr(10)); events.flush()\n"


def child(code: str, **options: Any) -> BuildChild:
    """A child that runs `code` in place of the worker."""
    return BuildChild("{}", ChildOptions(command=(sys.executable, "-c", PRELUDE + SEND + code), **options))


def test_what_a_child_reports_is_the_result() -> None:
    heard: List[int] = []
    code = "send(event='progress', thousandths=3); send(event='progress', thousandths=9); send(event='done', x=1)"
    assert child(code).result(heard.append) == {"event": "done", "x": 1}
    assert heard == [3, 9]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("OutOfMemoryError", OutOfMemoryError),
        ("ConfigError", ConfigError),
        ("BackendUnavailableError", BackendUnavailableError),
        ("SomethingNew", BackendError),
    ],
)
def test_an_error_of_the_child_is_raised_here(name: str, error: type) -> None:
    with pytest.raises(error, match=r"^the reason$") as raised:
        child(f"send(event='error', type={name!r}, message='the reason', problems=[])").result()
    assert type(raised.value) is error


def test_parser_problems_come_along() -> None:
    code = (
        "send(event='error', type='ParseError', message='refused', problems=["
        "{'code': 'UNSUPPORTED_NODE', 'text': 'no', 'index': 2, 'name': 'n', 'operator': 'Foo'}])"
    )
    with pytest.raises(ParseError) as raised:
        child(code).result()
    assert raised.value.problems[0].line == "node n (Foo): no"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV and gave no reason"),
        ("sys.stderr.write('libnvinfer broke'); sys.exit(7)", "ended with status 7.*libnvinfer broke"),
        ("os.kill(os.getpid(), signal.SIGABRT)", "SIGABRT"),
    ],
)
def test_a_child_that_dies_is_an_error_with_its_cause(code: str, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        child(code).result()


@pytest.mark.parametrize(("counted", "message"), [(1, "the kernel ended it, for memory ran out"), (0, "most likely")])
def test_a_child_that_the_kernel_killed_ran_out_of_memory(tmp_path: Path, counted: int, message: str) -> None:
    (tmp_path / "proc").mkdir()
    vmstat = tmp_path / "proc/vmstat"
    vmstat.write_text("nr_free_pages 1\noom_kill 4\n")
    code = f"open({str(vmstat)!r}, 'w').write('oom_kill {4 + counted}'); os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(OutOfMemoryError, match=message):
        child(code, root=tmp_path).result()


def test_a_child_that_takes_too_much_is_ended() -> None:
    code = "kept = bytearray(200 << 20); kept[::4096] = bytes(len(kept[::4096])); sys.stdin.read()"
    running = child(code, ceiling=Ceiling(100 * MIB, None))
    with pytest.raises(OverLimitError, match=r"it held \d+ MiB, of 100 MiB that it may take"):
        running.result()


def test_a_child_is_ended_before_the_machine_has_too_little_left() -> None:
    running = child("sys.stdin.read()", ceiling=Ceiling(None, 1 << 60))
    with pytest.raises(OutOfMemoryError, match="MiB were left on this machine"):
        running.result()


def test_an_interrupted_build_leaves_no_process() -> None:
    def interrupt(thousandths: int) -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    running = child("send(event='progress', thousandths=1)\nwhile sys.stdin.readline(): pass")
    pid = running._process.pid
    with pytest.raises(KeyboardInterrupt):
        running.result(interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert set(threading.enumerate()) <= before


@pytest.fixture
def line(tmp_path: Path) -> Callable[..., str]:
    from edge_runtime.builder.tensorrt.request import BuildRequest
    from edge_runtime.tensors import ShapeRange

    def made(model: bytes, **settings: Any) -> str:
        (tmp_path / "m.onnx").write_bytes(model)
        profile = {"x": ShapeRange((1, 4), (1, 4), (8, 4))}
        paths = str(tmp_path / "m.onnx"), str(tmp_path / "m.plan")
        return BuildRequest("tensorrt_rtx", *paths, profile, True, **settings).to_json()

    return made


@pytest.mark.tensorrt
def test_a_real_build_in_a_child(line: Any, classifier: bytes, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    heard: List[int] = []
    answer = BuildChild(line(classifier), ChildOptions()).result(heard.append)
    assert [spec["name"] for spec in answer["inputs"]] == ["x"]
    assert (tmp_path / "m.plan").read_bytes()[:4] == b"vtrt"
    assert heard == sorted(set(heard))
    assert heard[-1] == 1000


@pytest.mark.tensorrt
def test_a_real_build_that_may_take_nothing_is_stopped(line: Any, classifier: bytes, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    running = BuildChild(line(classifier), ChildOptions(ceiling=Ceiling(8 * MIB, None)))
    with pytest.raises(OutOfMemoryError, match="of 8 MiB that it may take"):
        running.result()
    assert not (tmp_path / "m.plan").exists()


def test_the_worker_reports_what_it_cannot_load(line: Any, classifier: bytes) -> None:
    with pytest.raises(BackendUnavailableError, match="backend tensorrt: the package can't be imported"):
        BuildChild(line(classifier).replace("tensorrt_rtx", "tensorrt"), ChildOptions()).result()


def test_the_worker_ends_with_its_parent(line: Any, classifier: bytes) -> None:
    running = BuildChild(line(classifier), ChildOptions())
    running._process.send_signal(signal.SIGSTOP)
    running._process.send_signal(signal.SIGCONT)
    running._stop()
    assert running._process.returncode is not None
    running._close()

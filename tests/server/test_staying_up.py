"""`edge-runtime serve` over a store that changes, or holds what can't be loaded; as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Iterator

import pytest
from fakes.multiplying_plans import SIGNATURE, flip_a_bit, publish
from fakes.stored_plans import stored_board_plan

from edge_runtime.device.process import own_process
from edge_runtime.plan.progress import RUNNING, BuildProgress, ModelProgress, write_progress

CODE = "from edge_runtime.cli.main import main; main()"
OTHER = {"name": "other", "version": "1", "platform": "other_onnx", "device": "cpu"}
ONES = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}).encode()


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **more}


class Process:
    """A server, and what it prints."""

    def __init__(self, process: subprocess.Popen, first: Any) -> None:
        self.process = process
        self.first = first

    @property
    def url(self) -> str:
        return f"http://{self.first['http']}"

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(self.url + path, body, 20) as reply:
                text = reply.read()
                return reply.status, json.loads(text) if text[:1] in b"{[" else text.decode()
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def answer(self) -> tuple[str, float]:
        _, found = self.ask("/v2/models/m/infer", ONES)
        return found["model_version"], found["outputs"][0]["data"][0]

    def until_answer(self, expected: tuple[str, float]) -> None:
        end = time.monotonic() + 20
        while self.answer() != expected:
            assert time.monotonic() < end, self.answer()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        return self.process.stderr.read()  # type: ignore[union-attr]


@contextlib.contextmanager
def serving(engines: Path, *flags: str, **variables: str) -> Iterator[Process]:
    words = ["serve", "--engines", str(engines), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--json", *flags]
    given = {"EDGE_RUNTIME_SERVER__FOLLOW_INTERVAL_S": "0.05", "EDGE_RUNTIME_SERVER__BOARD": "none", **variables}
    environ = environment(**given)
    with subprocess.Popen(
        [sys.executable, "-c", CODE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        try:
            line = process.stdout.readline()  # type: ignore[union-attr]
            assert line, process.stderr.read()  # type: ignore[union-attr]
            yield Process(process, json.loads(line))
        finally:
            process.kill()


def run(engines: Path, *words: str, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words, "--engines", str(engines), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """A store with a model `m`, of which version n multiplies by n; two versions."""
    for factor in (1, 2):
        publish(tmp_path / "engines", "m", factor)
    return tmp_path / "engines"


def test_a_following_server_takes_over_what_is_published_and_what_is_rolled_back(engines: Path) -> None:
    with serving(engines, "--follow") as server:
        assert server.answer() == ("2", 2.0)
        publish(engines, "m", 3)
        server.until_answer(("3", 3.0))
        document = run(engines, "rollback", "m", "--url", server.url)
        assert (document["from"], document["to"], document["skipped"]) == (3, 2, [])
        assert server.answer() == ("2", 2.0)
        assert run(engines, "rollback", "m", "--to", "3", "--url", server.url)["to"] == 3
        assert server.answer() == ("3", 3.0)
        assert server.ask("/v2/health/ready")[0] == 200
        server.stop()


def test_bad_versions_are_kept_back_one_after_another(engines: Path) -> None:
    with serving(engines, "--follow", "--stay-up") as server:
        for factor, changes, said in ((3, {"says": 4}, "answers otherwise"), (5, {"backend": OTHER}, "another board")):
            publish(engines, "m", factor, **changes)
            end = time.monotonic() + 20
            while said not in (found := server.ask("/v2/repository/index", b"")[1][0])["reason"]:
                assert time.monotonic() < end, found
        assert (found["state"], found["version"]) == ("READY", "2")
        assert server.answer() == ("2", 2.0)
        publish(engines, "m", 6)
        server.until_answer(("5", 6.0))
        assert "its golden run is wrong" in server.stop()


def test_a_server_that_stays_up_serves_the_sound_version_before_a_broken_one(engines: Path) -> None:
    publish(engines, "other", 7)
    flip_a_bit(engines / "m" / "2" / "model.onnx")
    with serving(engines, "--stay-up") as server:
        assert server.answer() == ("1", 1.0)
        status, found = server.ask("/v2/health/ready")
        assert status == 503
        assert "version 2 can't be loaded: its plan is damaged; build it again; version 1 stands in" in found["error"]
        assert server.ask("/v2/models/other/ready")[0] == 200
        publish(engines, "m", 3)
        server.until_answer(("3", 3.0))
        assert server.ask("/v2/health/ready")[0] == 200
        assert "model.onnx" in server.stop()


def test_without_that_the_start_ends_with_the_error(engines: Path) -> None:
    flip_a_bit(engines / "m" / "2" / "model.onnx")
    assert run(engines, "serve", code=1)["error"]["type"] == "PlanCorruptError"


def test_a_golden_run_that_is_wrong_has_the_version_before_stand_in(engines: Path) -> None:
    publish(engines, "m", 3, says=4)
    with serving(engines, "--stay-up") as server:
        assert server.answer() == ("2", 2.0)
        assert "answers otherwise" in server.ask("/v2/health/ready")[1]["error"]


def test_a_plan_for_another_board_is_asked_for_and_readiness_tells_how_far_its_build_is(tmp_path: Path) -> None:
    engines, requests = tmp_path / "engines", tmp_path / "rebuild"
    requests.mkdir()
    publish(engines, "m", 1, backend=OTHER)
    stage = ModelProgress("m", RUNNING, "fp16 builds", 2, 5)
    write_progress(engines, BuildProgress(own_process(), (stage,)))
    with serving(engines, "--stay-up", EDGE_RUNTIME_SERVER__REBUILD_REQUESTS=str(requests)) as server:
        assert [path.name for path in requests.iterdir()] == ["m"]
        end = time.monotonic() + 20
        while "being built: fp16 builds, 2 of 5" not in (found := server.ask("/v2/health/ready")[1]["error"]):
            assert time.monotonic() < end, found
        publish(engines, "m", 2)
        while server.ask("/v2/health/ready")[0] != 200:
            assert time.monotonic() < end
        assert server.answer() == ("2", 2.0)


def test_a_plan_for_a_gpu_waits_for_one_and_no_plan_for_the_cpu_stands_in(engines: Path) -> None:
    stored_board_plan(engines, b"ftrt" + bytes(20) + bytes([10, 3, 0, 0]) + bytes(90), SIGNATURE)
    with serving(engines, "--stay-up", "m") as server:
        status, found = server.ask("/v2/models/m/infer", ONES)
        assert status == 503
        assert "version 3 can't be loaded: there is no library or device for its plan here" in found["error"]
        assert "version 2 can't stand in: it is for the CPU" in server.stop()


def test_a_store_without_plans_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    with serving(tmp_path / "engines", "--stay-up", "--follow", "m") as server:
        assert server.ask("/v2/models/m/ready")[0] == 503
        publish(tmp_path / "engines", "m", 2)
        end = time.monotonic() + 20
        while server.ask("/v2/models/m/ready")[0] != 200:
            assert time.monotonic() < end
        assert server.answer() == ("1", 2.0)


def test_what_models_need_is_measured_and_kept_for_the_next_start(engines: Path, tmp_path: Path) -> None:
    publish(engines, "other", 7)
    state = tmp_path / "state"
    with serving(engines, STATE_DIRECTORY=str(state)) as server:
        server.stop()
    needs = json.loads((state / "memory-needs.json").read_text())
    assert len(needs) == 2
    assert all(1 << 10 < nbytes < 1 << 28 for nbytes in needs.values())
    with serving(engines, "--follow", STATE_DIRECTORY=str(state)) as server:
        lines = server.ask("/metrics")[1].splitlines()
        needed = [line for line in lines if line.startswith("edge_runtime_model_memory_need_bytes{")]
        assert [line.split("{")[1].split("}")[0] for line in needed] == [
            'model="m",how="measured"',
            'model="other",how="measured"',
        ]


def test_a_model_over_the_budget_is_refused_by_name_and_number(engines: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", CODE, "serve", "--engines", str(engines), "--http", "127.0.0.1:0", "--grpc",
         "127.0.0.1:0", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(EDGE_RUNTIME_SERVER__MEMORY_BUDGET_MIB="1"),
    )  # fmt: skip
    assert found.returncode == 1
    error = json.loads(found.stdout)["error"]
    assert error["type"] == "InsufficientMemoryError"
    assert "model 'm' needs 48 MiB (estimated), and of the budget of 1 MiB 1 MiB are left" in error["message"]


def test_pinned_models_come_first_where_the_budget_has_room_for_one(engines: Path) -> None:
    publish(engines, "pinned", 7)
    (engines / "pinned.toml").write_text("[serving]\npinned = true\n")
    variables = {"EDGE_RUNTIME_SERVER__MEMORY_BUDGET_MIB": "60", "EDGE_RUNTIME_SERVER__EVICT": "true"}
    with serving(engines, **variables) as server:
        index = server.ask("/v2/repository/index", b"")[1]
        assert [(each["name"], each["state"]) for each in index] == [("pinned", "READY"), ("m", "UNAVAILABLE")]
        assert server.ask("/v2/health/ready")[0] == 200
        status, found = server.ask("/v2/models/m/infer", ONES)
        assert status == 503
        assert "loaded again when it is asked for" in found["error"]


def test_rollback_lists_versions_with_what_is_served_and_what_is_broken(engines: Path) -> None:
    (engines / "m" / "1" / "manifest.json").write_text("{")
    found = run(engines, "rollback", "m", "--list")
    assert (found["served"], found["previous"]) == (2, 1)
    assert [(each["version"], each["served"]) for each in found["versions"]] == [(2, True), (1, False)]
    assert found["versions"][0]["reason"] == "made to multiply by 2"
    assert "manifest.json" in found["versions"][1]["problem"]
    assert run(engines, "rollback", "none", "--list", code=1)["error"]["type"] == "PlanNotFoundError"

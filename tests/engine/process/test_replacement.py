from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from fakes.ended_processes import descriptor_count, wait_until_gone

from edge_runtime.engine.process.backoff import Backoff
from edge_runtime.engine.process.process_engine import ProcessEngine
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.plan.store import StoredPlan

Start = Callable[..., ProcessEngine]
X = np.ones((2, 4), np.float32)
AT_ONCE = partial(Backoff, first_s=0.0)


PATCHED = """
import sys, threading
from edge_runtime.engine import onnxruntime
from edge_runtime.engine.process import served_engine
from edge_runtime.errors import DeviceLostError
plain = onnxruntime.OnnxRuntimeSlot.run
def run(slot):
    if slot._memory["x"][0] == 666:  # a made-up fault
        {fault}
    return plain(slot)
onnxruntime.OnnxRuntimeSlot.run = run
served_engine.main()
"""
HANGING = PATCHED.format(fault='print("begun", flush=True); threading.Event().wait()')
LOSING_THE_GPU = PATCHED.format(fault='raise DeviceLostError("an illegal address")')


class Changes:
    """Waits for what an engine's keeper says."""

    def __init__(self, engine: ProcessEngine) -> None:
        self._keeper = engine.keeper
        self._changes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._keeper.watch(lambda: self._changes.put(self._keeper.hindrance))

    def wait(self, is_wanted: Callable[[str], object]) -> str:
        """The next hindrance that is wanted."""
        while True:
            found = self._changes.get(timeout=20)
            if is_wanted(found):
                return found

    def wait_until_back(self) -> None:
        self.wait(lambda hindrance: not hindrance)


def wait_for_log(caplog: Any, text: str) -> None:
    """Returns when the process has printed something."""
    end_s = time.monotonic() + 20
    while text not in caplog.text:
        assert time.monotonic() < end_s
        time.sleep(0.001)


def answer(engine: ProcessEngine, found: list[Any], x: np.ndarray = X) -> None:
    """Runs once; what came of it, and when."""
    try:
        found.append(engine.infer({"x": x})["y"])
    except ServerUnavailableError as error:
        found.append(error)
    found.append(time.monotonic())


def run_under_way(engine: ProcessEngine, found: list[Any]) -> threading.Thread:
    """A run that its process, which is stopped, can't answer."""
    os.kill(engine.pid or 0, signal.SIGSTOP)
    thread = threading.Thread(target=answer, args=(engine, found))
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "killed"), (signal.SIGSEGV, "crashed"), (signal.SIGABRT, "crashed")],
    ids=["SIGKILL", "SIGSEGV", "SIGABRT"],
)
def test_a_run_ends_with_its_process_and_another_process_answers_the_next(
    start: Start, doubling: StoredPlan, number: signal.Signals, reason: str, caplog: Any
) -> None:
    engine = start(doubling, slots=2, command=(sys.executable, "-c", HANGING))
    changes, first, found = Changes(engine), engine.pid or 0, []
    thread = threading.Thread(target=answer, args=(engine, found, np.full((2, 4), 666, np.float32)))
    thread.start()
    wait_for_log(caplog, "begun")
    os.kill(first, number)
    killed_s = time.monotonic()
    thread.join(10)
    error, ended_s = found
    assert isinstance(error, ServerUnavailableError)
    assert 0 < error.retry_after_s < 20
    assert ended_s - killed_s < 1  # it takes some milliseconds; the machine may have other things to do
    changes.wait_until_back()
    assert time.monotonic() - killed_s < 10
    for n in (1, 8, 2):
        np.testing.assert_array_equal(engine.infer({"x": np.ones((n, 4), np.float32)})["y"], np.full((n, 4), 2))
    assert engine.pid not in (None, first)
    assert {why: count for why, count in engine.keeper.restarts.items() if count} == {reason: 1}
    assert f"its process was ended by {number.name}" in caplog.text


def test_while_there_is_no_process_runs_are_refused_at_once_with_the_time_to_come_again(
    start: Start, doubling: StoredPlan
) -> None:
    engine = start(doubling, backoff=lambda: Backoff(first_s=60, longest_s=60))
    changes = Changes(engine)
    os.kill(engine.pid or 0, signal.SIGKILL)
    changes.wait_until_back()  # the first time it is replaced at once
    os.kill(engine.pid or 0, signal.SIGKILL)
    why = changes.wait(lambda hindrance: "again after" in hindrance)
    with pytest.raises(ServerUnavailableError, match="started again after 60 s") as caught:
        engine.infer({"x": X})
    assert 50 < caught.value.retry_after_s < 80
    assert why == "its process has ended, and is started again after 60 s"
    begun_s = time.monotonic()
    engine.close()  # which doesn't wait for that
    assert time.monotonic() - begun_s < 5


def test_what_was_bound_to_one_process_never_runs_on_another(start: Start, doubling: StoredPlan) -> None:
    engine = start(doubling)
    changes = Changes(engine)
    with engine.slot() as slot:
        slot.bind("x", (1, 4))[:] = 5
        os.kill(engine.pid or 0, signal.SIGKILL)
        changes.wait_until_back()
        with pytest.raises(ServerUnavailableError, match="replaced after the inputs were bound"):
            slot.run()
        slot.bind("x", (1, 4))[:] = 3
        assert slot.run()["y"].tolist() == [[6] * 4]


def test_answers_stay_readable_when_their_process_is_gone(start: Start, doubling: StoredPlan) -> None:
    engine = start(doubling)
    changes = Changes(engine)
    with engine.slot() as slot:
        slot.bind("x", (1, 4))[:] = 5
        outputs = slot.run()
        os.kill(engine.pid or 0, signal.SIGKILL)
        changes.wait_until_back()
        assert outputs["y"].tolist() == [[10] * 4]


def test_a_plan_that_is_damaged_meanwhile_is_tried_again_until_it_is_mended(start: Start, doubling: StoredPlan) -> None:
    engine = start(doubling, backoff=partial(Backoff, first_s=0.01, longest_s=0.05))
    changes, content = Changes(engine), doubling.plan_path.read_bytes()
    doubling.plan_path.write_bytes(content[:-1] + b"?")
    os.kill(engine.pid or 0, signal.SIGKILL)
    changes.wait(lambda hindrance: "again after" in hindrance)
    doubling.plan_path.write_bytes(content)
    changes.wait_until_back()
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], 2 * X)
    assert engine.keeper.restarts["killed"] == 1
    assert engine.keeper.restarts["load_failed"] >= 1


def test_a_process_that_loses_the_gpu_is_replaced(start: Start, doubling: StoredPlan, caplog: Any) -> None:
    engine = start(doubling, command=(sys.executable, "-c", LOSING_THE_GPU))
    changes = Changes(engine)
    with pytest.raises(ServerUnavailableError, match="lost the GPU during the run"):
        engine.infer({"x": np.full((1, 4), 666, np.float32)})
    changes.wait_until_back()
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], 2 * X)
    assert engine.keeper.restarts["device_lost"] == 1
    assert "its process lost the GPU" in caplog.text
    assert "an illegal address" in caplog.text


def test_signals_that_managers_and_terminals_send_to_all_leave_it_alone(start: Start, doubling: StoredPlan) -> None:
    engine = start(doubling)
    first = engine.pid or 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(first, number)
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], 2 * X)
    assert engine.pid == first
    assert os.getsid(first) != os.getsid(0)


def test_an_engine_whose_process_is_stopped_is_closed_within_a_bound(start: Start, doubling: StoredPlan) -> None:
    engine = start(doubling, drain_s=0.05, ask_s=0.05)
    found: list[Any] = []
    thread, pid = run_under_way(engine, found), engine.pid or 0
    begun_s = time.monotonic()
    engine.close()
    assert time.monotonic() - begun_s < 3
    thread.join(10)
    assert isinstance(found[0], ServerUnavailableError)
    wait_until_gone(pid)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_it_ends_with_the_process_that_started_it(doubling: StoredPlan, is_stopped: bool) -> None:
    code = (
        "import sys; from edge_runtime.engine.process.process_engine import load_in_process\n"
        f"engine = load_in_process({str(doubling.folder)!r}); print(engine.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if is_stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    wait_until_gone(pid)


def resident_nbytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


@pytest.mark.slow
def test_fifty_replacements_under_load_give_no_wrong_answer_and_leave_nothing_behind(
    start: Start, doubling: StoredPlan
) -> None:
    engine = start(doubling, slots=2, backoff=AT_ONCE)
    changes, is_over, wrong = Changes(engine), threading.Event(), []
    counts = {"right": 0, "refused": 0}

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not is_over.is_set():
            x = rng.normal(size=(int(rng.integers(1, 9)), 4)).astype(np.float32)
            try:
                y = engine.infer({"x": x})["y"]
            except ServerUnavailableError:
                counts["refused"] += 1
                is_over.wait(0.002)
                continue
            counts["right"] += 1
            if not np.array_equal(y, 2 * x):
                wrong.append((x, y))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    rng, longest_s = np.random.default_rng(0), 0.0
    before = (0, 0, 0)
    try:
        for number in range(55):
            is_over.wait(float(rng.uniform(0, 0.05)))  # a random moment of the load
            killed_s = time.monotonic()
            os.kill(engine.pid or 0, rng.choice([signal.SIGKILL, signal.SIGSEGV]))
            changes.wait_until_back()
            longest_s = max(longest_s, time.monotonic() - killed_s)
            if number == 4:
                before = (descriptor_count(), threading.active_count(), resident_nbytes())
    finally:
        is_over.set()
        for thread in threads:
            thread.join(20)
    assert not wrong
    assert counts["right"] > 500
    assert longest_s < 3
    assert sum(engine.keeper.restarts.values()) == 55
    assert abs(descriptor_count() - before[0]) <= 2
    assert threading.active_count() <= before[1]
    assert resident_nbytes() - before[2] < 4 << 20

"""The installed server under a real systemd: ready, killed, hung, reloaded, refused."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from service.conftest import ENGINES, UNIT, Service
from service.figures import Figures
from service.machine import Machine

import edge_runtime

pytestmark = pytest.mark.systemd

READY_S, AGAIN_S, KILLS = 2.0, 3.0, 50
X = np.arange(256, dtype=np.float32).reshape(1, 256)


def ask(service: Service) -> np.ndarray:
    with edge_runtime.Client(f"unix://{service.socket}") as client:
        return client.infer("small", {"x": X})["y"]


@pytest.mark.parametrize("unit", [UNIT, "edge-runtime-build.service"])
def test_the_units_are_right_and_little_exposed(machine: Machine, figures: Figures, unit: str) -> None:
    path = f"/etc/systemd/system/{unit}"
    verified = machine.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", path, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    scored = machine.run("systemd-analyze", "security", "--offline=true", "--threshold=20", path, check=False)
    score = scored.stdout.strip().splitlines()[-1].split("service: ")[-1].split()[0]
    figures.add("18", f"exposure of {unit} <= 2.0, verified", score, 1, scored.returncode == 0)


def test_the_build_service_signed_what_it_built_with_the_key_of_its_credential(
    machine: Machine, figures: Figures
) -> None:
    key = machine.run("stat", "-c", "%U %a", "/etc/edge-runtime/device.key").stdout.split()
    signed = machine.path(f"{ENGINES}/small/1/manifest.dsse.json").exists()
    owner = machine.run("stat", "-c", "%U", f"{ENGINES}/small/1").stdout.strip()
    is_held = (key, signed, owner) == (["root", "600"], True, "edge-runtime-build")
    figures.add("18", "LoadCredential= is used", f"plan signed: {signed}, key of {key[0]}, {key[1]}", 1, is_held)


def test_it_is_ready_soon_and_answers(service: Service, figures: Figures) -> None:
    took_s = [service.start()]
    assert np.array_equal(ask(service), X)
    for _ in range(4):
        service.machine.run("systemctl", "stop", UNIT)
        took_s.append(service.start())
    text = f"{max(took_s):.2f} s at most, {sorted(took_s)[len(took_s) // 2]:.2f} in the middle"
    figures.add_time("7", f"start to READY <= {READY_S:g} s", text, len(took_s), [(max(took_s), READY_S)])


def test_killed_at_any_moment_it_is_ready_again_by_itself(service: Service, figures: Figures) -> None:
    rng = random.Random(7)
    service.start()
    took_s = []
    for number in range(KILLS):
        service.ready_after(0.0)
        if number % 3 == 0:  # while it starts, after another kill
            service.kill(signal.SIGKILL)
            time.sleep(0.2 + rng.uniform(0, 0.5))
        else:
            time.sleep(rng.uniform(0, 1.0))
        took_s.append(service.ready_after(service.kill(signal.SIGKILL)))
    service.ready_after(0.0)
    assert np.array_equal(ask(service), X)
    text = f"{max(took_s):.2f} s at most, {service.restarts()} restarts, nothing mended by hand"
    goal = f"kill -9 at {KILLS} moments: READY again <= {AGAIN_S:g} s"
    figures.add_time("7", goal, text, len(took_s), [(max(took_s), AGAIN_S)])


@pytest.mark.parametrize("kind", ["the server", "its engine's process"])
def test_a_hang_is_aborted_in_time(
    service: Service, configured: Callable[..., None], figures: Figures, kind: str
) -> None:
    of_engine = kind != "the server"
    config = service.machine.path("/etc/edge-runtime/server.toml").read_text()
    configured("WatchdogSec=2", config=config + ("engine_process = true\n" if of_engine else ""))
    late_s, again_s = [], []
    for _ in range(3):
        service.start()
        time.sleep(2.5)  # some beats
        assert not service.restarts()
        pid = service.pid
        stopped = children(pid)[0] if of_engine else pid
        begin_s = time.monotonic()
        os.kill(stopped, signal.SIGSTOP)
        wait_for(partial(has_ended, pid), 30)
        late_s.append(time.monotonic() - begin_s)
        again_s.append(service.ready_after(begin_s) - late_s[-1])
        service.machine.run("systemctl", "stop", UNIT)
    text = f"ended after {max(late_s):.2f} s at most, ready {max(again_s):.2f} s later"
    goal = f"SIGSTOP of {kind}: aborted within WatchdogSec (2) + 1 s, READY <= 3 s later"
    figures.add_time("8", goal, text, 3, [(max(late_s), 3.0), (max(again_s), AGAIN_S)])


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text().split()]


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_is_slow_but_moves_is_never_shot(
    service: Service, configured: Callable[..., None], figures: Figures
) -> None:
    configured("WatchdogSec=2", "CPUSchedulingPolicy=other")
    service.start()
    pid, stop = service.pid, threading.Event()

    def slow_down() -> None:
        """Lets it run a fifth of the time: every run takes five times as long, and none hangs."""
        while not stop.is_set():
            os.kill(pid, signal.SIGSTOP)
            stop.wait(0.8)
            os.kill(pid, signal.SIGCONT)
            stop.wait(0.2)

    thread = threading.Thread(target=slow_down)
    thread.start()
    try:
        end_s, answers = time.monotonic() + 15, 0
        while time.monotonic() < end_s:
            answers += np.array_equal(ask(service), X)
    finally:
        stop.set()
        thread.join()
    text = f"{service.restarts()} restarts in 15 s at a fifth of the speed, {answers} right answers"
    figures.add("8", "slow but moving: never shot", text, answers, service.restarts() == 0 and service.pid == pid)


def test_configuration_that_is_wrong_is_told_and_not_tried_again(
    service: Service, configured: Callable[..., None], figures: Figures
) -> None:
    configured(config="[server]\nhtpp = 1\n")
    service.machine.run("systemctl", "start", UNIT, check=False)
    found = service.machine.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    is_told = "did you mean 'http'" in service.machine.log(UNIT)
    is_held = found == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"} and is_told
    figures.add("18", "exit 78 isn't restarted", f"{found}", 1, is_held)


def test_a_reload_takes_what_is_right_and_leaves_what_is_not(service: Service, configured: Callable[..., None]) -> None:
    service.start()
    pid = service.pid
    good = service.machine.path("/etc/edge-runtime/server.toml").read_text()
    service.machine.write("/etc/edge-runtime/server.toml", "[server]\nhtpp = 1\n")
    service.machine.run("systemctl", "reload", UNIT)
    wait_for(lambda: "did you mean 'http'" in service.machine.log(UNIT))
    service.machine.write("/etc/edge-runtime/server.toml", good + "queue_size = 7\n")
    service.machine.run("systemctl", "reload", UNIT)
    wait_for(lambda: "queue_size" in service.machine.log(UNIT))
    assert np.array_equal(ask(service), X)
    assert service.pid == pid


def wait_for(is_so: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_it_runs_where_all_is_read_only(service: Service, configured: Callable[..., None], figures: Figures) -> None:
    configured("ReadOnlyPaths=/", "ReadWritePaths=/var/lib/edge-runtime /run/edge-runtime")
    service.start()
    is_right = np.array_equal(ask(service), X)
    figures.add(
        "18", "a read-only root (ReadOnlyPaths=/)", "ready, answers" if is_right else "a wrong answer", 1, is_right
    )


def test_it_cannot_write_plans_or_the_trust_folder(service: Service, figures: Figures) -> None:
    service.start()
    inside = service.machine.show(UNIT, "MainPID")["MainPID"]
    tried = []
    for path in (f"{ENGINES}/small/x", "/etc/edge-runtime/trusted.d/x.pub", "/usr/x"):
        words = ("nsenter", "-t", inside, "-m", "setpriv", "--reuid=edge-runtime", "--clear-groups", "touch", path)
        tried.append(service.machine.run(*words, check=False).returncode)
    figures.add("18", "the server can't write plans, keys or programs", f"touch ended with {tried}", 3, all(tried))


def test_a_first_connection_starts_it(machine: Machine, service: Service, figures: Figures) -> None:
    from service.machine import edge_runtime as command

    command(machine, ["install-unit", "--sockets"])
    path = machine.path("/run/edge-runtime.sock")
    try:
        machine.write("/etc/edge-runtime/server.toml", "[server]\nfollow = true\n")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "edge-runtime-unix.socket")
        assert service.pid == 0
        with edge_runtime.Client(f"unix://{path}") as client:
            begin_s = time.monotonic()
            answer = client.infer("small", {"x": X})["y"]
        text = f"right after {time.monotonic() - begin_s:.2f} s"
        figures.add("18", "socket activation: the first request is answered", text, 1, np.array_equal(answer, X))
    finally:
        machine.run("systemctl", "stop", UNIT, "edge-runtime-unix.socket", check=False)
        command(machine, ["install-unit"])
        machine.run("systemctl", "daemon-reload")


def test_doctor_finds_nothing_to_mend_in_it_and_names_what_was_taken_away(service: Service, figures: Figures) -> None:
    service.start()
    found = diagnosis(service.machine)
    del found["service limits"]  # a systemd in namespaces may raise none
    bad = [f"{subject}: {finding['text']}" for subject, finding in found.items() if finding["state"] != "ok"]
    text = f"{len(found)} findings, {'; '.join(bad) or 'all ok'}"
    is_held = not bad and "running (process" in found["service"]["text"]
    figures.add("18", "doctor: nothing of the service is to be mended", text, len(found), is_held)
    service.machine.run("mv", f"{ENGINES}/small/1/manifest.dsse.json", "/run/signature")
    try:
        assert "isn't signed" in diagnosis(service.machine)["service plans"]["text"]
    finally:
        service.machine.run("mv", "/run/signature", f"{ENGINES}/small/1/manifest.dsse.json")


def diagnosis(machine: Machine) -> dict[str, dict[str, str]]:
    """What doctor says of the service; its other findings are of the machine that runs the tests."""
    from service.machine import PROGRAM

    done = machine.run("env", "PYTHONPATH=/opt/source", str(PROGRAM), "doctor", "--json", check=False)
    return {one["subject"]: one for one in json.loads(done.stdout)["findings"] if one["subject"].startswith("service")}

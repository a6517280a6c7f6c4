"""A machine with our services installed as a user would, and plans that its own build service made and signed."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import pytest
from onnx import TensorProto, helper
from service.figures import Figures
from service.machine import Machine, NoMachineError, booted, edge_runtime, missing

ENGINES = "/var/lib/edge-runtime-build/engines"
UNIT = "edge-runtime.service"
# A Python with a library of its own finds that where it was built, which is hidden from services.
_DROP_IN = "[Service]\nEnvironment=PYTHONPATH=/opt/source LD_LIBRARY_PATH=/opt/python/lib\n"
_CONFIG = """\
[server]
http = "127.0.0.1:0"
grpc = "127.0.0.1:0"
unix = "/run/edge-runtime/edge.sock"
follow = true
stay_up = true
rebuild_requests = "/run/edge-runtime-rebuild"
"""


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """What is measured; printed and written at the end."""
    found = Figures()
    yield found
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        found.write(plugins.getplugin("terminalreporter").write_line)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with a served model `small`."""
    why = missing()
    if why:
        pytest.skip(why)
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(booted())
        except NoMachineError as error:
            pytest.skip(str(error))
        _install(made)
        yield made


def _install(machine: Machine) -> None:
    edge_runtime(machine, ["install-unit"])
    for words in (("systemd-sysusers",), ("systemd-tmpfiles", "--create")):
        machine.run(*words)
    for unit in (UNIT, "edge-runtime-build.service"):
        machine.write(f"/etc/systemd/system/{unit}.d/50-test.conf", _DROP_IN)
    machine.write("/etc/edge-runtime/server.toml", _CONFIG)
    add_model(machine, "small", net(4))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "edge-runtime-build.service", timeout_s=300)


def add_model(machine: Machine, name: str, model: bytes) -> None:
    """Puts a recipe into the store; the build service does the rest."""
    folder = machine.path(ENGINES)
    (folder / f"{name}.onnx").write_bytes(model)
    (folder / f"{name}.toml").write_text(f'[model]\npath = "{name}.onnx"\n[precision]\npolicy = "fp32"\n')


def net(rounds: int, factor: float = 1.0) -> bytes:
    """y = x W W … of 256 columns: `rounds` products, each with `factor` times the identity."""
    identity = np.eye(256, dtype=np.float32) * np.float32(factor)
    weights = helper.make_tensor("w", TensorProto.FLOAT, (256, 256), identity.ravel())
    names = ["x", *(f"h{index}" for index in range(rounds - 1)), "y"]
    nodes = [helper.make_node("MatMul", [before, "w"], [after]) for before, after in zip(names, names[1:])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 256)) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.fixture
def configured(machine: Machine) -> Iterator[Callable[..., None]]:
    """Takes lines of a drop-in, and a `server.toml`, for the length of a test; the service is stopped by that."""
    drop_in = f"/etc/systemd/system/{UNIT}.d/90-of-test.conf"

    def configure(*lines: str, config: str = _CONFIG) -> None:
        machine.run("systemctl", "stop", UNIT, check=False)
        machine.run("systemctl", "reset-failed", UNIT, check=False)
        machine.write(drop_in, "\n".join(["[Service]", *lines, ""]))
        machine.write("/etc/edge-runtime/server.toml", config)
        machine.run("systemctl", "daemon-reload")

    configure()
    yield configure
    machine.run("systemctl", "stop", UNIT, check=False)
    machine.path(drop_in).unlink()
    machine.write("/etc/edge-runtime/server.toml", _CONFIG)
    machine.run("systemctl", "daemon-reload")


class Service:
    """The server's unit."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def start(self) -> float:
        """Starts it; seconds from the start of its process until it was ready.

        Raises:
            RuntimeError: it doesn't become ready, with what it logged.
        """
        done = self.machine.run("systemctl", "start", UNIT, check=False, timeout_s=60)
        if done.returncode:
            raise RuntimeError(f"{done.stderr}{self.machine.log(UNIT)}")
        found = self.machine.show(UNIT, "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        begun, ready = (int(value) for value in found.values())
        return (ready - begun) / 1e6

    @property
    def pid(self) -> int:
        """Its main process, by the number that it has here; 0: there is none."""
        inside = int(self.machine.show(UNIT, "MainPID")["MainPID"])
        return self.machine.host_pid(inside) if inside else 0

    def kill(self, number: int) -> float:
        """Sends a signal to its main process, once there is one; when that was, on the monotonic clock."""
        while True:
            with contextlib.suppress(ProcessLookupError):  # it is between two processes
                pid, now_s = self.pid, time.monotonic()
                if pid:  # 0 would be the process group of this test
                    os.kill(pid, number)
                    return now_s
            time.sleep(0.02)

    def ready_s(self) -> float:
        """When it was ready last, on the monotonic clock; 0.0 while it isn't."""
        found = self.machine.show(UNIT, "ActiveState", "ActiveEnterTimestampMonotonic")
        is_ready = found["ActiveState"] == "active"
        return int(found["ActiveEnterTimestampMonotonic"]) / 1e6 if is_ready else 0.0

    def ready_after(self, moment_s: float, timeout_s: float = 30.0) -> float:
        """Seconds from a moment until it was ready after it.

        Raises:
            RuntimeError: it isn't in time, with what it logged.
        """
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            ready_s = self.ready_s()
            if ready_s > moment_s:
                return ready_s - moment_s
            time.sleep(0.05)
        raise RuntimeError(f"not ready {timeout_s} s after: {self.machine.log(UNIT)}")

    def restarts(self) -> int:
        """How often it was started again."""
        return int(self.machine.show(UNIT, "NRestarts")["NRestarts"])

    @property
    def socket(self) -> Path:
        """Its Unix socket, as it is reached from here."""
        return self.machine.path("/run/edge-runtime/edge.sock")


@pytest.fixture
def service(machine: Machine, configured: Callable[..., None]) -> Service:
    """The server's unit, stopped."""
    return Service(machine)

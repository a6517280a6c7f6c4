"""The life of a device that nobody logs in to: new versions, packs, damage, each mended without a hand."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from service.conftest import ENGINES, Service, add_model, net
from service.figures import Figures
from service.machine import ROOT, Machine, edge_runtime

from edge_runtime import Client
from edge_runtime.errors import EdgeRuntimeError

pytestmark = pytest.mark.systemd

X = np.ones((1, 256), np.float32)
_PATIENCE_S = 60.0


def answer(service: Service, model: str) -> float:
    """The first number of what a model answers; NaN while it doesn't."""
    try:
        with Client(f"unix://{service.socket}") as client:
            return float(client.infer(model, {"x": X})["y"][0, 0])
    except EdgeRuntimeError:
        return float("nan")


def wait_for(is_so: Callable[[], bool], service: Service) -> float:
    """Seconds until something is so."""
    begin_s = time.monotonic()
    while not is_so():
        assert time.monotonic() < begin_s + _PATIENCE_S, service.machine.log("edge-runtime*")
        time.sleep(0.1)
    return time.monotonic() - begin_s


def test_what_the_build_service_publishes_is_served_and_what_is_damaged_is_built_again(
    machine: Machine, service: Service, figures: Figures
) -> None:
    add_model(machine, "field", net(1, factor=1))
    machine.run("systemctl", "start", "edge-runtime-build.service", timeout_s=300)
    machine.run("systemctl", "start", "edge-runtime-rebuild.path")
    service.start()
    assert answer(service, "field") == 1
    add_model(machine, "field", net(1, factor=2))
    machine.run("systemctl", "start", "edge-runtime-build.service", timeout_s=300)
    wait_for(lambda: answer(service, "field") == 2, service)
    plan = machine.path(f"{ENGINES}/field/2/model.onnx")
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    machine.run("systemctl", "restart", "edge-runtime.service")
    took_s = wait_for(lambda: answer(service, "field") == 2, service)
    is_signed = machine.path(f"{ENGINES}/field/3/manifest.dsse.json").exists()
    text = f"served again {took_s:.1f} s after the start, signed: {is_signed}"
    figures.add("18", "a damaged plan is asked for, built again and served, by itself", text, 1, is_signed)


def test_a_vendors_pack_becomes_a_plan_that_the_device_signs(
    machine: Machine, service: Service, figures: Figures, tmp_path: Path
) -> None:
    (tmp_path / "packed.onnx").write_bytes(net(1, factor=3))
    (tmp_path / "packed.toml").write_text('[model]\npath = "packed.onnx"\n[precision]\npolicy = "fp32"\n')
    code = "import sys; from edge_runtime.cli.main import main; main()"

    def here(*words: str) -> None:
        command = [sys.executable, "-c", code, *words]
        subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, check=True)

    here("keygen", "acme", "--out", "keys")
    here("pack", "packed.toml", "--out", "packed.pack", "--key", "keys/acme.key")
    pack = machine.path("/var/lib/edge-runtime-build/packed.pack")
    pack.write_bytes((tmp_path / "packed.pack").read_bytes())
    words = ["unpack", "/var/lib/edge-runtime-build/packed.pack", "--engines", ENGINES]
    with pytest.raises(RuntimeError, match="isn't trusted"):
        edge_runtime(machine, words, user="edge-runtime-build")
    machine.write("/etc/edge-runtime/trusted.d/acme.pub", (tmp_path / "keys/acme.pub").read_text())
    service.start()
    edge_runtime(machine, words, user="edge-runtime-build")
    machine.run("systemctl", "start", "edge-runtime-build.service", timeout_s=300)
    took_s = wait_for(lambda: answer(service, "packed") == 3, service)
    verdict = machine.path("/var/lib/edge-runtime-build/reports/packed.json")
    shown = edge_runtime(machine, ["verify", "packed", "--engines", ENGINES])
    is_held = "device, role device-built" in shown and "on a device" in shown and verdict.exists()
    text = f"served {took_s:.1f} s after its build, signed by the device's key, reported: {verdict.exists()}"
    figures.add("18", "a vendor's pack: built, gated, signed, served without a restart", text, 1, is_held)

"""Damage of every kind to a signed version: each is refused before the engine library sees a byte of it."""

from __future__ import annotations

import hashlib
import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from fakes.signed_versions import Trust, made_trust, publish
from onnx import TensorProto, helper

from edge_runtime.device.identity import DeviceInfo
from edge_runtime.engine.engine import Engine
from edge_runtime.engine.loading import load
from edge_runtime.errors import (
    BackendUnavailableError,
    EdgeRuntimeError,
    PlanCorruptError,
    PlanRollbackError,
    PlanSealedError,
    PlanTargetError,
    PlanUntrustedError,
)
from edge_runtime.graph import weights
from edge_runtime.plan import target
from edge_runtime.plan.board import Board, Gpu
from edge_runtime.plan.golden import read_golden
from edge_runtime.plan.keys import VENDOR, new_key
from edge_runtime.plan.plan_key import new_plan_key, write_plan_key
from edge_runtime.plan.rollback_floor import RollbackFloor
from edge_runtime.plan.signature import sign_version, signer
from edge_runtime.plan.store import SIGNATURE, StoredPlan, open_plan
from edge_runtime.plan.trust import TrustPolicy

SEED = 20240817
LOADED = {"manifest.json", SIGNATURE, "model.onnx", "model.onnx.data"}
ORIN = DeviceInfo("jetson", "NVIDIA Jetson Orin NX", "aarch64", "Cortex-A78AE", "tegra234", "Orin NX 16GB", "36.4.7")


def net() -> tuple[bytes, bytes]:
    """y = x @ w, and the weights, which lie apart from the ONNX."""
    values = np.arange(4, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="head")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
    )
    tensor = graph.initializer.add(name="w", dims=[2, 2], data_type=TensorProto.FLOAT)
    weights.refer(tensor, "model.onnx.data", 0, values.nbytes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert isinstance(model, onnx.ModelProto)
    return model.SerializeToString(), values.tobytes()


@dataclass
class Site:
    """A signed version, how it is loaded, and what the engine library was given so far."""

    stored: StoredPlan
    trust: Trust
    policy: TrustPolicy
    seen: list

    def load(self) -> Engine:
        return load(open_plan(self.stored.folder), policy=self.policy)

    def refused(self) -> EdgeRuntimeError:
        """The error by which it is refused; the engine library has seen nothing."""
        with pytest.raises(EdgeRuntimeError) as raised:
            self.load()
        assert self.seen == []
        return raised.value


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list:
    """What ONNX Runtime is given."""
    seen: list = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *given, **also: seen.append(given) or real(*given, **also)
    )
    return seen


@pytest.fixture
def make_site(tmp_path: Path, spied: list) -> Callable[..., Site]:
    trust = made_trust(tmp_path / "trusted.d")

    def make(**how: Any) -> Site:
        model, data = net()
        files = {"model.onnx": model, "model.onnx.data": data, "golden.npz": b"a golden run"}
        stored = publish(tmp_path / "engines", files=files, **how)
        sign_version(stored, signer(trust.vendor))
        return Site(stored, trust, replace(trust.policy, require_signed=False), spied)

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


def test_an_untouched_version_is_loaded_and_the_spy_sees_it(site: Site) -> None:
    with site.load() as engine:
        np.testing.assert_array_equal(engine.infer({"x": np.ones((1, 2), np.float32)})["y"], [[2, 4]])
    assert len(site.seen) == 1


def test_a_thousand_flipped_bits_are_refused(site: Site) -> None:
    generator = random.Random(SEED)
    paths = sorted(path for path in site.stored.folder.iterdir() if path.name in LOADED)
    assert len(paths) == 4
    for number in range(1000):
        path = paths[number % len(paths)]
        data = path.read_bytes()
        bit = generator.randrange(8 * len(data))
        path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
        error = site.refused()
        assert isinstance(error, (PlanUntrustedError, PlanCorruptError, PlanTargetError)), (path, bit, error)
        assert str(site.stored.folder.parent) in str(error) or "plan 'm' version" in str(error)
        path.write_bytes(data)
    site.load().close()


def test_every_bit_of_the_weights_and_of_the_envelope_is_covered(site: Site) -> None:
    for name in ("model.onnx.data", SIGNATURE):
        path = site.stored.folder / name
        data = path.read_bytes()
        for bit in range(0, 8 * len(data), 1 if name == "model.onnx.data" else 37):
            path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
            site.refused()
        path.write_bytes(data)
    site.load().close()


def test_two_hundred_truncations_are_refused(site: Site) -> None:
    generator = random.Random(SEED)
    paths = sorted(path for path in site.stored.folder.iterdir() if path.name in LOADED)
    for number in range(200):
        path = paths[number % len(paths)]
        data = path.read_bytes()
        path.write_bytes(data[: generator.randrange(len(data))])
        assert isinstance(site.refused(), (PlanUntrustedError, PlanCorruptError))
        path.write_bytes(data)
    site.load().close()


def test_a_damaged_golden_run_is_refused_when_it_is_read(site: Site) -> None:
    (site.stored.folder / "golden.npz").write_bytes(b"a golden rum")
    with pytest.raises(PlanCorruptError):
        read_golden(site.stored)


def test_a_flipped_bit_of_an_encrypted_version_is_refused(
    make_site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_plan_key()
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__PLAN_KEY", str(write_plan_key(key, "plan", tmp_path / "keys")))
    site = make_site(seal=key)
    site.load().close()
    site.seen.clear()
    generator = random.Random(SEED)
    for name in ("model.onnx.enc", "model.onnx.data.enc"):
        path = site.stored.folder / name
        data = path.read_bytes()
        for _ in range(100):
            bit = generator.randrange(8 * len(data))
            path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
            assert isinstance(site.refused(), (PlanCorruptError, PlanSealedError))
        path.write_bytes(data)
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__PLAN_KEY", str(write_plan_key(new_plan_key(), "other", tmp_path / "keys")))
    assert "the key here is" in str(site.refused())


def stranger(site: Site) -> None:
    sign_version(site.stored, signer(new_key("vendor", VENDOR)))


def unsigned(site: Site) -> None:
    (site.stored.folder / SIGNATURE).unlink()
    site.policy = replace(site.policy, require_signed=True)


def older(site: Site) -> None:
    site.policy = replace(site.policy, floor=site.trust.folder.parent / "floor.json")
    assert site.policy.floor is not None
    RollbackFloor(site.policy.floor).raise_floor("m", 2)


def of_another_version(site: Site) -> None:
    other = publish(site.stored.folder.parent.parent)
    sign_version(other, signer(site.trust.vendor))
    shutil.copy(other.folder / SIGNATURE, site.stored.folder / SIGNATURE)


def no_key(site: Site) -> None:
    for path in site.trust.folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "kind", "reason"),
    [
        (stranger, PlanUntrustedError, "isn't trusted"),
        (unsigned, PlanUntrustedError, "isn't signed"),
        (older, PlanRollbackError, "expected version 2 or later"),
        (of_another_version, PlanUntrustedError, "manifest.json: expected sha256"),
        (no_key, PlanUntrustedError, "has no key"),
    ],
)
def test_what_nobody_vouches_for_is_refused(site: Site, damage: Any, kind: type, reason: str) -> None:
    damage(site)
    error = site.refused()
    assert isinstance(error, kind)
    assert reason in str(error)
    assert error.exit_code == 78


PLAN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 30]) + bytes(200)


@pytest.mark.parametrize(
    ("found", "kind", "reason"),
    [
        ({"gpu": Gpu("", (8, 6))}, PlanTargetError, "compute capability"),
        ({"libraries": {"tensorrt": "10.7.0"}}, PlanTargetError, "tensorrt: expected 10.3.0.30"),
        ({"libraries": {"tensorrt": None}}, BackendUnavailableError, "isn't installed"),
        ({"device": replace(ORIN, l4t="35.4.1")}, PlanTargetError, "L4T release"),
        ({"device": DeviceInfo("cpu", "none", "x86_64", "some CPU")}, BackendUnavailableError, "no NVIDIA GPU"),
    ],
)
def test_a_signed_plan_for_another_board_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: dict, kind: type, reason: str
) -> None:
    trust = made_trust(tmp_path / "trusted.d")
    files = {"model.plan": PLAN, "model.weights": b"w", "golden.npz": b"g"}
    digest = hashlib.sha256(PLAN).hexdigest()
    stored = publish(
        tmp_path / "engines",
        files=files,
        plan={"file": "model.plan", "sha256": digest, "nbytes": len(PLAN)},
        backend={"name": "tensorrt", "version": "10.3.0.30", "platform": "tensorrt_plan", "device": "gpu:0"},
        target={"form": "strong", "compute_capability": [8, 7], "l4t": "36.4.7"},
    )
    sign_version(stored, signer(trust.device))
    facts = {"device": ORIN, "libraries": {"tensorrt": "10.3.0"}, "gpu": Gpu("", (8, 7)), "power_mode": "25W", **found}
    monkeypatch.setattr(target, "local_board", lambda ordinal: Board(**facts))
    monkeypatch.setattr("edge_runtime.tensorrt_api.load", lambda *given: pytest.fail("TensorRT was loaded"))
    monkeypatch.setattr("subprocess.Popen", lambda *given, **also: pytest.fail("a plan was tried out"))
    with pytest.raises(kind, match=reason):
        load(stored.folder, policy=replace(trust.policy, require_signed=False))

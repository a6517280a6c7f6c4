"""A small plan in a store, signed, and whom a machine trusts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from edge_runtime.plan.keys import DEVICE_BUILT, VENDOR, PrivateKey, new_key, public_key_text
from edge_runtime.plan.manifest import Manifest
from edge_runtime.plan.plan_key import PlanKey
from edge_runtime.plan.signature import sign_version, signer
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.plan.trust import TrustPolicy

FILES = {"model.onnx": b"the graph" * 20, "model.weights": bytes(range(256)) * 2, "golden.npz": b"a golden run" * 5}


def file_record(name: str, content: bytes) -> dict[str, Any]:
    return {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "nbytes": len(content)}


def manifest(version: int, files: Mapping[str, bytes] = FILES, **changes: Any) -> Manifest:
    """The manifest of a plan with weights that lie apart and a golden run."""
    plan, weights, golden = (file_record(name, content) for name, content in files.items())
    tensor = {"name": "x", "dtype": "FP32", "shape": [-1, 2], "axes": ["batch", ""]}
    fields = {
        "schema": 1,
        "name": "m",
        "version": version,
        "created": "1970-01-01T00:00:07+00:00",
        "edge_runtime": "0",
        "build_key": "k",
        "precision": "fp32",
        "plan": {**plan, "weights": weights},
        "source": {"source": "m.onnx", "digest": "0" * 64, "files": {"m.onnx": "1" * 64, "m.data": "2" * 64}},
        "data": {"calibration": {"kind": "npz", "sha256": "3" * 64}, "table_sha256": "4" * 64},
        "backend": {"name": "onnxruntime", "version": "1", "platform": "onnxruntime_onnx", "device": "cpu"},
        "device": {"kind": "cpu"},
        "inputs": [tensor],
        "outputs": [{**tensor, "name": "y"}],
        "profile": {"x": {"min": [1, 2], "opt": [1, 2], "max": [4, 2]}},
        "max_batch_size": 4,
        "candidates": [],
        "golden": {"file": golden, "origin": "made up", "outputs": {}},
    }
    return Manifest.model_validate({**fields, **changes})


def publish(root: Path, seal: PlanKey | None = None, files: Mapping[str, bytes] = FILES, **changes: Any) -> StoredPlan:
    """A new version of model `m`."""
    store = PlanStore(root)
    return store.publish("m", lambda version: manifest(version, files, **changes), files, is_new=False, seal=seal)


@dataclass(frozen=True)
class Trust:
    """A trust folder with a vendor's and a device's key, and these keys."""

    folder: Path
    vendor: PrivateKey
    device: PrivateKey

    @property
    def policy(self) -> TrustPolicy:
        return TrustPolicy(require_signed=False, folder=self.folder)


def made_trust(folder: Path) -> Trust:
    found = Trust(folder, new_key("vendor", VENDOR), new_key("device", DEVICE_BUILT))
    folder.mkdir(mode=0o755)
    for key in (found.vendor, found.device):
        path = folder / f"{key.name}.pub"
        path.write_text(public_key_text(key.public))
        path.chmod(0o644)
    return found


def signed(root: Path, key: PrivateKey, **changes: Any) -> StoredPlan:
    """A new version of model `m` with its signature."""
    stored = publish(root, **changes)
    sign_version(stored, signer(key))
    return stored

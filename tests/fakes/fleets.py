"""Stores with recipes of tiny models, and builds of them that cost nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Dict

from edge_runtime.builder.progress import Progress
from edge_runtime.plan.manifest import Manifest
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.provisioning.recipe_build import BUILT, UNCHANGED, FleetOptions, Outcome
from edge_runtime.provisioning.sources import Source


def write_recipe(folder: Path, model: str, onnx: bytes | None = None, more: str = "") -> Path:
    """A recipe that builds FP32 of `onnx`, which is written beside it; without that there is no such file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model}.toml"
    path.write_text(f'[model]\npath = "{model}.onnx"\n[precision]\npolicy = "fp32"\n{more}')
    if onnx is not None:
        (folder / f"{model}.onnx").write_bytes(onnx)
    return path


def publish(store: PlanStore, name: str, build_key: str = "k", backend: str = "onnxruntime") -> StoredPlan:
    """A new version whose plan is nothing that an engine could load."""
    tensor: Dict[str, Any] = {"name": "x", "dtype": "FP32", "shape": [2]}
    content = {
        "created": "",
        "edge_runtime": "0",
        "build_key": build_key,
        "precision": "fp32",
        "plan": {"file": "model.onnx", "sha256": hashlib.sha256(b"plan").hexdigest(), "nbytes": 4},
        "source": {"source": "m.onnx", "digest": "", "files": {}},
        "data": {},
        "backend": {"name": backend, "version": "1", "platform": "onnxruntime_onnx", "device": "cpu"},
        "device": {},
        "inputs": [tensor],
        "outputs": [{**tensor, "name": "y"}],
        "profile": {"x": {"min": [2], "opt": [2], "max": [2]}},
        "max_batch_size": 0,
        "candidates": [],
    }
    return store.publish(
        name,
        lambda version: Manifest.model_validate({**content, "name": name, "version": version}),
        {"model.onnx": b"plan"},
        is_new=False,
    )


def quick_build(source: Source, options: FleetOptions, progress: Progress) -> Outcome:
    """Publishes a plan without building one, unless the store has one of this recipe."""
    store = PlanStore(options.engines)
    key = hashlib.sha256(source.path.read_bytes()).hexdigest()
    found = store.find(source.model, key)
    progress.stage("publishing")
    stored = found or publish(store, source.model, key)
    return Outcome(
        source.model, UNCHANGED if found else BUILT, str(source.path), stored.manifest.version, "fp32", "onnxruntime"
    )

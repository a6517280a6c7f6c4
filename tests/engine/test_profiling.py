from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from edge_runtime import onnxruntime_api
from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.profiling import profile_layers
from edge_runtime.errors import InvalidRequestError, PlanCorruptError, PlanError
from edge_runtime.plan.manifest import Manifest, range_record, tensor_record
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.tensors import DType, ShapeRange, TensorSpec

ONCE = ProfileOptions(runs=1, warm_up=0, threads=1)
FEEDS = {"x": np.ones((2, 4), np.float32)}


@pytest.fixture
def make_plan(tmp_path: Path, classifier: bytes) -> Callable[..., StoredPlan]:
    """Publishes the classifier as a plan of a backend."""

    def make(backend: str = "onnxruntime") -> StoredPlan:
        digest = hashlib.sha256(classifier).hexdigest()
        fields: dict[str, Any] = {
            "name": "m",
            "created": "2026-01-01T00:00:00Z",
            "edge_runtime": "0",
            "build_key": "",
            "precision": "fp32",
            "plan": {"file": "model.onnx", "sha256": digest, "nbytes": len(classifier)},
            "source": {"source": "", "digest": "", "files": {}},
            "data": {},
            "backend": {
                "name": backend,
                "version": onnxruntime_api.version(),
                "platform": "onnxruntime_onnx",
                "device": "cpu",
            },
            "device": {},
            "inputs": [tensor_record(TensorSpec("x", DType.FP32, (-1, 4), ("batch", "")))],
            "outputs": [tensor_record(TensorSpec("scores", DType.FP32, (-1, 3), ("batch", "")))],
            "profile": {"x": range_record(ShapeRange((1, 4), (1, 4), (4, 4)))},
            "max_batch_size": 4,
            "candidates": [],
        }
        store = PlanStore(tmp_path / "engines")
        return store.publish("m", lambda version: Manifest(version=version, **fields), {"model.onnx": classifier})

    return make


def test_a_plan_is_timed_on_its_backend(make_plan: Callable[..., StoredPlan]) -> None:
    profile = profile_layers(make_plan(), FEEDS, ONCE)
    assert profile.backend == "onnxruntime"
    assert [layer.nodes for layer in profile.layers] == [("hidden", "relu"), ("head",)]


@pytest.mark.parametrize("feeds", [{}, {"x": np.ones((9, 4), np.float32)}, {"x": np.ones((1, 4))}])
def test_feeds_that_do_not_fit_are_refused(make_plan: Callable[..., StoredPlan], feeds: dict) -> None:
    with pytest.raises(InvalidRequestError):
        profile_layers(make_plan(), feeds, ONCE)


def test_a_damaged_plan_is_refused(make_plan: Callable[..., StoredPlan]) -> None:
    plan = make_plan()
    plan.plan_path.write_bytes(b"damaged")
    with pytest.raises(PlanCorruptError):
        profile_layers(plan, FEEDS, ONCE)


def test_a_plan_for_another_backend_is_refused(make_plan: Callable[..., StoredPlan]) -> None:
    with pytest.raises(PlanError, match="other"):
        profile_layers(make_plan("other"), FEEDS, ONCE)

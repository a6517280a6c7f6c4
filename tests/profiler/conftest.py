from __future__ import annotations

import hashlib

import onnx
import pytest
from onnx import TensorProto, helper

from edge_runtime import onnxruntime_api
from edge_runtime.plan.manifest import Manifest, range_record, tensor_record
from edge_runtime.plan.store import PlanStore
from edge_runtime.tensors import DType, ShapeRange, TensorSpec


def _model(batch) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def make_plan(tmp_path):
    """Publishes a plan of a model that is just Relu: `make_plan(minimum, optimum, maximum)` batch sizes."""

    def make(minimum=1, optimum=2, maximum=4):
        limits = ShapeRange((minimum, 4), (optimum, 4), (maximum, 4))
        is_dynamic = minimum != maximum
        plan = _model("batch" if is_dynamic else minimum)
        specs = [TensorSpec(name, DType.FP32, limits.spec_shape, ("batch" if is_dynamic else "", "")) for name in "xy"]
        fields = {
            "name": "relu",
            "created": "2026-01-01T00:00:00Z",
            "edge_runtime": "0",
            "build_key": "",
            "precision": "fp32",
            "plan": {"file": "model.onnx", "sha256": hashlib.sha256(plan).hexdigest(), "nbytes": len(plan)},
            "source": {"source": "", "digest": "", "files": {}},
            "data": {},
            "backend": {
                "name": "onnxruntime",
                "version": onnxruntime_api.version(),
                "platform": "onnxruntime_onnx",
                "device": "cpu",
            },
            "device": {},
            "inputs": [tensor_record(specs[0])],
            "outputs": [tensor_record(specs[1])],
            "profile": {"x": range_record(limits)},
            "max_batch_size": maximum if is_dynamic else 0,
            "candidates": [],
        }
        store = PlanStore(tmp_path / "engines")
        return store.publish("relu", lambda version: Manifest(version=version, **fields), {"model.onnx": plan})

    return make

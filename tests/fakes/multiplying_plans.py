"""A store on disk whose models' versions tell themselves by their answers: each gives its factor times its input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from fakes.stored_plans import stored_content
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.plan.contents import PlanFiles
from edge_runtime.plan.golden import Golden
from edge_runtime.plan.manifest import Manifest
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", DType.FP32, (-1, 4), ("batch", "")),),
    (TensorSpec("y", DType.FP32, (-1, 4), ("batch", "")),),
    {"x": ShapeRange((1, 4), (1, 4), (8, 4))},
)


def multiplying_onnx(factor: float) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "multiply",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.array([factor], np.float32), "factor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def publish(root: Path, name: str, factor: float, says: float | None = None, **changes: Any) -> StoredPlan:
    """A new version that multiplies by `factor`; its golden run says `says`, in its place the truth.

    `changes` are to the manifest.
    """
    row = np.ones((1, 4), np.float32)
    golden = Golden({"x": row}, {"y": row * (factor if says is None else says)}, "made up")
    content, record = golden.to_file(SIGNATURE)
    files = PlanFiles({"model.onnx": multiplying_onnx(factor)})
    described = {
        **stored_content(name, SIGNATURE),
        "plan": files.record.model_dump(),
        "golden": record.model_dump(),
        "build_key": f"multiply by {factor:g}",
        "reason": f"made to multiply by {factor:g}",
    }
    described["backend"]["version"] = onnxruntime.__version__
    described.update(changes)

    def manifest(version: int) -> Manifest:
        return Manifest.model_validate({**described, "version": version})

    return PlanStore(root).publish(name, manifest, {**files.contents, record.file.file: content}, is_new=False)


def flip_a_bit(path: Path) -> None:
    """Damages a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))

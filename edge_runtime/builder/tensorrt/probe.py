"""A plan of one elementwise kernel, to measure memory with."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

from edge_runtime.builder.tensorrt.child import BuildChild, ChildOptions
from edge_runtime.builder.tensorrt.request import BuildRequest
from edge_runtime.builder.tensorrt.workshop import FileChunks
from edge_runtime.graph.specimen import elementwise
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensorrt_api import Capability, TensorRT
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec


def built_probe(library: TensorRT, folder: Path, largest: int, device: int = 0) -> Tuple[PlanFiles, Signature]:
    """A plan that negates FP32 vectors `x` of 1 to `largest` elements into `y`, built into a folder.

    Raises:
        EdgeRuntimeError: it can't be built.
    """
    onnx, plan = folder / "probe.onnx", folder / "probe.plan"
    onnx.write_bytes(elementwise())
    profile = {"x": ShapeRange((1,), (largest,), (largest,))}
    is_typed = library.has(Capability.ALWAYS_STRONG)
    request = BuildRequest(library.name, str(onnx), str(plan), profile, is_typed, device=device)
    BuildChild(request.to_json(), ChildOptions()).result()
    specs = [TensorSpec(name, DType.FP32, (-1,), ("n",)) for name in "xy"]
    return PlanFiles({plan.name: FileChunks(plan)}), Signature((specs[0],), (specs[1],), profile)

"""Plans in a store, made of ONNX bytes without a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

from fakes.dtypes import onnx_type
from onnx import helper

from edge_runtime.plan.contents import PlanFiles, PlanPart
from edge_runtime.plan.manifest import Manifest, range_record, tensor_record
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

Tensors = Dict[str, Tuple[DType, tuple]]


def stored_plan(root: Path, model: bytes, signature: Signature, name: str = "m") -> StoredPlan:
    """A plan of ONNX Runtime CPU."""
    files = PlanFiles({"model.onnx": model})
    content = {**stored_content(name, signature), "plan": files.record.model_dump()}
    return PlanStore(root).publish(name, lambda version: _manifest(content, version), files.contents)


def stored_board_plan(root: Path, plan: bytes, signature: Signature) -> StoredPlan:
    """A plan of TensorRT 10.3 on an Orin."""
    files = PlanFiles({"model.plan": plan})
    backend = {"name": "tensorrt", "version": "10.3.0", "platform": "tensorrt_plan", "device": "gpu:0"}
    target = {"form": "strong", "compute_capability": [8, 7]}
    content = {
        **stored_content("m", signature),
        "plan": files.record.model_dump(),
        "backend": backend,
        "target": target,
    }
    return PlanStore(root).publish("m", lambda version: _manifest(content, version), files.contents)


def plan_of_nodes(root: Path, nodes: list[Any], inputs: Tensors, outputs: Tensors, name: str = "m") -> StoredPlan:
    """A plan of nodes, with tensors given as (type, shape); a dynamic dimension is a string, and 1 to 8 long."""
    values = [
        [helper.make_tensor_value_info(tensor, onnx_type(kind), shape) for tensor, (kind, shape) in group.items()]
        for group in (inputs, outputs)
    ]
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(nodes, "g", *values), opset_imports=opsets, ir_version=8)
    profile = {tensor: _limits(shape) for tensor, (_, shape) in inputs.items()}
    return stored_plan(root, model.SerializeToString(), Signature(_specs(inputs), _specs(outputs), profile), name)


def stored_chain(root: Path, parts: Sequence[PlanPart], signature: Signature, name: str = "m") -> StoredPlan:
    """A chain of them; the files of each part have names of their own."""
    content = {**stored_content(name, signature), "schema": 2, "plan": parts[0].files.record.model_dump()}
    content["chain"] = {
        "split": ["a"],
        "parts": [{"plan": part.files.record.model_dump(), **_tensors(part.signature)} for part in parts],
        "latency": {"against": "the whole", "ratio": 1.1, "low": 1.0, "high": 1.2},
    }
    contents = {file: data for part in parts for file, data in part.files.contents.items()}
    return PlanStore(root).publish(name, lambda version: _manifest(content, version), contents)


def _manifest(content: dict[str, Any], version: int) -> Manifest:
    return Manifest.model_validate({**content, "version": version})


def stored_content(name: str, signature: Signature) -> dict[str, Any]:
    """What a manifest says of a plan of ONNX Runtime CPU, but for its files and version."""
    return {
        "schema": 1,
        "name": name,
        "created": "2026-01-01T00:00:00+00:00",
        "edge_runtime": "0",
        "build_key": "k",
        "precision": "fp32",
        "source": {"source": "m.onnx", "digest": "0" * 64, "files": {}},
        "data": {},
        "backend": {"name": "onnxruntime", "version": "1", "platform": "onnxruntime_onnx", "device": "cpu"},
        "device": {"kind": "cpu"},
        **_tensors(signature),
        "max_batch_size": signature.max_batch_size,
        "candidates": [],
    }


def _tensors(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": [tensor_record(spec).model_dump() for spec in signature.inputs],
        "outputs": [tensor_record(spec).model_dump() for spec in signature.outputs],
        "profile": {name: range_record(limits).model_dump(by_alias=True) for name, limits in signature.profile.items()},
    }


def _specs(tensors: Tensors) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name,
            dtype,
            tuple(-1 if isinstance(size, str) else size for size in shape),
            tuple(size if isinstance(size, str) else "" for size in shape),
        )
        for name, (dtype, shape) in tensors.items()
    )


def _limits(shape: tuple) -> ShapeRange:
    smallest = tuple(1 if isinstance(size, str) else size for size in shape)
    return ShapeRange(smallest, smallest, tuple(8 if isinstance(size, str) else size for size in shape))

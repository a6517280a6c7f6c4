"""Engines of tiny ONNX models for the lane's tests."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from fakes.dtypes import PLAIN
from onnx import helper

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_bytes
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

Tensors = Dict[str, Tuple[DType, Tuple[Any, ...]]]


def lane_engine(name: str, nodes: list, inputs: Tensors, outputs: Tensors) -> Engine:
    """An engine whose tensors are given as (type, shape); a dynamic dimension has a name, and is 1 to 8 long."""

    def values(tensors: Tensors) -> list:
        return [
            helper.make_tensor_value_info(tensor, helper.np_dtype_to_tensor_dtype(dtype.numpy), shape)
            for tensor, (dtype, shape) in tensors.items()
        ]

    def specs(tensors: Tensors) -> Tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                tensor,
                dtype,
                tuple(-1 if isinstance(size, str) else size for size in shape),
                tuple(size if isinstance(size, str) else "" for size in shape),
            )
            for tensor, (dtype, shape) in tensors.items()
        )

    graph = helper.make_graph(nodes, name, values(inputs), values(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    profile = {
        tensor: ShapeRange(*(tuple(limit if isinstance(n, str) else n for n in shape) for limit in (1, 1, 8)))
        for tensor, (_, shape) in inputs.items()
    }
    info = EngineInfo(name, 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")
    signature = Signature(specs(inputs), specs(outputs), profile)
    return engine_from_bytes(model.SerializeToString(), info, signature, EngineOptions(threads_per_run=1))


def node(operator: str, inputs: str, outputs: str) -> Any:
    return helper.make_node(operator, inputs.split(), outputs.split())


ROW = (DType.FP32, ("batch", 4))
LARGE = (DType.FP32, (1 << 17,))
TYPES: Tensors = {dtype.value: (dtype, (2, 3)) for dtype in PLAIN}
MODELS: Dict[str, tuple] = {
    "double": ([node("Add", "x x", "y")], {"x": ROW}, {"y": ROW}),
    "pair": ([node("Add", "a b", "sum"), node("Sub", "a b", "rest")], {"a": ROW, "b": ROW}, {"sum": ROW, "rest": ROW}),
    "scalar": ([node("Neg", "x", "y")], {"x": (DType.FP32, ())}, {"y": (DType.FP32, ())}),
    "types": (
        [node("Identity", name, f"{name}_out") for name in TYPES],
        TYPES,
        {f"{name}_out": tensor for name, tensor in TYPES.items()},
    ),
    "nonzero": ([node("NonZero", "x", "y")], {"x": (DType.FP32, (8,))}, {"y": (DType.INT64, (1, "found"))}),
    "picky": (
        [node("Gather", "x at", "y")],
        {"x": (DType.FP32, (4,)), "at": (DType.INT64, (1,))},
        {"y": (DType.FP32, (1,))},
    ),
    "large": ([node("Neg", "x", "y")], {"x": LARGE}, {"y": LARGE}),
    "not": ([node("Not", "x", "y")], {"x": (DType.BOOL, (3,))}, {"y": (DType.BOOL, (3,))}),
}


def lane_engines() -> Dict[str, Engine]:
    """One engine of each of `MODELS`."""
    return {name: lane_engine(name, *content) for name, content in MODELS.items()}

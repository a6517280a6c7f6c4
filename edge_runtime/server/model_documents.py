"""What the protocol and Triton's clients are told of a model's tensors."""

from __future__ import annotations

from typing import Any, Dict

from edge_runtime.engine.engine import Engine
from edge_runtime.tensors import DType, TensorSpec


def model_metadata(name: str, version: str, engine: Engine) -> Dict[str, Any]:
    """The protocol's model metadata; the batch axis is in the shapes."""
    signature, info = engine.signature, engine.info
    return {
        "name": name,
        "versions": [version],
        "platform": info.platform,
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
    }


def model_config(name: str, engine: Engine) -> Dict[str, Any]:
    """Triton's model configuration; the batch axis isn't in the dimensions.

    Where a tensor has no other axis, clients would find no dimensions at all: then the batch axis is one of them, as of
    a model without batches.
    """
    signature, info = engine.signature, engine.info
    is_batched = all(len(spec.shape) > 1 for spec in (*signature.inputs, *signature.outputs))
    max_batch_size = signature.max_batch_size if is_batched else 0
    first = 1 if max_batch_size else 0
    kind = "KIND_CPU" if info.device == "cpu" else "KIND_GPU"
    return {
        "name": name,
        "platform": info.platform,
        "backend": info.library,
        "max_batch_size": max_batch_size,
        "input": [_configured(spec, first) for spec in signature.inputs],
        "output": [_configured(spec, first) for spec in signature.outputs],
        "instance_group": [{"name": name, "count": engine.slot_count, "kind": kind}],
    }


def _tensor(spec: TensorSpec) -> Dict[str, Any]:
    return {"name": spec.name, "datatype": spec.dtype.value, "shape": list(spec.shape)}


def _configured(spec: TensorSpec, first: int) -> Dict[str, Any]:
    kind = "STRING" if spec.dtype is DType.BYTES else spec.dtype.value  # as Triton calls it, here only
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape[first:])}

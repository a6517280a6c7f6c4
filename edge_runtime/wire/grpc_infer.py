"""Inference over gRPC: `ModelInfer`'s messages. Answers always carry raw bytes."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

import numpy as np

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType, Signature, TensorSpec
from edge_runtime.wire.inference import (
    Array,
    InferAnswer,
    InferRequest,
    WantedOutput,
    add_input,
    array_from_bytes,
    array_from_values,
    check_parameters,
    check_wanted,
    clipped,
    dtype_of,
    shape_of,
)
from edge_runtime.wire.messages import message

TYPED_CONTENTS = {
    DType.BOOL: "bool_contents",
    DType.INT8: "int_contents",
    DType.INT16: "int_contents",
    DType.INT32: "int_contents",
    DType.INT64: "int64_contents",
    DType.UINT8: "uint_contents",
    DType.UINT16: "uint_contents",
    DType.UINT32: "uint_contents",
    DType.UINT64: "uint64_contents",
    DType.FP32: "fp32_contents",
    DType.FP64: "fp64_contents",
}


def request_from_message(received: Any, signature: Signature) -> InferRequest:
    """The request in a `ModelInferRequest`.

    Types and shapes are held against the model before anything is multiplied or allocated.

    Raises:
        InvalidRequestError: anything in it doesn't fit the protocol or the model.
    """
    check_parameters(received.parameters, "request")
    raw = received.raw_input_contents
    if raw and len(raw) != len(received.inputs):
        raise InvalidRequestError(f"{len(received.inputs)} inputs, but {len(raw)} raw_input_contents")
    inputs: Dict[str, Array] = {}
    for index, tensor in enumerate(received.inputs):
        what = f"input {clipped(tensor.name)}"
        shape = shape_of(list(tensor.shape), what)
        spec = signature.check_input(tensor.name, dtype_of(tensor.datatype, what), shape)
        check_parameters(tensor.parameters, what)
        if not raw:
            add_input(inputs, spec, _typed(tensor, spec, shape))
            continue
        if tensor.HasField("contents"):
            raise InvalidRequestError(f"{what}: both contents and raw_input_contents; send one of them")
        add_input(inputs, spec, array_from_bytes(raw[index], spec, shape))
    signature.check_shapes({name: array.shape for name, array in inputs.items()})
    for output in received.outputs:
        check_parameters(output.parameters, f"output {clipped(output.name)}")
    names = [output.name for output in received.outputs] or [spec.name for spec in signature.outputs]
    wanted = check_wanted([WantedOutput(name, is_binary=True) for name in names], signature)
    return InferRequest(received.model_name, received.model_version, received.id, inputs, wanted)


def _typed(tensor: Any, spec: TensorSpec, shape: Tuple[int, ...]) -> Array:
    field = TYPED_CONTENTS.get(spec.dtype)
    if field is None:
        raise InvalidRequestError(f"input {spec.name!r}: {spec.dtype.value} travels in raw_input_contents only")
    others = [f for f, _ in tensor.contents.ListFields() if f.name != field]
    if others:
        raise InvalidRequestError(f"input {spec.name!r}: {spec.dtype.value} belongs in {field}, got {others[0].name}")
    values = getattr(tensor.contents, field)
    if spec.dtype.is_float:
        return _floats(values, spec, shape)
    return array_from_values(list(values), spec, shape)


def _floats(values: Any, spec: TensorSpec, shape: Tuple[int, ...]) -> Array:
    """Floats as they are: unlike JSON, protobuf carries NaN and infinity."""
    array = np.fromiter(values, spec.dtype.numpy, len(values))
    return array_from_bytes(array.view(np.uint8).data, spec, shape)


def message_from_answer(answer: InferAnswer, wanted: Sequence[WantedOutput]) -> Any:
    """The `ModelInferResponse` for an answer; it holds a copy of the outputs."""
    response = message("inference.ModelInferResponse")(
        model_name=answer.model, model_version=answer.version, id=answer.id
    )
    for output in wanted:
        array = answer.outputs[output.name]
        response.outputs.add(name=output.name, datatype=DType.from_numpy(array.dtype).value, shape=array.shape)
        response.raw_output_contents.append(array.tobytes())
    return response

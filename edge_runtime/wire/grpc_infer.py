"""Inference over gRPC: `ModelInfer`'s messages. Answers always carry raw bytes."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

import numpy as np

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType, Signature, TensorSpec, element_count
from edge_runtime.wire.inference import (
    NO_HURRY,
    Array,
    InferAnswer,
    InferRequest,
    WantedOutput,
    array_from_bytes,
    array_from_values,
    check_nbytes,
    check_parameters,
    check_wanted,
    clipped,
    dtype_of,
    schedule_of,
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


class RawInput:
    """An input of a message whose tensors travel as raw bytes: what to make of them."""

    __slots__ = ("dtype", "nbytes", "shape", "spec")

    def __init__(self, spec: TensorSpec, shape: Tuple[int, ...]) -> None:
        self.spec = spec
        self.shape = shape
        self.dtype = np.dtype(np.uint8) if spec.dtype is DType.BOOL else spec.dtype.numpy
        self.nbytes = element_count(shape) * spec.dtype.itemsize

    def array(self, data: Any) -> Array:
        """The tensor: a view of `data`, whose length was checked; truth values are copied."""
        array = np.frombuffer(data, self.dtype).reshape(self.shape)
        return array != 0 if self.spec.dtype is DType.BOOL else array


class MessageHead:
    """What a `ModelInferRequest` says besides the tensors' bytes; it holds for every message that says the same.

    Types and shapes are held against the model before anything is multiplied or allocated.

    Attributes:
        id: the request's own, "" if it has none.
        inputs: by name, in the message's order.
        outputs: what was asked for.
        schedule: how urgent it is.
    """

    __slots__ = ("id", "inputs", "outputs", "schedule")

    def __init__(self, received: Any, signature: Signature) -> None:
        check_parameters(received.parameters, "request")
        self.id: str = received.id
        self.inputs: Dict[str, RawInput] = {}
        for tensor in received.inputs:
            what = f"input {clipped(tensor.name)}"
            shape = shape_of(list(tensor.shape), what)
            spec = signature.check_input(tensor.name, dtype_of(tensor.datatype, what), shape)
            check_parameters(tensor.parameters, what)
            if spec.name in self.inputs:
                raise InvalidRequestError(f"input {spec.name!r} is given twice")
            self.inputs[spec.name] = RawInput(spec, shape)
        signature.check_shapes({name: tensor.shape for name, tensor in self.inputs.items()})
        for output in received.outputs:
            check_parameters(output.parameters, f"output {clipped(output.name)}")
        names = [output.name for output in received.outputs] or [spec.name for spec in signature.outputs]
        self.outputs = check_wanted([WantedOutput(name, is_binary=True) for name in names], signature)
        self.schedule = schedule_of(parameters_of(received)) if received.parameters else NO_HURRY

    def arrays(self, raw: Sequence[Any]) -> Dict[str, Array]:
        """The inputs whose bytes are `raw`, in the message's order.

        Raises:
            InvalidRequestError: another number of them, or of bytes.
        """
        if len(raw) != len(self.inputs):
            raise InvalidRequestError(f"{len(self.inputs)} inputs, but {len(raw)} raw_input_contents")
        found = {}
        for (name, tensor), data in zip(self.inputs.items(), raw):
            if len(data) != tensor.nbytes:
                check_nbytes(len(data), tensor.spec, tensor.shape)
            found[name] = tensor.array(data)
        return found


def request_from_message(received: Any, signature: Signature) -> InferRequest:
    """The request in a `ModelInferRequest`.

    Raises:
        InvalidRequestError: anything in it doesn't fit the protocol or the model.
    """
    raw = received.raw_input_contents
    if raw and len(raw) != len(received.inputs):
        raise InvalidRequestError(f"{len(received.inputs)} inputs, but {len(raw)} raw_input_contents")
    head = MessageHead(received, signature)
    if raw:
        for tensor in received.inputs:
            if tensor.HasField("contents"):
                what = f"input {clipped(tensor.name)}"
                raise InvalidRequestError(f"{what}: both contents and raw_input_contents; send one of them")
        inputs = head.arrays(raw)
    else:
        inputs = {
            tensor.name: _typed(tensor, head.inputs[tensor.name].spec, head.inputs[tensor.name].shape)
            for tensor in received.inputs
        }
    return InferRequest(received.model_name, received.model_version, head.id, inputs, head.outputs, head.schedule)


def parameters_of(received: Any) -> Dict[str, Any]:
    """A message's parameters by name, each as the plain value that was set; None for one without."""
    found = {}
    for name, value in received.parameters.items():
        choice = value.WhichOneof("parameter_choice")
        found[name] = None if choice is None else getattr(value, choice)
    return found


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
    response = response_head(answer, wanted)
    for output in wanted:
        response.raw_output_contents.append(answer.outputs[output.name].tobytes())
    return response


def response_head(answer: InferAnswer, wanted: Sequence[WantedOutput]) -> Any:
    """The `ModelInferResponse` for an answer without the tensors' bytes."""
    response = message("inference.ModelInferResponse")(
        model_name=answer.model, model_version=answer.version, id=answer.id
    )
    for output in wanted:
        array = answer.outputs[output.name]
        response.outputs.add(name=output.name, datatype=DType.from_numpy(array.dtype).value, shape=array.shape)
    return response

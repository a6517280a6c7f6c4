"""Inference over gRPC: `ModelInfer`'s messages. Answers always carry raw bytes."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

import numpy as np

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType, Signature, TensorSpec, element_count
from edge_runtime.wire.elements import on_the_wire, strings_array, strings_from_bytes
from edge_runtime.wire.inference import (
    NO_HURRY,
    RUNG_PARAMETER,
    Array,
    InferAnswer,
    InferRequest,
    RegionPlace,
    Regions,
    WantedOutput,
    array_from_bytes,
    array_from_values,
    check_count,
    check_nbytes,
    check_parameters,
    check_wanted,
    clipped,
    dtype_of,
    schedule_of,
    shape_of,
)
from edge_runtime.wire.messages import message
from edge_runtime.wire.regions import (
    REGION_PARAMETERS,
    hold_outputs,
    input_in_region,
    place_of,
    write_outputs,
)

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
    DType.BYTES: "bytes_contents",
}
_OPEN_NBYTES = -1


class RawInput:
    """An input of a message: what to make of its raw bytes, or where it lies, if that is in a region (`place`)."""

    __slots__ = ("dtype", "nbytes", "place", "shape", "spec")

    def __init__(self, spec: TensorSpec, shape: Tuple[int, ...], place: RegionPlace | None) -> None:
        self.spec = spec
        self.place = place
        self.shape = shape
        self.dtype = np.dtype(np.uint8) if spec.dtype is DType.BOOL else spec.dtype.numpy
        self.nbytes = element_count(shape) * spec.dtype.itemsize

    def array(self, data: Any) -> Array:
        """The tensor: a view of `data`, whose length was checked; truth values are copied."""
        array = np.frombuffer(data, self.dtype).reshape(self.shape)
        return array != 0 if self.spec.dtype is DType.BOOL else array


class RawStrings(RawInput):
    """An input of BYTES, whose size nothing but its elements says."""

    __slots__ = ()

    def __init__(self, spec: TensorSpec, shape: Tuple[int, ...], place: RegionPlace | None) -> None:
        super().__init__(spec, shape, place)
        self.nbytes = _OPEN_NBYTES

    def array(self, data: Any) -> Array:
        """The tensor, with copies of the elements in `data`."""
        return strings_from_bytes(data, self.shape, f"input {self.spec.name!r}")


class MessageHead:
    """What a `ModelInferRequest` says besides the tensors' bytes; it holds for every message that says the same.

    Types and shapes are held against the model before anything is multiplied or allocated.

    Attributes:
        id: the request's own, "" if it has none.
        inputs: by name, in the message's order.
        outputs: what was asked for.
        schedule: how urgent it is.
        has_regions: whether some tensors lie in regions.
        is_all_in_regions: whether all inputs do, so that it is all that a message says.
    """

    __slots__ = ("has_regions", "id", "inputs", "is_all_in_regions", "outputs", "schedule")

    def __init__(self, received: Any, signature: Signature) -> None:
        check_parameters(received.parameters, "request")
        self.id: str = received.id
        self.inputs: Dict[str, RawInput] = {}
        for tensor in received.inputs:
            what = f"input {clipped(tensor.name)}"
            shape = shape_of(list(tensor.shape), what)
            spec = signature.check_input(tensor.name, dtype_of(tensor.datatype, what), shape)
            place = _place(tensor, what)
            if place is not None:
                check_nbytes(place.nbytes, spec, shape)
            if spec.name in self.inputs:
                raise InvalidRequestError(f"input {spec.name!r} is given twice")
            kind = RawStrings if spec.dtype is DType.BYTES else RawInput
            self.inputs[spec.name] = kind(spec, shape, place)
        signature.check_shapes({name: tensor.shape for name, tensor in self.inputs.items()})
        check_count(received.outputs, signature)
        wanted = [
            WantedOutput(output.name, True, _place(output, f"output {clipped(output.name)}"))
            for output in received.outputs
        ] or [WantedOutput(spec.name, is_binary=True) for spec in signature.outputs]
        self.outputs = check_wanted(wanted, signature)
        places = [tensor.place for tensor in self.inputs.values()]
        self.is_all_in_regions = None not in places
        self.has_regions = any(place is not None for place in (*places, *(output.place for output in self.outputs)))
        self.schedule = schedule_of(parameters_of(received)) if received.parameters else NO_HURRY

    def arrays(self, raw: Sequence[Any]) -> Dict[str, Array]:
        """The inputs whose bytes are `raw`, in the message's order.

        Raises:
            InvalidRequestError: another number of them, or of bytes, or what should be elements of BYTES isn't.
        """
        if len(raw) != len(self.inputs):
            raise InvalidRequestError(f"{len(self.inputs)} inputs, but {len(raw)} raw_input_contents")
        found = {}
        for (name, tensor), data in zip(self.inputs.items(), raw):
            if len(data) != tensor.nbytes:
                check_nbytes(len(data), tensor.spec, tensor.shape)
            found[name] = tensor.array(data)
        return found


def request_from_message(received: Any, signature: Signature, regions: Regions | None = None) -> InferRequest:
    """The request in a `ModelInferRequest`. Without `regions`, tensors in them are refused.

    Raises:
        RequestError: anything in it doesn't fit the protocol, the model or the regions.
    """
    head = MessageHead(received, signature)
    inputs = inputs_of(received, head, regions)
    return InferRequest(received.model_name, received.model_version, head.id, inputs, head.outputs, head.schedule)


def inputs_of(received: Any, head: MessageHead, regions: Regions | None) -> Dict[str, Array]:
    """The inputs of a message whose head was read; the regions that outputs go to are held.

    Raises:
        RequestError: there are more or fewer bytes than the head says, or a region doesn't fit.
    """
    own = [tensor for tensor in received.inputs if head.inputs[tensor.name].place is None]
    raw = received.raw_input_contents
    if raw and len(raw) != len(own):
        raise InvalidRequestError(f"{len(own)} inputs that aren't in regions, but {len(raw)} raw_input_contents")
    _check_contents(received, head, has_raw=bool(raw))
    found = inputs_in_regions(head, regions)
    for index, tensor in enumerate(own):
        known = head.inputs[tensor.name]
        if raw:
            check_nbytes(len(raw[index]), known.spec, known.shape)
            found[tensor.name] = known.array(raw[index])
        else:
            found[tensor.name] = _typed(tensor, known.spec, known.shape)
    return found


def inputs_in_regions(head: MessageHead, regions: Regions | None) -> Dict[str, Array]:
    """Those inputs that lie in regions; the regions that outputs go to are held.

    Raises:
        RequestError: there is no such region, or it is smaller, or there are no regions at all.
    """
    hold_outputs(head.outputs, regions)
    return {
        name: input_in_region(known.place, known.spec, known.shape, regions)
        for name, known in head.inputs.items()
        if known.place is not None
    }


def _check_contents(received: Any, head: MessageHead, has_raw: bool) -> None:
    for tensor in received.inputs:
        is_placed = head.inputs[tensor.name].place is not None
        if tensor.HasField("contents") and (is_placed or has_raw):
            other = "shared_memory_region" if is_placed else "raw_input_contents"
            raise InvalidRequestError(f"input {clipped(tensor.name)}: both contents and {other}; send one of them")


def _place(tensor: Any, what: str) -> RegionPlace | None:
    """Where an input or an output lies, if that is in a region."""
    if not tensor.parameters:
        return None
    check_parameters(tensor.parameters, what, REGION_PARAMETERS)
    return place_of(parameters_of(tensor), what)


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
    if spec.dtype is DType.BYTES:
        return _strings(values, spec, shape)
    if spec.dtype.is_float:
        return _floats(values, spec, shape)
    return array_from_values(list(values), spec, shape)


def _floats(values: Any, spec: TensorSpec, shape: Tuple[int, ...]) -> Array:
    """Floats as they are: unlike JSON, protobuf carries NaN and infinity."""
    array = np.fromiter(values, spec.dtype.numpy, len(values))
    return array_from_bytes(array.view(np.uint8).data, spec, shape)


def _strings(values: Any, spec: TensorSpec, shape: Tuple[int, ...]) -> Array:
    if len(values) != element_count(shape):
        raise InvalidRequestError(
            f"input {spec.name!r}: expected {element_count(shape)} values for {list(shape)}, got {len(values)}"
        )
    return strings_array(values, shape)


def message_from_answer(answer: InferAnswer, wanted: Sequence[WantedOutput], regions: Regions | None = None) -> Any:
    """The `ModelInferResponse` for an answer; it holds a copy of the outputs, but for those that go into regions.

    Raises:
        RequestError: an output doesn't fit into its region.
    """
    response = response_head(answer, wanted)
    write_outputs(answer.outputs, wanted, regions)
    for output in wanted:
        raw = b"" if output.place else on_the_wire(answer.outputs[output.name]).tobytes()
        response.raw_output_contents.append(raw)
    return response


def response_head(answer: InferAnswer, wanted: Sequence[WantedOutput]) -> Any:
    """The `ModelInferResponse` for an answer without the tensors' bytes."""
    response = message("inference.ModelInferResponse")(
        model_name=answer.model, model_version=answer.version, id=answer.id
    )
    if answer.rung:
        response.parameters[RUNG_PARAMETER].string_param = answer.rung
    for output in wanted:
        array = answer.outputs[output.name]
        response.outputs.add(name=output.name, datatype=DType.from_numpy(array.dtype).value, shape=array.shape)
    return response

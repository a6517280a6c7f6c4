"""Inference over HTTP: a JSON head, then the binary tensors in the order in which the head names them."""

from __future__ import annotations

import itertools
import json
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from edge_runtime.errors import InvalidRequestError, NotJsonError
from edge_runtime.tensors import DYNAMIC, DType, Signature, TensorSpec, element_count
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
from edge_runtime.wire.json_text import parsed_object

HEAD_LENGTH = "Inference-Header-Content-Length"


def request_from_body(
    body: memoryview, head_nbytes: int | None, model: str, version: str, signature: Signature
) -> InferRequest:
    """The request in a body; `head_nbytes` is what the header says (None: all JSON, 0: one raw tensor).

    Types and shapes are held against the model before anything is multiplied or allocated.

    Raises:
        InvalidRequestError: anything in it doesn't fit the protocol or the model.
    """
    if head_nbytes == 0:
        return _raw_request(body, model, version, signature)
    if head_nbytes is not None and not 0 < head_nbytes <= len(body):
        raise InvalidRequestError(f"{HEAD_LENGTH} is {head_nbytes}, but the body has {len(body)} bytes")
    length = len(body) if head_nbytes is None else head_nbytes
    head = parsed_object(body[:length])
    parameters = _parameters(head, "request")
    inputs = _inputs(_objects(head, "inputs"), body[length:], signature)
    signature.check_shapes({name: array.shape for name, array in inputs.items()})
    default = _flag(parameters, "binary_data_output", "request")
    outputs = [_wanted(item, default) for item in _objects(head, "outputs", is_optional=True)]
    if not outputs:
        outputs = [WantedOutput(spec.name, default) for spec in signature.outputs]
    identity = head.get("id", "")
    if not isinstance(identity, str):
        raise InvalidRequestError(f"id: expected a string, got {clipped(identity)}")
    return InferRequest(model, version, identity, inputs, check_wanted(outputs, signature))


def _raw_request(body: memoryview, model: str, version: str, signature: Signature) -> InferRequest:
    """The whole body is the model's only input, whose one dynamic axis follows from the number of bytes."""
    if len(signature.inputs) != 1 or signature.inputs[0].shape.count(DYNAMIC) > 1:
        raise InvalidRequestError("a raw request needs a model with one input of at most one dynamic axis")
    spec = signature.inputs[0]
    row = element_count([size for size in spec.shape if size != DYNAMIC]) * spec.dtype.itemsize
    shape = tuple(len(body) // row if size == DYNAMIC else size for size in spec.shape)
    signature.check_input(spec.name, spec.dtype, shape)
    outputs = tuple(WantedOutput(output.name, is_binary=True) for output in signature.outputs)
    return InferRequest(model, version, "", {spec.name: array_from_bytes(body, spec, shape)}, outputs)


def _inputs(items: List[Dict[str, Any]], binary: memoryview, signature: Signature) -> Dict[str, Array]:
    inputs: Dict[str, Array] = {}
    offset = 0
    for item in items:
        name = _name(item, "input")
        what = f"input {clipped(name)}"
        shape = shape_of(item.get("shape"), what)
        spec = signature.check_input(name, dtype_of(item.get("datatype"), what), shape)
        parameters = _parameters(item, what)
        nbytes = parameters.get("binary_data_size")
        if nbytes is None:
            add_input(inputs, spec, _array_from_json(item, spec, shape))
            continue
        if type(nbytes) is not int or not 0 <= nbytes <= len(binary) - offset:
            left = len(binary) - offset
            raise InvalidRequestError(f"{what}: binary_data_size {clipped(nbytes)}, but {left} bytes are left")
        if "data" in item:
            raise InvalidRequestError(f"{what}: both data and binary_data_size; send one of them")
        add_input(inputs, spec, array_from_bytes(binary[offset : offset + nbytes], spec, shape))
        offset += nbytes
    if offset != len(binary):
        raise InvalidRequestError(f"{len(binary) - offset} bytes are left behind the last binary tensor")
    return inputs


def _array_from_json(item: Dict[str, Any], spec: TensorSpec, shape: Tuple[int, ...]) -> Array:
    if spec.dtype is DType.FP16:
        raise InvalidRequestError(f"input {spec.name!r}: FP16 travels as binary data only")
    if "data" not in item:
        raise InvalidRequestError(f"input {spec.name!r}: neither data nor binary_data_size")
    return array_from_values(_flattened(item["data"], shape, spec.name), spec, shape)


def _flattened(data: object, shape: Tuple[int, ...], name: str) -> List[Any]:
    """The values of a flat list, or of lists nested as the shape says."""
    if not isinstance(data, list):
        raise InvalidRequestError(f"input {name!r}: expected data to be an array, got {clipped(data)}")
    if list not in set(map(type, data)):
        return data
    level: List[Any] = [data]
    for size in shape:
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            raise InvalidRequestError(f"input {name!r}: data is neither flat nor nested as shape {list(shape)} says")
        level = list(itertools.chain.from_iterable(level))
    return level


def _wanted(item: Dict[str, Any], default: bool) -> WantedOutput:
    name = _name(item, "output")
    parameters = _parameters(item, f"output {clipped(name)}")
    return WantedOutput(name, _flag(parameters, "binary_data", f"output {clipped(name)}", default))


def _objects(head: Dict[str, Any], key: str, is_optional: bool = False) -> List[Dict[str, Any]]:
    value = head.get(key)
    if value is None and is_optional:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequestError(f"{key}: expected an array of objects, got {clipped(value)}")
    return value


def _name(item: Dict[str, Any], what: str) -> str:
    name = item.get("name")
    if not isinstance(name, str):
        raise InvalidRequestError(f"{what}: expected a name, got {clipped(name)}")
    return name


def _parameters(item: Dict[str, Any], what: str) -> Dict[str, Any]:
    parameters = item.get("parameters") or {}
    if not isinstance(parameters, dict) or any(isinstance(v, (list, dict)) for v in parameters.values()):
        raise InvalidRequestError(f"{what}: expected parameters to be an object of plain values")
    check_parameters(parameters, what)
    return parameters


def _flag(parameters: Dict[str, Any], key: str, what: str, default: bool = False) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{what}: expected {key} to be true or false, got {clipped(value)}")
    return value


def body_from_answer(answer: InferAnswer, wanted: Sequence[WantedOutput]) -> Tuple[int | None, bytes]:
    """The length of the head (None: all JSON) and the body of an answer, which holds a copy of the outputs.

    Raises:
        NotJsonError: an output that was asked for as JSON is FP16, or holds NaN or infinity.
    """
    described: List[Dict[str, Any]] = []
    binary: List[Any] = []
    for output in wanted:
        array = answer.outputs[output.name]
        item: Dict[str, Any] = _described(output.name, array)
        if output.is_binary:
            binary.append(np.ascontiguousarray(array))
            item["parameters"] = {"binary_data_size": array.nbytes}
        else:
            item["data"] = _json_values(output.name, array)
        described.append(item)
    head: Dict[str, Any] = {"model_name": answer.model, "model_version": answer.version, "outputs": described}
    if answer.id:
        head["id"] = answer.id
    text = json.dumps(head, separators=(",", ":")).encode()
    return (len(text), b"".join([text, *binary])) if binary else (None, text)


def _json_values(name: str, array: Array) -> List[Any]:
    if array.dtype == np.float16 or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise NotJsonError(f"output {name!r}: FP16, NaN and infinity aren't JSON; ask for binary_data")
    values: List[Any] = array.ravel().tolist()
    return values


def _described(name: str, array: Array) -> Dict[str, Any]:
    return {"name": name, "datatype": DType.from_numpy(array.dtype).value, "shape": list(array.shape)}

"""Inference over HTTP: a JSON head, then the binary tensors in the order in which the head names them."""

from __future__ import annotations

import itertools
import json
from typing import Any, Collection, Dict, List, Sequence, Tuple

import numpy as np

from edge_runtime.errors import InvalidRequestError, NotJsonError
from edge_runtime.tensors import DYNAMIC, DType, Signature, TensorSpec, element_count
from edge_runtime.wire.elements import on_the_wire, strings_array, strings_from_bytes, texts_from_strings
from edge_runtime.wire.inference import (
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
from edge_runtime.wire.json_text import parsed_object
from edge_runtime.wire.regions import (
    REGION_PARAMETERS,
    hold_outputs,
    input_in_region,
    place_of,
    write_outputs,
)

HEAD_LENGTH = "Inference-Header-Content-Length"
_FURTHER_VALUES = 1 << 16  # that a head may hold besides its tensors' own
_BINARY_ONLY = (DType.FP16, DType.BF16)


class PlacedInput:
    """An input of a head: its tensor, and where its bytes begin after the head.

    Or its values, if they came as JSON (`array`), or the region that it lies in (`place`).
    """

    __slots__ = ("array", "count", "dtype", "nbytes", "offset", "place", "shape", "spec")

    def __init__(
        self,
        spec: TensorSpec,
        shape: Tuple[int, ...],
        offset: int,
        array: Array | None = None,
        place: RegionPlace | None = None,
    ) -> None:
        self.spec = spec
        self.shape = shape
        self.offset = offset
        self.array = array
        self.place = place
        self.count = element_count(shape)
        self.dtype = np.dtype(np.uint8) if spec.dtype is DType.BOOL else spec.dtype.numpy
        self.nbytes = self.count * spec.dtype.itemsize if array is None and place is None else 0

    def array_in(self, body: Any, start: int) -> Array:
        """The tensor: a view of `body`, whose binary part begins at `start`; truth values are copied."""
        if self.array is not None:
            return self.array
        array = np.frombuffer(body, self.dtype, self.count, start + self.offset).reshape(self.shape)
        return array != 0 if self.spec.dtype is DType.BOOL else array


class PlacedStrings(PlacedInput):
    """An input of BYTES, whose size only its head says."""

    __slots__ = ()

    def __init__(self, spec: TensorSpec, shape: Tuple[int, ...], offset: int, nbytes: int) -> None:
        super().__init__(spec, shape, offset)
        self.nbytes = nbytes

    def array_in(self, body: Any, start: int) -> Array:
        """The tensor, with copies of the elements in `body`."""
        begin = start + self.offset
        return strings_from_bytes(
            memoryview(body)[begin : begin + self.nbytes], self.shape, f"input {self.spec.name!r}"
        )


class InferHead:
    """What the JSON head of a request says; it holds for every request that has the same head.

    Attributes:
        id: the request's own, "" if it has none.
        outputs: what was asked for.
        schedule: how urgent it is.
        nbytes: how many bytes of tensors follow the head.
        is_binary: whether no tensor, in or out, is JSON, so that it is worth keeping for the next request.
        has_regions: whether some lie in regions.
    """

    __slots__ = ("_inputs", "has_regions", "id", "is_binary", "nbytes", "outputs", "schedule")

    def __init__(self, text: bytes | memoryview, signature: Signature) -> None:
        _check_values(text, signature)
        head = parsed_object(text)
        parameters = _parameters(head, "request")
        self.schedule = schedule_of(parameters)
        self._inputs = _inputs(_objects(head, "inputs"), signature)
        signature.check_shapes({name: placed.shape for name, placed in self._inputs.items()})
        default = _flag(parameters, "binary_data_output", "request")
        asked = _objects(head, "outputs", is_optional=True)
        check_count(asked, signature)
        outputs = [_wanted(item, default) for item in asked]
        if not outputs:
            outputs = [WantedOutput(spec.name, default) for spec in signature.outputs]
        self.outputs = check_wanted(outputs, signature)
        given = head.get("id")
        if given is not None and not isinstance(given, str):
            raise InvalidRequestError(f"id: expected a string, got {clipped(given)}")
        self.id = given or ""
        self.nbytes = sum(placed.nbytes for placed in self._inputs.values())
        places = [placed.place for placed in self._inputs.values()] + [output.place for output in self.outputs]
        self.has_regions = any(place is not None for place in places)
        is_read = all(placed.array is None for placed in self._inputs.values())
        self.is_binary = is_read and all(output.is_binary or output.place is not None for output in self.outputs)

    def arrays(self, body: Any, start: int) -> Dict[str, Array]:
        """The inputs in a body whose binary part begins at `start` and is of the right length.

        Raises:
            InvalidRequestError: what should be elements of BYTES isn't.
        """
        return {name: placed.array_in(body, start) for name, placed in self._inputs.items()}

    def arrays_with(self, regions: Regions | None, body: Any, start: int) -> Dict[str, Array]:
        """The inputs, some of which may lie in regions; the regions that outputs go to are held.

        Raises:
            RequestError: there is no such region, or it is smaller, or there are no regions at all.
        """
        hold_outputs(self.outputs, regions)
        return {
            name: placed.array_in(body, start)
            if placed.place is None
            else input_in_region(placed.place, placed.spec, placed.shape, regions)
            for name, placed in self._inputs.items()
        }

    def check_length(self, nbytes: int) -> None:
        """Raises InvalidRequestError unless as many bytes follow the head as it says."""
        if nbytes == self.nbytes:
            return
        if nbytes > self.nbytes:
            raise InvalidRequestError(f"{nbytes - self.nbytes} bytes are left behind the last binary tensor")
        for placed in self._inputs.values():
            if placed.offset + placed.nbytes > nbytes:
                raise InvalidRequestError(
                    f"input {clipped(placed.spec.name)}: binary_data_size {placed.nbytes}, "
                    f"but {max(0, nbytes - placed.offset)} bytes are left"
                )


def request_from_body(
    body: memoryview,
    head_nbytes: int | None,
    model: str,
    version: str,
    signature: Signature,
    regions: Regions | None = None,
) -> InferRequest:
    """The request in a body; `head_nbytes` is what the header says (None: all JSON, 0: one raw tensor).

    Types and shapes are held against the model before anything is multiplied or allocated. Without `regions`, tensors
    in them are refused.

    Raises:
        RequestError: anything in it doesn't fit the protocol, the model or the regions.
    """
    if head_nbytes == 0:
        return raw_request(body, model, version, signature)
    length = head_length(head_nbytes, len(body))
    head = InferHead(body[:length], signature)
    head.check_length(len(body) - length)
    return InferRequest(model, version, head.id, head.arrays_with(regions, body, length), head.outputs, head.schedule)


def head_length(head_nbytes: int | None, body_nbytes: int) -> int:
    """The length of the JSON head in a body, by what the header says (None: all of it).

    Raises:
        InvalidRequestError: the body is shorter than that.
    """
    if head_nbytes is not None and not 0 < head_nbytes <= body_nbytes:
        raise InvalidRequestError(f"{HEAD_LENGTH} is {head_nbytes}, but the body has {body_nbytes} bytes")
    return body_nbytes if head_nbytes is None else head_nbytes


def raw_request(body: memoryview, model: str, version: str, signature: Signature) -> InferRequest:
    """The whole body is the model's only input, whose one dynamic axis follows from the number of bytes.

    Of BYTES it is the only element, without its length.

    Raises:
        InvalidRequestError: the model has other inputs, or another number of bytes.
    """
    if len(signature.inputs) != 1 or signature.inputs[0].shape.count(DYNAMIC) > 1:
        raise InvalidRequestError("a raw request needs a model with one input of at most one dynamic axis")
    spec = signature.inputs[0]
    outputs = tuple(WantedOutput(output.name, is_binary=True) for output in signature.outputs)
    if spec.dtype is DType.BYTES:
        shape = tuple(1 if size == DYNAMIC else size for size in spec.shape)
        signature.check_input(spec.name, spec.dtype, shape)
        if element_count(shape) != 1:
            raise InvalidRequestError(
                f"a raw request is one element of BYTES, but input {spec.name!r} takes {list(shape)}"
            )
        return InferRequest(model, version, "", {spec.name: strings_array([bytes(body)], shape)}, outputs)
    row = element_count([size for size in spec.shape if size != DYNAMIC]) * spec.dtype.itemsize
    shape = tuple(len(body) // row if size == DYNAMIC else size for size in spec.shape)
    signature.check_input(spec.name, spec.dtype, shape)
    return InferRequest(model, version, "", {spec.name: array_from_bytes(body, spec, shape)}, outputs)


def _inputs(items: List[Dict[str, Any]], signature: Signature) -> Dict[str, PlacedInput]:
    inputs: Dict[str, PlacedInput] = {}
    offset = 0
    for item in items:
        name = _name(item, "input")
        what = f"input {clipped(name)}"
        shape = shape_of(item.get("shape"), what)
        spec = signature.check_input(name, dtype_of(item.get("datatype"), what), shape)
        if name in inputs:
            raise InvalidRequestError(f"input {spec.name!r} is given twice")
        inputs[name] = placed = _placed(item, spec, shape, offset)
        offset += placed.nbytes
    return inputs


def _placed(item: Dict[str, Any], spec: TensorSpec, shape: Tuple[int, ...], offset: int) -> PlacedInput:
    """Where an input lies: in the text, `offset` bytes behind it, or in a region."""
    what = f"input {spec.name!r}"
    parameters = _parameters(item, what, REGION_PARAMETERS)
    nbytes = parameters.get("binary_data_size")
    place = place_of(parameters, what)
    given = [name for name, is_given in _sources(item, nbytes, place) if is_given]
    if len(given) > 1:
        raise InvalidRequestError(f"{what}: both {given[0]} and {given[1]}; send one of them")
    if place is not None:
        check_nbytes(place.nbytes, spec, shape)
        return PlacedInput(spec, shape, offset, place=place)
    if nbytes is None:
        return PlacedInput(spec, shape, offset, _array_from_json(item, spec, shape))
    if type(nbytes) is not int or nbytes < 0:
        raise InvalidRequestError(f"{what}: expected binary_data_size to be a number of bytes, got {clipped(nbytes)}")
    check_nbytes(nbytes, spec, shape)
    if spec.dtype is DType.BYTES:
        return PlacedStrings(spec, shape, offset, nbytes)
    return PlacedInput(spec, shape, offset)


def _sources(item: Dict[str, Any], nbytes: Any, place: RegionPlace | None) -> Tuple[Tuple[str, bool], ...]:
    return (
        ("data", "data" in item),
        ("binary_data_size", nbytes is not None),
        ("shared_memory_region", place is not None),
    )


def _array_from_json(item: Dict[str, Any], spec: TensorSpec, shape: Tuple[int, ...]) -> Array:
    if spec.dtype in _BINARY_ONLY:
        raise InvalidRequestError(f"input {spec.name!r}: {spec.dtype.value} travels as binary data only")
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
    what = f"output {clipped(name)}"
    parameters = _parameters(item, what, REGION_PARAMETERS)
    place = place_of(parameters, what)
    if place is not None and _flag(parameters, "binary_data", what):
        raise InvalidRequestError(f"{what}: both binary_data and shared_memory_region; ask for one of them")
    return WantedOutput(name, _flag(parameters, "binary_data", what, default), place)


def _check_values(text: bytes | memoryview, signature: Signature) -> None:
    """Refuses more values than all inputs have together, by their commas, before objects are made of them."""
    if len(text) <= _FURTHER_VALUES or any(spec.dtype is DType.BYTES for spec in signature.inputs):
        return
    most = sum(element_count(signature.profile[spec.name].maximum) for spec in signature.inputs)
    values = bytes(text).count(b",")
    if values > most + _FURTHER_VALUES:
        raise InvalidRequestError(f"JSON with about {values} values; the model's inputs have at most {most}")


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


def _parameters(item: Dict[str, Any], what: str, granted: Collection[object] = ()) -> Dict[str, Any]:
    parameters = item.get("parameters") or {}
    if not isinstance(parameters, dict) or any(isinstance(v, (list, dict)) for v in parameters.values()):
        raise InvalidRequestError(f"{what}: expected parameters to be an object of plain values")
    check_parameters(parameters, what, granted)
    return parameters


def _flag(parameters: Dict[str, Any], key: str, what: str, default: bool = False) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{what}: expected {key} to be true or false, got {clipped(value)}")
    return value


def body_from_answer(
    answer: InferAnswer, wanted: Sequence[WantedOutput], regions: Regions | None = None
) -> Tuple[int | None, bytes]:
    """The length of the head (None: all JSON) and the body of an answer, which holds a copy of the outputs.

    Those that go into regions are written there, and aren't in the body.

    Raises:
        NotJsonError: an output that was asked for as JSON is FP16 or BF16, or holds NaN, infinity, or what isn't UTF-8.
        RequestError: an output doesn't fit into its region.
    """
    described: List[Dict[str, Any]] = []
    binary: List[Any] = []
    for output in wanted:
        array = answer.outputs[output.name]
        item: Dict[str, Any] = {"name": output.name, "datatype": DType.from_numpy(array.dtype).value}
        item["shape"] = list(array.shape)
        if output.place is None and output.is_binary:
            binary.append(np.ascontiguousarray(on_the_wire(array)))
            item["parameters"] = {"binary_data_size": binary[-1].nbytes}
        elif output.place is None:
            item["data"] = _json_values(output.name, array)
        described.append(item)
    head: Dict[str, Any] = {"model_name": answer.model, "model_version": answer.version, "outputs": described}
    if answer.id:
        head["id"] = answer.id
    if answer.rung:
        head["parameters"] = {RUNG_PARAMETER: answer.rung}
    text = json.dumps(head, separators=(",", ":")).encode()
    write_outputs(answer.outputs, wanted, regions)
    return (len(text), b"".join([text, *binary])) if binary else (None, text)


def _json_values(name: str, array: Array) -> List[Any]:
    dtype = DType.from_numpy(array.dtype)
    if dtype in _BINARY_ONLY or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise NotJsonError(f"output {name!r}: FP16, BF16, NaN and infinity aren't JSON; ask for binary_data")
    if dtype is DType.BYTES:
        try:
            return texts_from_strings(array)
        except UnicodeDecodeError:
            raise NotJsonError(f"output {name!r}: a string that isn't UTF-8 isn't JSON; ask for binary_data") from None
    values: List[Any] = array.ravel().tolist()
    return values

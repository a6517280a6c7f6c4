from __future__ import annotations

import json
from typing import Any, Sequence

import numpy as np
import pytest

from edge_runtime.errors import InvalidRequestError, NotJsonError, UnknownNameError
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec
from edge_runtime.wire.grpc_infer import message_from_answer, request_from_message
from edge_runtime.wire.http_infer import InferHead, body_from_answer, request_from_body
from edge_runtime.wire.inference import InferAnswer, RegionPlace, WantedOutput
from edge_runtime.wire.messages import message
from edge_runtime.wire.regions import place_of

ROW = np.array([[1, 2, 3, 4.5]], np.float32)
PLACE = {"shared_memory_region": "r", "shared_memory_byte_size": 16}


class Memory:
    """A made-up region `r` of 64 bytes."""

    def __init__(self) -> None:
        self.data = bytearray(64)
        self.held: list[RegionPlace] = []

    def read(self, place: RegionPlace) -> bytes:
        self.hold(place)
        return bytes(self.data[place.offset : place.offset + place.nbytes])

    def hold(self, place: RegionPlace) -> None:
        if place.region != "r":
            raise UnknownNameError("unknown region")
        self.held.append(place)

    def write(self, pieces: Sequence[tuple]) -> None:
        for place, array in pieces:
            self.data[place.offset : place.offset + array.nbytes] = array.tobytes()


def signature(dtype: DType = DType.FP32) -> Signature:
    limits = ShapeRange((1, 4), (1, 4), (8, 4))
    outputs = tuple(TensorSpec(name, dtype, (-1, 4)) for name in ("y", "z"))
    return Signature((TensorSpec("x", dtype, (-1, 4)),), outputs, {"x": limits})


def over_http(given: dict, wanted: dict, memory: Any, dtype: DType = DType.FP32) -> Any:
    item = {"name": "x", "datatype": dtype.value, "shape": [1, 4], "parameters": given}
    text = json.dumps({"inputs": [item], "outputs": [{"name": "y", "parameters": wanted}]}).encode()
    return request_from_body(memoryview(text), len(text), "m", "1", signature(dtype), memory)


def over_grpc(given: dict, wanted: dict, memory: Any, dtype: DType = DType.FP32) -> Any:
    built = message("inference.ModelInferRequest")(model_name="m")
    pairs = (
        (built.inputs.add(name="x", datatype=dtype.value, shape=[1, 4]), given),
        (built.outputs.add(name="y"), wanted),
    )
    for tensor, parameters in pairs:
        for name, value in parameters.items():
            setattr(tensor.parameters[name], "string_param" if isinstance(value, str) else "int64_param", value)
    return request_from_message(built, signature(dtype), memory)


BOTH = pytest.mark.parametrize("decoded", [over_http, over_grpc], ids=["http", "grpc"])


@BOTH
def test_an_input_is_what_lies_in_its_region(decoded) -> None:
    memory = Memory()
    memory.data[8:24] = ROW.tobytes()
    request = decoded({**PLACE, "shared_memory_offset": 8}, {**PLACE, "shared_memory_offset": 40}, memory)
    assert request.inputs["x"].tolist() == ROW.tolist()
    assert request.outputs[0].place == RegionPlace("r", 40, 16)
    assert set(memory.held) == {RegionPlace("r", 8, 16), RegionPlace("r", 40, 16)}


@BOTH
def test_truth_values_are_made_0_and_1(decoded) -> None:
    memory = Memory()
    memory.data[:4] = bytes([0, 2, 255, 1])
    place = {**PLACE, "shared_memory_byte_size": 4}
    array = decoded(place, place, memory, DType.BOOL).inputs["x"]
    assert (array.dtype, array.view(np.uint8).tolist()) == (np.bool_, [[0, 1, 1, 1]])


@BOTH
def test_without_regions_their_parameters_are_refused_by_name(decoded) -> None:
    with pytest.raises(InvalidRequestError, match="shared_memory_region"):
        decoded(PLACE, PLACE, None)


@BOTH
def test_a_size_that_is_not_the_tensors_is_refused_before_anything_is_read(decoded) -> None:
    memory = Memory()
    with pytest.raises(InvalidRequestError, match="expected 16 bytes"):
        decoded({**PLACE, "shared_memory_byte_size": 15}, PLACE, memory)
    assert memory.held == []


@BOTH
def test_another_parameter_of_that_prefix_is_refused_by_name(decoded) -> None:
    with pytest.raises(InvalidRequestError, match="shared_memory_x"):
        decoded({**PLACE, "shared_memory_x": 1}, PLACE, Memory())


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, None),
        ({"binary_data_size": 3}, None),
        (PLACE, RegionPlace("r", 0, 16)),
        ({**PLACE, "shared_memory_offset": 2**64}, RegionPlace("r", 2**64, 16)),
    ],
)
def test_a_place_is_found_by_its_parameters(parameters: dict, expected: Any) -> None:
    assert place_of(parameters, "input 'x'") == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {"shared_memory_region": "r"},
        {"shared_memory_byte_size": 16},
        {"shared_memory_offset": 0},
        {**PLACE, "shared_memory_region": None},
        {**PLACE, "shared_memory_byte_size": 16.0},
        {**PLACE, "shared_memory_byte_size": True},
        {**PLACE, "shared_memory_offset": -1},
        {**PLACE, "shared_memory_offset": "0"},
    ],
)
def test_a_place_that_is_half_said_is_refused(parameters: dict) -> None:
    with pytest.raises(InvalidRequestError, match="input 'x': expected shared_memory_"):
        place_of(parameters, "input 'x'")


Y, Z = WantedOutput("y", False, RegionPlace("r", 0, 20)), WantedOutput("z", True)
ANSWER = InferAnswer("m", "1", "7", {"y": ROW, "z": ROW * 2})


def test_an_http_answer_says_of_an_output_in_a_region_what_it_is_and_no_more() -> None:
    memory = Memory()
    head_nbytes, body = body_from_answer(ANSWER, [Y, Z], memory)
    outputs = json.loads(body[:head_nbytes])["outputs"]
    assert outputs[0] == {"name": "y", "datatype": "FP32", "shape": [1, 4]}
    assert outputs[1]["parameters"] == {"binary_data_size": 16}
    assert (body[head_nbytes:], bytes(memory.data[:24])) == ((ROW * 2).tobytes(), ROW.tobytes() + bytes(8))


def test_a_grpc_answer_keeps_as_many_contents_as_outputs() -> None:
    memory = Memory()
    built = message_from_answer(ANSWER, [Y, Z], memory)
    assert (built.outputs[0].name, dict(built.outputs[0].parameters)) == ("y", {})
    assert list(built.raw_output_contents) == [b"", (ROW * 2).tobytes()]
    assert bytes(memory.data[:16]) == ROW.tobytes()


@pytest.mark.parametrize("encode", [body_from_answer, message_from_answer])
def test_an_output_that_is_too_large_is_refused_and_nothing_is_written(encode) -> None:
    memory = Memory()
    wanted = [Y, WantedOutput("z", True, RegionPlace("r", 32, 15))]
    with pytest.raises(InvalidRequestError, match="output 'z': its 16 bytes don't fit"):
        encode(ANSWER, wanted, memory)
    assert not any(memory.data)


def test_nothing_is_written_for_an_answer_that_is_not_json() -> None:
    memory = Memory()
    answer = InferAnswer("m", "1", "", {"y": ROW, "z": ROW * np.nan})
    with pytest.raises(NotJsonError):
        body_from_answer(answer, [Y, WantedOutput("z", is_binary=False)], memory)
    assert not any(memory.data)


def test_a_head_with_regions_is_known_by_that() -> None:
    item = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": PLACE}
    for outputs, is_binary in (([{"name": "y", "parameters": PLACE}], True), ([{"name": "y"}], False)):
        head = InferHead(json.dumps({"inputs": [item], "outputs": outputs}).encode(), signature())
        assert (head.has_regions, head.is_binary, head.nbytes) == (True, is_binary, 0)

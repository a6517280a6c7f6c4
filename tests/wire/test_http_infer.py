from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fakes.dtypes import PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_runtime.errors import InvalidRequestError, NotJsonError
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec
from edge_runtime.wire.http_infer import body_from_answer, request_from_body
from edge_runtime.wire.inference import InferAnswer, WantedOutput


def signature(dtype: DType = DType.FP32, minimum: tuple = (1, 4), maximum: tuple = (8, 4)) -> Signature:
    limits = ShapeRange(minimum, minimum, maximum)
    spec = TensorSpec("x", dtype, limits.spec_shape)
    return Signature((spec,), (TensorSpec("y", dtype, limits.spec_shape),), {"x": limits})


def decoded(head: Any, tail: bytes = b"", model: Signature | None = None) -> Any:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return request_from_body(memoryview(text + tail), len(text), "m", "1", model or signature())


def x(**changes: Any) -> dict[str, Any]:
    item = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4.5], **changes}
    return {"inputs": [{key: value for key, value in item.items() if value is not ...}]}


def binary(nbytes: Any, **changes: Any) -> dict[str, Any]:
    return x(data=..., parameters={"binary_data_size": nbytes}, **changes)


GOOD_BYTES = np.arange(4, dtype=np.float32).tobytes()


@pytest.mark.parametrize("data", [[1, 2, 3, 4.5], [[1, 2, 3, 4.5]]], ids=["flat", "nested"])
def test_json_data_is_read_flat_or_nested(data: list) -> None:
    np.testing.assert_array_equal(decoded(x(data=data)).inputs["x"], np.array([[1, 2, 3, 4.5]], np.float32))


def test_binary_data_is_a_view_of_the_body() -> None:
    text = json.dumps(binary(16)).encode()
    body = bytearray(text + GOOD_BYTES)
    request = request_from_body(memoryview(body), len(text), "m", "1", signature())
    assert np.shares_memory(request.inputs["x"], np.frombuffer(body, np.uint8))
    np.testing.assert_array_equal(request.inputs["x"], [[0, 1, 2, 3]])


def test_a_raw_body_has_the_shape_that_its_bytes_give() -> None:
    body = np.arange(12, dtype=np.float32).tobytes()
    request = request_from_body(memoryview(body), 0, "m", "", signature())
    np.testing.assert_array_equal(request.inputs["x"], np.arange(12, dtype=np.float32).reshape(3, 4))
    assert request.outputs == (WantedOutput("y", is_binary=True),)


@pytest.mark.parametrize("nbytes", [0, 1, 15, 17, 16 * 9], ids=str)
def test_a_raw_body_of_no_possible_shape_is_refused(nbytes: int) -> None:
    with pytest.raises(InvalidRequestError):
        request_from_body(memoryview(bytes(nbytes)), 0, "m", "", signature())


BAD_SHAPES = [
    *([4], [1, 4, 1], [], [0, 4], [-1, 4], [9, 4], [1, 5], [1.0, 4], ["1", 4], [True, 4], [None, 4], [[1], 4]),
    *([2**31 - 1, 4], [2**63, 4], [2**64, 4], [2**63 // 4 + 1, 4], [10**400, 4], [1] * 100_000),
    *("1,4", {"0": 1}, None, 4, ...),
]


@pytest.mark.parametrize("shape", BAD_SHAPES, ids=lambda shape: repr(shape)[:24])
@pytest.mark.parametrize("make", [x, lambda shape: binary(16, shape=shape)], ids=["json", "binary"])
def test_a_shape_that_the_model_lacks_is_refused_in_a_short_text(make: Any, shape: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decoded(make(shape=shape), GOOD_BYTES if make is not x else b"")
    assert len(str(caught.value)) < 500


BAD_HEADS = {
    "no inputs": {},
    "inputs is an object": {"inputs": {}},
    "inputs of numbers": {"inputs": [1]},
    "input is missing": {"inputs": []},
    "unknown input": x(name="nope"),
    "name is a number": x(name=1),
    "name is missing": x(name=...),
    "given twice": {"inputs": x()["inputs"] * 2},
    "unknown datatype": x(datatype="FP12"),
    "datatype is a list": x(datatype=["FP32"]),
    "bytes": x(datatype="BYTES"),
    "other datatype": x(datatype="INT32"),
    "no data": x(data=...),
    "null data": x(data=None),
    "data is an object": x(data={}),
    "too few": x(data=[1, 2, 3]),
    "too many": x(data=[1, 2, 3, 4, 5]),
    "null element": x(data=[1, 2, None, 4]),
    "text element": x(data=[1, 2, "3", 4]),
    "object element": x(data=[1, 2, {}, 4]),
    "boolean element": x(data=[1, 2, True, 4]),
    "ragged": x(data=[[1, 2], [3, 4]]),
    "nested too deep": x(data=[[[1, 2, 3, 4]]]),
    "mixed levels": x(data=[1, 2, 3, [4]]),
    "too large for FP32": x(data=[1, 2, 3, 1e39]),
    "integer too large for any float": x(data=[1, 2, 3, 10**400]),
    "data and binary": x(parameters={"binary_data_size": 16}),
    "parameters is a list": x(parameters=[1]),
    "parameter is an object": x(parameters={"p": {}}),
    "id is a number": {**x(), "id": 1},
    "outputs is an object": {**x(), "outputs": {}},
    "unknown output": {**x(), "outputs": [{"name": "nope"}]},
    "output asked for twice": {**x(), "outputs": [{"name": "y"}, {"name": "y"}]},
    "many outputs": {**x(), "outputs": [{}] * 1000},
    "many parameters": {**x(), "parameters": {f"p{at}": 1 for at in range(1025)}},
    "many parameters of an input": x(parameters={f"p{at}": 1 for at in range(1025)}),
    "binary_data is a number": {**x(), "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
    "binary_data_output is text": {**x(), "parameters": {"binary_data_output": "yes"}},
}


@pytest.mark.parametrize("head", BAD_HEADS.values(), ids=BAD_HEADS)
def test_a_head_that_does_not_fit_is_refused(head: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        decoded(head)


def test_more_values_than_all_inputs_have_are_refused_by_their_number() -> None:
    with pytest.raises(InvalidRequestError, match=r"about 2000\d\d values"):
        decoded(x(data=[1] * 200_000))


def test_an_id_of_null_is_none() -> None:
    assert decoded({**x(), "id": None}).id == ""


def test_a_number_beyond_all_floats_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        decoded(json.dumps(x(data=[1, 2, 3, 4])).replace("4]}", "1e400]}").encode())


@pytest.mark.parametrize("nbytes", [0, 15, 17, 2**63, -1, 16.0, "16", True, [16]], ids=repr)
def test_a_binary_size_that_is_not_the_tensors_is_refused(nbytes: Any) -> None:
    with pytest.raises(InvalidRequestError):
        decoded(binary(nbytes), GOOD_BYTES)


@pytest.mark.parametrize("tail", [b"", GOOD_BYTES[:-1], GOOD_BYTES + b"x"], ids=["none", "short", "long"])
def test_bytes_that_are_missing_or_left_over_are_refused(tail: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        decoded(binary(16), tail)


@pytest.mark.parametrize("head_nbytes", [-1, 1, 10_000, 99999999999])
def test_a_head_length_outside_the_body_is_refused(head_nbytes: int) -> None:
    with pytest.raises(InvalidRequestError):
        request_from_body(memoryview(json.dumps(x()).encode()), head_nbytes, "m", "1", signature())


@pytest.mark.parametrize("name", ["sequence_id", "sequence_start", "classification", "triton_x"])
def test_parameters_of_absent_extensions_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        decoded({**x(), "parameters": {name: 1}})


@pytest.mark.parametrize("name", ["classification", "shared_memory_region"])
def test_output_parameters_of_absent_extensions_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        decoded({**x(), "outputs": [{"name": "y", "parameters": {name: 1}}]})


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (DType.INT8, [-128, 127, 0, 1], [[128, 0, 0, 0], [1.0, 0, 0, 0], [True, 0, 0, 0]]),
        (DType.UINT8, [255, 0, 1, 2], [[-1, 0, 0, 0], [256, 0, 0, 0]]),
        (DType.INT64, [-(2**63), 2**63 - 1, 0, 1], [[2**63, 0, 0, 0]]),
        (DType.UINT64, [2**64 - 1, 0, 1, 2], [[2**64, 0, 0, 0], [-1, 0, 0, 0]]),
        (DType.BOOL, [True, False, True, True], [[1, 0, 1, 1], ["true", True, True, True]]),
        (DType.FP64, [1e300, -1, 0, 5e-324], [[10**400, 0, 0, 0]]),
        (DType.FP16, None, [[1, 2, 3, 4]]),
    ],
)
def test_json_elements_are_exactly_of_the_inputs_type(dtype: DType, good: Any, bad: list) -> None:
    model = signature(dtype)
    if good is not None:
        assert decoded(x(datatype=dtype.value, data=good), model=model).inputs["x"].ravel().tolist() == good
    for data in bad:
        with pytest.raises(InvalidRequestError):
            decoded(x(datatype=dtype.value, data=data), model=model)


def test_booleans_of_other_bytes_than_0_and_1_are_true() -> None:
    head = binary(4, datatype="BOOL")
    request = decoded(head, b"\x00\x01\x02\xff", signature(DType.BOOL))
    assert request.inputs["x"].view(np.uint8).tolist() == [[0, 1, 1, 1]]


@pytest.mark.parametrize(
    ("parameters", "outputs", "is_binary"),
    [
        ({}, None, False),
        ({"binary_data_output": True}, None, True),
        ({"binary_data_output": True}, [{"name": "y"}], True),
        ({"binary_data_output": True}, [{"name": "y", "parameters": {"binary_data": False}}], False),
        ({}, [{"name": "y", "parameters": {"binary_data": True}}], True),
    ],
)
def test_each_output_is_wanted_as_json_or_binary(parameters: dict, outputs: Any, is_binary: bool) -> None:
    head = {**x(), "parameters": parameters, **({"outputs": outputs} if outputs else {})}
    assert decoded(head).outputs == (WantedOutput("y", is_binary),)


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf]])
def test_what_json_can_not_hold_is_refused_with_the_remedy(values: list[float]) -> None:
    answer = InferAnswer("m", "1", "", {"y": np.array(values, np.float32)})
    with pytest.raises(NotJsonError, match="binary_data"):
        body_from_answer(answer, [WantedOutput("y", is_binary=False)])


@given(
    hnp.arrays(
        st.sampled_from([member.numpy for member in PLAIN]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
@settings(max_examples=60, deadline=None)
def test_an_answer_comes_back_bit_for_bit(array: np.ndarray) -> None:
    wanted = [WantedOutput("y", is_binary=True)]
    length, body = body_from_answer(InferAnswer("m", "1", "é\n", {"y": array}), wanted)
    head = json.loads(body[:length])
    (output,) = head["outputs"]
    assert body[length:] == array.tobytes()
    assert (DType(output["datatype"]).numpy, tuple(output["shape"])) == (array.dtype, array.shape)
    assert (head["id"], output["parameters"]) == ("é\n", {"binary_data_size": array.nbytes})


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 8), st.just(4)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
@settings(max_examples=40, deadline=None)
def test_a_request_comes_back_bit_for_bit_as_binary_and_as_json(array: np.ndarray) -> None:
    as_binary = binary(array.nbytes, shape=list(array.shape))
    assert decoded(as_binary, array.tobytes()).inputs["x"].tobytes() == array.tobytes()
    as_json = x(shape=list(array.shape), data=array.tolist())
    assert decoded(as_json).inputs["x"].tobytes() == array.tobytes()

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.dtypes import PLAIN

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec
from edge_runtime.wire.grpc_infer import message_from_answer, request_from_message
from edge_runtime.wire.inference import InferAnswer, WantedOutput
from edge_runtime.wire.messages import message

ARRAY = np.array([[1, 2, np.nan, np.inf]], np.float32)


def signature(dtype: DType = DType.FP32) -> Signature:
    limits = ShapeRange((1, 4), (1, 4), (8, 4))
    return Signature((TensorSpec("x", dtype, (-1, 4)),), (TensorSpec("y", dtype, (-1, 4)),), {"x": limits})


def raw(**changes: Any) -> Any:
    built = message("inference.ModelInferRequest")(model_name="m", id="7", raw_input_contents=[ARRAY.tobytes()])
    built.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    for name, value in changes.items():
        setattr(built.inputs[0], name, value)
    return built


def test_raw_tensors_arrive_bit_for_bit() -> None:
    request = request_from_message(raw(), signature())
    assert request.inputs["x"].tobytes() == ARRAY.tobytes()
    assert (request.id, request.outputs) == ("7", (WantedOutput("y", is_binary=True),))


@pytest.mark.parametrize(
    ("dtype", "field", "values"),
    [
        (DType.BOOL, "bool_contents", [True, False, True, True]),
        (DType.INT8, "int_contents", [-128, 127, 0, 1]),
        (DType.INT64, "int64_contents", [-(2**63), 2**63 - 1, 0, 1]),
        (DType.UINT16, "uint_contents", [65535, 0, 1, 2]),
        (DType.UINT64, "uint64_contents", [2**64 - 1, 0, 1, 2]),
        (DType.FP32, "fp32_contents", [1.5, float("inf"), -0.0, 3.0]),
        (DType.FP64, "fp64_contents", [1e300, 0.0, 1.0, 2.0]),
    ],
)
def test_typed_contents_are_read(dtype: DType, field: str, values: list) -> None:
    received = message("inference.ModelInferRequest")(model_name="m")
    received.inputs.add(name="x", datatype=dtype.value, shape=[1, 4], contents={field: values})
    array = request_from_message(received, signature(dtype)).inputs["x"]
    assert (array.dtype, array.ravel().tolist()) == (dtype.numpy, values)


@pytest.mark.parametrize(
    ("dtype", "contents"),
    [
        (DType.FP32, {}),
        (DType.FP32, {"fp32_contents": [1, 2, 3]}),
        (DType.FP32, {"fp32_contents": [1, 2, 3, 4, 5]}),
        (DType.FP32, {"fp64_contents": [1, 2, 3, 4]}),
        (DType.FP32, {"fp32_contents": [1, 2, 3, 4], "int_contents": [1]}),
        (DType.INT8, {"int_contents": [128, 0, 0, 0]}),
        (DType.UINT8, {"uint_contents": [256, 0, 0, 0]}),
        (DType.FP16, {"fp32_contents": [1, 2, 3, 4]}),
    ],
)
def test_typed_contents_that_do_not_fit_are_refused(dtype: DType, contents: dict) -> None:
    received = message("inference.ModelInferRequest")(model_name="m")
    received.inputs.add(name="x", datatype=dtype.value, shape=[1, 4], contents=contents)
    with pytest.raises(InvalidRequestError):
        request_from_message(received, signature(dtype))


@pytest.mark.parametrize(
    "shape",
    [[4], [], [0, 4], [-1, 4], [9, 4], [2**31 - 1, 4], [2**62, 4], [-(2**63), 4], [1] * 100_000],
    ids=lambda shape: repr(shape)[:24],
)
def test_a_shape_that_the_model_lacks_is_refused_in_a_short_text(shape: list[int]) -> None:
    received = raw()
    del received.inputs[0].shape[:]
    received.inputs[0].shape.extend(shape)
    with pytest.raises(InvalidRequestError) as caught:
        request_from_message(received, signature())
    assert len(str(caught.value)) < 500


def changed(change: Any) -> Any:
    received = raw()
    change(received)
    return received


BAD = {
    "no input": lambda r: r.ClearField("inputs"),
    "unknown input": lambda r: setattr(r.inputs[0], "name", "nope"),
    "given twice": lambda r: (r.inputs.append(r.inputs[0]), r.raw_input_contents.append(r.raw_input_contents[0])),
    "unknown datatype": lambda r: setattr(r.inputs[0], "datatype", "FP12"),
    "other datatype": lambda r: setattr(r.inputs[0], "datatype", "INT32"),
    "bytes missing": lambda r: r.raw_input_contents.__setitem__(0, b"123"),
    "bytes left over": lambda r: r.raw_input_contents.__setitem__(0, bytes(17)),
    "more contents than inputs": lambda r: r.raw_input_contents.append(b""),
    "no contents": lambda r: r.ClearField("raw_input_contents"),
    "raw and typed": lambda r: r.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4]),
    "unknown output": lambda r: r.outputs.add(name="nope"),
    "output asked for twice": lambda r: (r.outputs.add(name="y"), r.outputs.add(name="y")),
    "many outputs": lambda r: r.outputs.extend([type(r.outputs.add(name="y"))()] * 1000),
    "many parameters": lambda r: [setattr(r.parameters[f"p{at}"], "bool_param", True) for at in range(1025)],
    "sequence": lambda r: setattr(r.parameters["sequence_id"], "int64_param", 1),
    "shared memory": lambda r: setattr(r.inputs[0].parameters["shared_memory_region"], "string_param", "r"),
    "classification": lambda r: setattr(r.outputs.add(name="y").parameters["classification"], "int64_param", 1),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_a_message_that_does_not_fit_is_refused(change: Any) -> None:
    with pytest.raises(InvalidRequestError):
        request_from_message(changed(change), signature())


@pytest.mark.parametrize("dtype", PLAIN)
def test_an_answer_comes_back_bit_for_bit(dtype: DType) -> None:
    array = np.frombuffer(bytes(range(2, 2 + 6 * dtype.itemsize)), np.uint8)
    array = (array[:6] > 4 if dtype is DType.BOOL else array.view(dtype.numpy)).reshape(2, 3)
    built = message_from_answer(InferAnswer("m", "1", "7", {"y": array}), [WantedOutput("y", is_binary=True)])
    (output,), (data,) = built.outputs, built.raw_output_contents
    assert (data, list(output.shape), output.datatype, built.id) == (array.tobytes(), [2, 3], dtype.value, "7")

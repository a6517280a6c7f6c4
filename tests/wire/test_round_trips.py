"""What Triton's client encodes we decode, and the other way round."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from fakes.dtypes import PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.grpc import service_pb2

from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec
from edge_runtime.wire.grpc_infer import message_from_answer, request_from_message
from edge_runtime.wire.http_infer import body_from_answer, request_from_body
from edge_runtime.wire.inference import InferAnswer, WantedOutput

TRITON = tritonclient.http.InferenceServerClient


def arrays(min_side: int, allow_nan: bool = True) -> st.SearchStrategy:
    """Arrays of every data type, of 0 to 3 dimensions; without NaN also without what JSON can't hold."""

    def of(dtype: DType) -> st.SearchStrategy:
        shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=min_side, max_side=4)
        options = {"allow_nan": allow_nan, "allow_infinity": allow_nan} if dtype.is_float else {}
        return hnp.arrays(dtype.numpy, shapes, elements=hnp.from_dtype(dtype.numpy, **options))

    return st.sampled_from([dtype for dtype in PLAIN if allow_nan or dtype is not DType.FP16]).flatmap(of)


def signature(array: np.ndarray) -> Signature:
    spec = TensorSpec("x", DType.from_numpy(array.dtype), array.shape)
    return Signature((spec,), (spec,), {"x": ShapeRange.fixed(array.shape)})


def same(found: np.ndarray, array: np.ndarray) -> bool:
    is_typed = found.dtype == array.dtype or not array.size  # the client forgets the type of an empty tensor
    return is_typed and (found.shape, found.tobytes()) == (array.shape, array.tobytes())


def decoded_request(array: np.ndarray, is_binary: bool) -> Any:
    tensor = tritonclient.http.InferInput("x", list(array.shape), DType.from_numpy(array.dtype).value)
    tensor.set_data_from_numpy(array, binary_data=is_binary)
    body, head_nbytes = TRITON.generate_request_body([tensor], request_id="7")
    return request_from_body(memoryview(bytes(body)), head_nbytes, "m", "1", signature(array))


@given(arrays(min_side=1))
@settings(max_examples=80, deadline=None)
def test_a_binary_http_request(array: np.ndarray) -> None:
    request = decoded_request(array, is_binary=True)
    assert same(request.inputs["x"], array)
    assert (request.id, request.outputs) == ("7", (WantedOutput("x", is_binary=True),))


@given(arrays(min_side=1, allow_nan=False))
@settings(max_examples=80, deadline=None)
def test_a_json_http_request(array: np.ndarray) -> None:
    assert same(decoded_request(array, is_binary=False).inputs["x"], array)


@given(arrays(min_side=1), arrays(min_side=0))
@settings(max_examples=80, deadline=None)
def test_a_binary_http_answer(first: np.ndarray, second: np.ndarray) -> None:
    wanted = [WantedOutput("b", is_binary=True), WantedOutput("a", is_binary=True)]
    head_nbytes, body = body_from_answer(InferAnswer("m", "1", "é", {"a": first, "b": second}), wanted)
    result = TRITON.parse_response_body(body, header_length=head_nbytes)
    assert same(result.as_numpy("a"), first)
    assert same(result.as_numpy("b"), second)


@given(arrays(min_side=1, allow_nan=False), arrays(min_side=0))
@settings(max_examples=80, deadline=None)
def test_an_http_answer_of_json_and_binary(first: np.ndarray, second: np.ndarray) -> None:
    wanted = [WantedOutput("a", is_binary=False), WantedOutput("b", is_binary=True)]
    head_nbytes, body = body_from_answer(InferAnswer("m", "1", "", {"a": first, "b": second}), wanted)
    result = TRITON.parse_response_body(body, header_length=head_nbytes)
    assert same(result.as_numpy("a"), first)
    assert same(result.as_numpy("b"), second)


@given(arrays(min_side=1))
@settings(max_examples=80, deadline=None)
def test_a_grpc_request(array: np.ndarray) -> None:
    received = service_pb2.ModelInferRequest(model_name="m", id="7", raw_input_contents=[array.tobytes()])
    received.inputs.add(name="x", datatype=DType.from_numpy(array.dtype).value, shape=array.shape)
    assert same(request_from_message(received, signature(array)).inputs["x"], array)


@given(arrays(min_side=1), arrays(min_side=0))
@settings(max_examples=80, deadline=None)
def test_a_grpc_answer(first: np.ndarray, second: np.ndarray) -> None:
    wanted = [WantedOutput("b", is_binary=True), WantedOutput("a", is_binary=True)]
    built = message_from_answer(InferAnswer("m", "1", "é", {"a": first, "b": second}), wanted)
    result = tritonclient.grpc.InferResult(service_pb2.ModelInferResponse.FromString(built.SerializeToString()))
    assert same(result.as_numpy("a"), first)
    assert same(result.as_numpy("b"), second)
    assert (result.get_response().model_name, result.get_response().id) == ("m", "é")

"""Triton's own gRPC client against the server."""

from __future__ import annotations

import queue
from typing import Any, Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from fakes.dtypes import PLAIN
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from edge_runtime import __version__
from edge_runtime.tensors import DType
from edge_runtime.wire.messages import message

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(3, 4)).astype(np.float32)


@pytest.fixture
def client(server) -> Iterator[Any]:
    with tritonclient.grpc.InferenceServerClient(server.bound.grpc) as made:
        yield made


def tensor(name: str, array: np.ndarray) -> Any:
    made = tritonclient.grpc.InferInput(name, list(array.shape), DType.from_numpy(array.dtype).value)
    made.set_data_from_numpy(array)
    return made


def test_2_1_health_health_and_metadata(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pair", "3")
    assert not client.is_model_ready("pair", "4")
    assert not client.is_model_ready("none")
    server = client.get_server_metadata()
    assert (server.name, server.version) == ("edge_runtime", __version__)
    assert "statistics" in server.extensions


def test_2_1_model_metadata_model_metadata_has_the_batch_axis_and_the_configuration_has_not(client) -> None:
    found = client.get_model_metadata("pair")
    assert (found.name, list(found.versions), found.platform) == ("pair", ["3"], "onnxruntime_onnx")
    assert [(each.name, each.datatype, list(each.shape)) for each in found.outputs] == [
        ("sum", "FP32", [-1, 4]),
        ("difference", "FP32", [-1, 4]),
    ]
    config = client.get_model_config("pair").config
    assert (config.name, config.backend, config.max_batch_size) == ("pair", "onnxruntime", 8)
    assert (config.input[0].name, list(config.input[0].dims)) == ("a", [4])
    assert config.instance_group[0].count == 2


def test_2_1_index_the_repository_index(client) -> None:
    found = {each.name: (each.version, each.state) for each in client.get_model_repository_index().models}
    assert found["pair"] == ("3", "READY")


def test_2_1_infer_two_inputs_give_the_outputs_asked_for(client) -> None:
    inputs = [tensor("b", 2 * ROWS), tensor("a", ROWS)]
    asked = [tritonclient.grpc.InferRequestedOutput("difference")]
    result = client.infer("pair", inputs, model_version="3", outputs=asked, request_id="é7")
    np.testing.assert_array_equal(result.as_numpy("difference"), ROWS - 2 * ROWS)
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id, len(answer.outputs)) == ("pair", "3", "é7", 1)
    assert len(answer.raw_output_contents) == 1
    assert [output.name for output in client.infer("pair", inputs).get_response().outputs] == ["sum", "difference"]


def test_2_2_binary_every_data_type_goes_there_and_back(client) -> None:
    arrays = {dtype: RNG.integers(0, 2, (2, 3)).astype(dtype.numpy) for dtype in PLAIN}
    result = client.infer("types", [tensor(dtype.value, array) for dtype, array in arrays.items()])
    for dtype, array in arrays.items():
        np.testing.assert_array_equal(result.as_numpy(f"{dtype.value}_out"), array)


def test_1_1_infer_zero_a_scalar_and_an_empty_answer_go_there_and_back(client) -> None:
    assert client.infer("scalar", [tensor("x", np.array(2.5, np.float32))]).as_numpy("y") == -2.5
    assert client.infer("nonzero", [tensor("x", np.zeros(8, np.float32))]).as_numpy("y").shape == (1, 0)


def test_2_3_nonfinite_nan_and_infinity_pass_bit_for_bit(client) -> None:
    odd = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    assert client.infer("identity", [tensor("x", odd)]).as_numpy("y").tobytes() == odd.tobytes()


def test_2_2_binary_a_large_tensor_goes_there_and_back(client) -> None:
    value = RNG.normal(size=1 << 17).astype(np.float32)
    np.testing.assert_array_equal(client.infer("large", [tensor("x", value)]).as_numpy("y"), value)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_2_2_compression_messages_may_be_compressed(client, algorithm) -> None:
    result = client.infer("identity", [tensor("x", ROWS)], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS)


def test_2_1_infer_requests_at_the_same_time_get_their_own_answers(client) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    for i in range(40):
        inputs = [tensor("x", np.full((1, 4), i, np.float32))]
        client.async_infer("identity", inputs, lambda result, error: answers.put((result, error)), request_id=str(i))
    for _ in range(40):
        result, error = answers.get(timeout=10)
        assert error is None
        assert result.as_numpy("y")[0, 0] == int(result.get_response().id)


def test_2_1_statistics_statistics_are_exact(serving) -> None:
    with serving("pair", "identity") as server, tritonclient.grpc.InferenceServerClient(server.bound.grpc) as client:
        for rows in (1, 3, 3):
            client.infer("pair", [tensor("a", ROWS[:rows]), tensor("b", ROWS[:rows])])
        with pytest.raises(InferenceServerException):
            client.infer("pair", [tensor("a", ROWS)])
        (found,) = client.get_inference_statistics("pair").model_stats
        assert len(client.get_inference_statistics().model_stats) == 2
    assert (found.inference_count, found.execution_count) == (7, 3)
    assert {each.batch_size: each.compute_infer.count for each in found.batch_stats} == {1: 1, 3: 2}
    stats = found.inference_stats
    assert (stats.success.count, stats.fail.count, stats.queue.count, stats.cache_hit.count) == (3, 1, 3, 0)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda client: client.infer("none", [tensor("x", ROWS)]), "NOT_FOUND"),
        (lambda client: client.infer("identity", [tensor("x", ROWS)], model_version="4"), "NOT_FOUND"),
        (lambda client: client.infer("identity", [tensor("x", ROWS)], sequence_id=1), "INVALID_ARGUMENT"),
        (lambda client: client.infer("identity", [tensor("x", ROWS)], timeout=1), "DEADLINE_EXCEEDED"),
        (lambda client: client.get_model_metadata("none"), "NOT_FOUND"),
        (lambda client: client.get_model_config("none"), "NOT_FOUND"),
        (lambda client: client.get_inference_statistics("none"), "NOT_FOUND"),
        (lambda client: client.get_system_shared_memory_status(), "UNIMPLEMENTED"),
        (lambda client: client.get_cuda_shared_memory_status(), "UNIMPLEMENTED"),
        (lambda client: client.get_trace_settings(), "UNIMPLEMENTED"),
        (lambda client: client.load_model("identity"), "PERMISSION_DENIED"),
    ],
)
def test_2_3_error_form_refusals_reach_the_client_with_their_code(client, call, code) -> None:
    with pytest.raises(InferenceServerException) as caught:
        call(client)
    assert caught.value.status() == f"StatusCode.{code}"


@pytest.fixture
def channel(server) -> Iterator[Any]:
    with grpc.insecure_channel(server.bound.grpc) as made:
        yield made


def call(channel: Any, method: str, payload: bytes) -> bytes:
    return channel.unary_unary(method, request_serializer=None, response_deserializer=None)(payload, timeout=10)


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_2_1_health_the_standard_health_check_answers(channel, service) -> None:
    request = message("grpc.health.v1.HealthCheckRequest")(service=service)
    answer = call(channel, "/grpc.health.v1.Health/Check", request.SerializeToString())
    assert message("grpc.health.v1.HealthCheckResponse").FromString(answer).status == 1


def test_2_1_health_the_health_of_an_unknown_service_is_not_found(channel) -> None:
    request = message("grpc.health.v1.HealthCheckRequest")(service="x" * 10_000)
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "/grpc.health.v1.Health/Check", request.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert len(caught.value.details()) < 300


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "ServerLive"])
def test_2_3_protobuf_what_is_no_message_is_refused_without_a_traceback(channel, method, logged) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, f"/inference.GRPCInferenceService/{method}", b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not logged()


def test_1_2_leak_a_failure_that_nobody_foresaw_is_internal_and_says_nothing(serving, monkeypatch, caplog) -> None:
    with serving("identity") as server, grpc.insecure_channel(server.bound.grpc) as channel:
        monkeypatch.setattr("edge_runtime.server.grpc_methods.server_metadata", lambda *_: 1 / 0)
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "/inference.GRPCInferenceService/ServerMetadata", b"")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "ZeroDivisionError" in caplog.text


def test_2_1_infer_typed_contents_are_taken_as_well(channel) -> None:
    request = service_pb2.ModelInferRequest(model_name="identity")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4], contents={"fp32_contents": [1, 2, 3, 4]})
    answer = call(channel, "/inference.GRPCInferenceService/ModelInfer", request.SerializeToString())
    raw = service_pb2.ModelInferResponse.FromString(answer).raw_output_contents
    assert raw[0] == np.array([1, 2, 3, 4], np.float32).tobytes()

"""2.1, 2.2: every endpoint in both protocols, as bytes and by Triton's asyncio clients, on every transport."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio
import tritonclient.http.aio
from tritonclient.grpc import service_pb2

from edge_runtime import __version__
from edge_runtime.wire.messages import SERVICE, message, methods

ROW = np.array([[1, 2, 3, 4.5]], np.float32)
MODEL = "/v2/models/identity"
TENSOR_OF = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}


@pytest.fixture
def rpc(server: Any) -> Any:
    """`rpc(method, field=..., ...)`: the answer as its class, or the name of the status."""
    known = {name: (request, response) for name, request, response in methods(SERVICE)}

    def called(method: str, **given: Any) -> Any:
        request, response = known[method]
        with grpc.insecure_channel(server.bound.grpc) as channel:
            call = channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=response.FromString)
            try:
                return call(request(**given).SerializeToString(), timeout=10)
            except grpc.RpcError as error:
                return error.code().name

    return called


@pytest.mark.parametrize("path", ["live", "ready"])
def test_2_1_health_is_json_and_takes_a_body_and_a_query(server, rpc, path) -> None:
    for answer in (server.ask("GET", f"/v2/health/{path}"), server.ask("GET", f"/v2/health/{path}?x", b"{}")):
        assert (answer.status, answer.json) == (200, {path: True})
    assert rpc("ServerLive").live is rpc("ServerReady").ready is True


def test_2_1_server_metadata_names_what_there_is(server, rpc) -> None:
    found, told = server.ask("GET", "/v2").json, rpc("ServerMetadata")
    assert (found["name"], found["version"]) == (told.name, told.version) == ("edge_runtime", __version__)
    assert found["extensions"] == list(told.extensions)


def test_2_2_extensions_are_those_that_there_are(server) -> None:
    declared = set(server.ask("GET", "/v2").json["extensions"])
    assert {"binary_tensor_data", "model_configuration", "parameters", "schedule_policy", "statistics"} <= declared
    assert not declared & {"classification", "sequence", "generate", "trace", "cuda_shared_memory"}


@pytest.mark.parametrize("version", ["", "3"])
def test_2_1_model_metadata_is_the_same_in_both_protocols(server, rpc, version) -> None:
    found = server.ask("GET", MODEL + (f"/versions/{version}" if version else "")).json
    told = rpc("ModelMetadata", name="identity", version=version)
    assert found["inputs"] == [TENSOR_OF] == [_tensor(each) for each in told.inputs]
    assert found["outputs"] == [{**TENSOR_OF, "name": "y"}] == [_tensor(each) for each in told.outputs]
    assert (found["name"], found["versions"], found["platform"]) == (told.name, list(told.versions), told.platform)


def _tensor(told: Any) -> dict[str, Any]:
    return {"name": told.name, "datatype": told.datatype, "shape": list(told.shape)}


@pytest.mark.parametrize(("version", "is_there"), [("", True), ("3", True), ("4", False), ("-1", False), ("x", False)])
def test_2_1_model_ready_is_404_or_false_for_what_is_not_there(server, rpc, version, is_there) -> None:
    answer = server.ask("GET", MODEL + (f"/versions/{version}" if version else "") + "/ready")
    assert answer.status == (200 if is_there else 404)
    assert rpc("ModelReady", name="identity", version=version).ready is is_there


def test_2_1_model_ready_of_an_unknown_model_is_404_or_false(server, rpc) -> None:
    assert server.ask("GET", "/v2/models/none/ready").status == 404
    assert rpc("ModelReady", name="none").ready is False


@pytest.mark.parametrize("model", ["identity", "pair", "fixed", "canvas"])
def test_2_1_config_is_the_same_in_both_protocols(server, rpc, model) -> None:
    found, told = server.ask("GET", f"/v2/models/{model}/config").json, rpc("ModelConfig", name=model).config
    assert (found["name"], found["max_batch_size"], found["platform"]) == (
        told.name,
        told.max_batch_size,
        told.platform,
    )
    assert [each["dims"] for each in found["input"]] == [list(each.dims) for each in told.input]
    assert [each["name"] for each in found["output"]] == [each.name for each in told.output]


@pytest.mark.parametrize("path", [MODEL + "/stats", MODEL + "/versions/3/stats", "/v2/models/stats"])
def test_2_1_statistics_count_alike_in_both_protocols(server, rpc, path) -> None:
    records = {each["name"]: each for each in server.ask("GET", path).json["model_stats"]}
    told = {each.name: each for each in rpc("ModelStatistics", name="identity").model_stats}
    assert records["identity"]["inference_stats"]["success"]["count"] == told["identity"].inference_stats.success.count
    assert ("pair" in records) == (path == "/v2/models/stats")


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 200), (b"{}", 200), (b'{"ready": true}', 200), (b'{"ready": 1}', 400)]
)
def test_2_1_index_takes_no_body_or_an_object(server, rpc, body, status) -> None:
    answer = server.ask("POST", "/v2/repository/index", body)
    assert answer.status == status
    if status == 200:
        told = {(each.name, each.version, each.state) for each in rpc("RepositoryIndex", ready=True).models}
        assert {(each["name"], each["version"], each["state"]) for each in answer.json} == told


@pytest.mark.parametrize(
    "path", ["status", "region/r/status", "region/r/register", "region/r/unregister", "unregister"]
)
def test_2_1_cuda_shared_memory_is_not_implemented(server, path) -> None:
    method = "GET" if path.endswith("status") else "POST"
    answer = server.ask(method, f"/v2/cudasharedmemory/{path}", b"{}")
    assert (answer.status, list(answer.json)) == (501, ["error"])


@pytest.mark.parametrize("method", ["Status", "Register", "Unregister"])
def test_2_1_cuda_shared_memory_is_unimplemented_over_grpc(server, method) -> None:
    assert unimplemented(server, f"CudaSharedMemory{method}")


def unimplemented(server: Any, method: str) -> bool:
    with grpc.insecure_channel(server.bound.grpc) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/{method}")(b"", timeout=10)
        return caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("path", ["", "/versions/1"])
@pytest.mark.parametrize("extension", ["generate", "generate_stream"])
def test_2_1_generate_is_not_implemented(server, path, extension) -> None:
    assert server.ask("POST", f"{MODEL}{path}/{extension}", b"{}").status == 501


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/v2/trace/setting", MODEL + "/trace/setting"])
def test_2_1_trace_is_not_implemented_and_writes_no_file(server, tmp_path, method, path) -> None:
    target = tmp_path / "trace.json"
    body = json.dumps({"trace_file": str(target), "trace_level": ["TIMESTAMPS"], "trace_rate": "1"}).encode()
    assert server.ask(method, path, body).status == 501
    assert unimplemented(server, "TraceSetting")
    assert not target.exists()


@pytest.mark.parametrize(
    "parameters",
    [
        {"sequence_id": 1},
        {"sequence_start": True},
        {"sequence_end": True},
        {"triton_enable": True},
        {"classification": 3},
        {"shared_memory_region": "r"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_2_1_refused_extensions_are_named_and_not_ignored(server, parameters) -> None:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]
    answer = server.infer("identity", {"inputs": inputs, "parameters": parameters})
    assert (answer.status, next(iter(parameters)) in answer.json["error"]) == (400, True)
    request = service_pb2.ModelInferRequest(model_name="identity", raw_input_contents=[ROW.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    with grpc.insecure_channel(server.bound.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(request.SerializeToString(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert next(iter(parameters)) in caught.value.details()


@pytest.mark.parametrize("given", ["", "7", "é7", "\0", "\u202e", "i" * 100_000], ids=len)
def test_2_2_id_is_echoed_as_it_came(server, given) -> None:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]
    assert server.infer("identity", {"inputs": inputs, "id": given}).json.get("id", "") == given
    request = service_pb2.ModelInferRequest(model_name="identity", id=given, raw_input_contents=[ROW.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with grpc.insecure_channel(server.bound.grpc) as channel:
        answer = channel.unary_unary(f"/{SERVICE}/ModelInfer")(request.SerializeToString(), timeout=10)
    assert service_pb2.ModelInferResponse.FromString(answer).id == given


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
def test_2_1_infer_is_served_to_tritons_asyncio_client_over_http(server, is_binary) -> None:
    async def main() -> list[Any]:
        async with tritonclient.http.aio.InferenceServerClient(server.bound.http, conn_limit=8) as client:
            answers = await asyncio.gather(*(client.infer("identity", [row(index)]) for index in range(40)))
        return [answer.as_numpy("y")[0, 0] for answer in answers]

    def row(value: int) -> Any:
        made = tritonclient.http.InferInput("x", [1, 4], "FP32")
        made.set_data_from_numpy(np.full((1, 4), value, np.float32), binary_data=is_binary)
        return made

    assert asyncio.run(main()) == list(range(40))


def test_2_1_infer_is_served_to_tritons_asyncio_client_over_grpc(server) -> None:
    async def main() -> list[Any]:
        async with tritonclient.grpc.aio.InferenceServerClient(server.bound.grpc) as client:
            answers = await asyncio.gather(*(client.infer("identity", [row(index)]) for index in range(40)))
            assert (await client.is_server_live(), await client.is_model_ready("none")) == (True, False)
        return [answer.as_numpy("y")[0, 0] for answer in answers]

    def row(value: int) -> Any:
        made = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
        made.set_data_from_numpy(np.full((1, 4), value, np.float32))
        return made

    assert asyncio.run(main()) == list(range(40))


def test_2_3_protobuf_of_another_message_is_invalid(server) -> None:
    wrong = message("inference.ModelInferResponse")(model_name="identity", id="7").SerializeToString() + b"\xff"
    with grpc.insecure_channel(server.bound.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(wrong, timeout=10)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{", b"null", b"[" * 1000, b'{"ready": "yes"}'], ids=lambda body: repr(body[:9])
)
@pytest.mark.parametrize("path", ["/v2/repository/index", MODEL + "/infer", "/none", "/v2/models/none/infer"])
def test_2_3_error_form_is_one_line_of_json_whatever_fails(server, path, body) -> None:
    answer = server.ask("POST", path, body)
    if answer.status == 200:
        assert (path, body) == ("/v2/repository/index", b"")
        return
    assert answer.status in (400, 404)
    assert answer.headers["content-type"] == "application/json"
    assert answer.body.count(b"\n") == 0
    assert list(answer.json) == ["error"]

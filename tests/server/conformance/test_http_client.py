"""Triton's own HTTP client against the server."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any, Iterator

import numpy as np
import pytest
import tritonclient.http
from fakes.dtypes import PLAIN
from tritonclient.utils import InferenceServerException

from edge_runtime import __version__
from edge_runtime.tensors import DType

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(3, 4)).astype(np.float32)


@pytest.fixture
def client(server) -> Iterator[Any]:
    with tritonclient.http.InferenceServerClient(server.bound.http, concurrency=4) as made:
        yield made


def tensor(name: str, array: np.ndarray, is_binary: bool = True) -> Any:
    made = tritonclient.http.InferInput(name, list(array.shape), DType.from_numpy(array.dtype).value)
    made.set_data_from_numpy(array, binary_data=is_binary)
    return made


def wanted(*names: str, is_binary: bool = True) -> list[Any]:
    return [tritonclient.http.InferRequestedOutput(name, binary_data=is_binary) for name in names]


def test_2_1_health_health_and_metadata(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pair")
    assert client.is_model_ready("pair", "3")
    assert not client.is_model_ready("pair", "4")
    assert not client.is_model_ready("none")
    server = client.get_server_metadata()
    assert (server["name"], server["version"]) == ("edge_runtime", __version__)
    assert {"binary_tensor_data", "statistics", "model_configuration", "parameters"} <= set(server["extensions"])


def test_2_1_model_metadata_model_metadata_has_the_batch_axis_and_the_configuration_has_not(client) -> None:
    assert client.get_model_metadata("pair") == {
        "name": "pair",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": name, "datatype": "FP32", "shape": [-1, 4]} for name in ("a", "b")],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, 4]} for name in ("sum", "difference")],
    }
    config = client.get_model_config("pair", "3")
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("pair", "onnxruntime", 8)
    assert config["input"][0] == {"name": "a", "data_type": "TYPE_FP32", "dims": [4]}
    assert config["instance_group"] == [{"name": "pair", "count": 2, "kind": "KIND_CPU"}]


@pytest.mark.parametrize(("model", "dims"), [("fixed", [2, 3]), ("scalar", []), ("nonzero", [8]), ("rows", [-1])])
def test_2_1_config_a_model_without_a_further_axis_has_all_its_dimensions_in_the_configuration(
    client, model, dims
) -> None:
    config = client.get_model_config(model)
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, dims)


def test_2_1_index_the_repository_index(client) -> None:
    index = client.get_model_repository_index()
    assert {"name": "pair", "version": "3", "state": "READY", "reason": ""} in index


@pytest.mark.parametrize("is_binary_answer", [True, False], ids=["to-binary", "to-json"])
@pytest.mark.parametrize("is_binary", [True, False], ids=["from-binary", "from-json"])
def test_2_1_infer_two_inputs_give_two_outputs(client, is_binary, is_binary_answer) -> None:
    inputs = [tensor("a", ROWS, is_binary), tensor("b", 2 * ROWS, not is_binary)]
    asked = wanted("difference", "sum", is_binary=is_binary_answer)
    result = client.infer("pair", inputs, model_version="3", outputs=asked, request_id="é7")
    np.testing.assert_array_equal(result.as_numpy("sum"), ROWS + 2 * ROWS)
    np.testing.assert_array_equal(result.as_numpy("difference"), ROWS - 2 * ROWS)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("pair", "3", "é7")
    assert [output["name"] for output in answer["outputs"]] == ["difference", "sum"]


@pytest.mark.parametrize("asked", [None, []])
def test_2_1_infer_without_outputs_asked_for_all_come(client, asked) -> None:
    answer = client.infer("pair", [tensor("a", ROWS), tensor("b", ROWS)], outputs=asked).get_response()
    assert [output["name"] for output in answer["outputs"]] == ["sum", "difference"]


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
def test_2_2_binary_every_data_type_goes_there_and_back(client, is_binary) -> None:
    arrays = {
        dtype: RNG.integers(0, 2, (2, 3)).astype(dtype.numpy)
        if dtype is DType.BOOL or dtype.is_float
        else RNG.integers(np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max, (2, 3), dtype.numpy, endpoint=True)
        for dtype in PLAIN
    }
    inputs = [tensor(d.value, array, is_binary or d is DType.FP16) for d, array in arrays.items()]
    names = [f"{d.value}_out" for d in PLAIN if is_binary or d is not DType.FP16]
    result = client.infer("types", inputs, outputs=wanted(*names, is_binary=is_binary))
    for name in names:
        array = arrays[DType(name[:-4])]
        np.testing.assert_array_equal(result.as_numpy(name), array)
        assert result.as_numpy(name).dtype == array.dtype


def test_2_1_infer_a_scalar_goes_there_and_back(client) -> None:
    result = client.infer("scalar", [tensor("x", np.array(2.5, np.float32))])
    assert (result.as_numpy("y").shape, result.as_numpy("y")) == ((), -2.5)


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("found", [0, 3, 8])
def test_1_1_infer_zero_an_output_whose_shape_depends_on_the_data_may_be_empty(client, found, is_binary) -> None:
    value = np.array([1.0] * found + [0.0] * (8 - found), np.float32)
    result = client.infer("nonzero", [tensor("x", value)], outputs=wanted("y", is_binary=is_binary))
    assert result.get_output("y")["shape"] == [1, found]
    if is_binary or found:  # the client makes None of an empty JSON tensor
        np.testing.assert_array_equal(result.as_numpy("y"), np.arange(found).reshape(1, found))


def test_2_3_nonfinite_nan_and_infinity_pass_as_binary_and_leave_nothing_behind(client) -> None:
    odd = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    odd.view(np.uint32)[0, 0] = 0x7FC12345
    assert client.infer("identity", [tensor("x", odd)]).as_numpy("y").tobytes() == odd.tobytes()
    np.testing.assert_array_equal(client.infer("identity", [tensor("x", ROWS)]).as_numpy("y"), ROWS)


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("answered", [None, "gzip", "deflate"])
@pytest.mark.parametrize("asked", [None, "gzip", "deflate"])
def test_2_2_compression_bodies_are_compressed_both_ways(client, asked, answered, is_binary) -> None:
    result = client.infer(
        "identity",
        [tensor("x", ROWS, is_binary)],
        outputs=wanted("y", is_binary=is_binary),
        request_compression_algorithm=asked,
        response_compression_algorithm=answered,
    )
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS)


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("answered", [None, "gzip"])
def test_2_2_binary_a_large_tensor_goes_there_and_back(client, answered, is_binary) -> None:
    value = RNG.normal(size=1 << 17).astype(np.float32)
    inputs, outputs = [tensor("x", value, is_binary)], wanted("y", is_binary=is_binary)
    result = client.infer("large", inputs, outputs=outputs, response_compression_algorithm=answered)
    np.testing.assert_array_equal(result.as_numpy("y"), value)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("br, GZIP;q=0.5", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip; q=0.000", None),
        ("identity", None),
        ("x-gzipped", None),
    ],
)
def test_2_2_compression_the_answer_is_compressed_as_the_client_accepts(server, good_head, accepted, coding) -> None:
    answer = server.infer("identity", good_head(), ROWS[0].tobytes(), {"Accept-Encoding": accepted})
    undo = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[coding]
    assert answer.headers.get("content-encoding") == coding
    assert json.loads(undo(answer.body))["outputs"][0]["data"] == ROWS[0].tolist()


def test_2_1_infer_requests_at_the_same_time_get_their_own_answers(client) -> None:
    pending = [client.async_infer("identity", [tensor("x", np.full((1, 4), i, np.float32))]) for i in range(40)]
    assert [each.get_result().as_numpy("y")[0, 0] for each in pending] == list(range(40))


def test_2_1_statistics_statistics_are_exact(serving) -> None:
    with serving("pair", "identity") as server, tritonclient.http.InferenceServerClient(server.bound.http) as client:
        for rows in (1, 3, 3):
            client.infer("pair", [tensor("a", ROWS[:rows]), tensor("b", ROWS[:rows])])
            found = client.get_inference_statistics("pair")["model_stats"][0]
        with pytest.raises(InferenceServerException):
            client.infer("pair", [tensor("a", ROWS)])
        everything = {each["name"]: each for each in client.get_inference_statistics()["model_stats"]}
        stats = everything["pair"]["inference_stats"]
    assert (found["inference_count"], found["execution_count"], found["last_inference"] > 0) == (7, 3, True)
    assert {each["batch_size"]: each["compute_infer"]["count"] for each in found["batch_stats"]} == {1: 1, 3: 2}
    assert (stats["success"]["count"], stats["fail"]["count"]) == (3, 1)
    assert everything["identity"]["inference_stats"]["success"]["count"] == 0
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert sum(stats[part]["ns"] for part in parts) <= stats["success"]["ns"]
    assert all(stats[part]["count"] == 3 for part in parts)


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda client: client.infer("none", [tensor("x", ROWS)]), "404"),
        (lambda client: client.infer("identity", [tensor("x", ROWS)], model_version="4"), "404"),
        (lambda client: client.infer("identity", [tensor("x", ROWS)], sequence_id=1), "400"),
        (lambda client: client.infer("identity", [tensor("x", ROWS)], timeout=1), "503"),
        (lambda client: client.get_model_metadata("none"), "404"),
        (lambda client: client.get_model_config("none"), "404"),
        (lambda client: client.get_inference_statistics("none"), "404"),
        (lambda client: client.get_system_shared_memory_status(), "501"),
        (lambda client: client.get_cuda_shared_memory_status(), "501"),
        (lambda client: client.get_trace_settings(), "501"),
        (lambda client: client.get_log_settings(), "501"),
        (lambda client: client.load_model("identity"), "403"),
        (lambda client: client.unload_model("identity"), "403"),
    ],
)
def test_2_3_error_form_refusals_reach_the_client_with_their_status(client, call, status) -> None:
    with pytest.raises(InferenceServerException) as caught:
        call(client)
    assert (caught.value.status() or status) == status
    assert caught.value.message()


def test_2_2_raw_the_raw_form_takes_its_batch_from_the_bytes(server) -> None:
    answer = server.ask("POST", "/v2/models/identity/infer", ROWS.tobytes(), {"Inference-Header-Content-Length": "0"})
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["shape"] == [3, 4]
    assert answer.body[length:] == ROWS.tobytes()
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("model", ["pair", "identity", "fixed"])
def test_2_2_raw_the_raw_form_is_refused_where_it_does_not_fit(server, model) -> None:
    answer = server.ask("POST", f"/v2/models/{model}/infer", bytes(20), {"Inference-Header-Content-Length": "0"})
    assert (answer.status, list(answer.json)) == (400, ["error"])


@pytest.mark.parametrize("scheme", ["", "http://127.0.0.1"])
@pytest.mark.parametrize("query", ["", "?a=/v2"])
def test_2_1_paths_absolute_forms_and_queries_are_the_same_path(server, scheme, query) -> None:
    assert server.ask("GET", f"{scheme}/v2/health/live{query}").json == {"live": True}


def test_1_2_leak_the_servers_insides_are_not_named(server) -> None:
    assert {server.ask("GET", path).headers["server"] for path in ("/v2", "/none", "/metrics")} == {"edge_runtime"}

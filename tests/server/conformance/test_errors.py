"""2.3: what a client does wrong, and the status that it gets, over both protocols."""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from typing import Any, Callable, Dict, Tuple

import grpc
import numpy as np
import pytest
from fakes.dtypes import PLAIN
from tritonclient.grpc import service_pb2

from edge_runtime.tensors import DType

ROW = np.arange(4, dtype=np.float32).tobytes()
X: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 4], "raw": ROW}
GOOD: dict[str, Any] = {"model": "identity", "version": "", "inputs": [X], "outputs": [], "parameters": {}}


def with_input(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**X, **changes}]}


Cases = Dict[str, Tuple[Dict[str, Any], int, str]]
UNKNOWN: Cases = {
    "unknown model": ({"model": "nope"}, 404, "NOT_FOUND"),
    "model name of 7,000 letters": ({"model": "n" * 7000}, 404, "NOT_FOUND"),
    "model name with a slash": ({"model": "../identity"}, 404, "NOT_FOUND"),
    "model name with NUL": ({"model": "identity\0"}, 404, "NOT_FOUND"),
    "unknown version": ({"version": "4"}, 404, "NOT_FOUND"),
    "version that is no number": ({"version": "../3"}, 404, "NOT_FOUND"),
}
NAMES: Cases = {
    "no input": ({"inputs": []}, 400, "INVALID_ARGUMENT"),
    "unknown input": (with_input(name="nope"), 400, "INVALID_ARGUMENT"),
    "input name of 1 MiB": (with_input(name="n" * (1 << 20)), 400, "INVALID_ARGUMENT"),
    "input given twice": ({"inputs": [X, X]}, 400, "INVALID_ARGUMENT"),
    "input missing": ({"model": "pair", **with_input(name="a")}, 400, "INVALID_ARGUMENT"),
    "unknown datatype": (with_input(datatype="FP12"), 400, "INVALID_ARGUMENT"),
    "wrong datatype": (with_input(datatype="INT32"), 400, "INVALID_ARGUMENT"),
    "BYTES": (with_input(datatype="BYTES"), 400, "INVALID_ARGUMENT"),
}
SHAPES: Cases = {
    "rank too small": (with_input(shape=[4]), 400, "INVALID_ARGUMENT"),
    "rank too large": (with_input(shape=[1, 1, 4]), 400, "INVALID_ARGUMENT"),
    "rank of a million": (with_input(shape=[1] * 1_000_000), 400, "INVALID_ARGUMENT"),
    "other dimension": (with_input(shape=[1, 5], raw=bytes(20)), 400, "INVALID_ARGUMENT"),
    "negative dimension": (with_input(shape=[-1, 4]), 400, "INVALID_ARGUMENT"),
    "dimension of zero": (with_input(shape=[0, 4], raw=b""), 400, "INVALID_ARGUMENT"),
    "dimension of 2^31 - 1": (with_input(shape=[2**31 - 1, 4]), 400, "INVALID_ARGUMENT"),
    "dimension of 2^63 - 1": (with_input(shape=[2**63 - 1, 4]), 400, "INVALID_ARGUMENT"),
    "product that wraps": (with_input(shape=[2**62 + 1, 4]), 400, "INVALID_ARGUMENT"),
}
BATCHES: Cases = {
    "batch over max_batch_size": (with_input(shape=[9, 4], raw=bytes(144)), 400, "INVALID_ARGUMENT"),
}
NBYTES: Cases = {
    "bytes missing": (with_input(raw=ROW[:-1]), 400, "INVALID_ARGUMENT"),
    "no bytes": (with_input(raw=b""), 400, "INVALID_ARGUMENT"),
    "bytes left over": (with_input(raw=ROW + b"x"), 400, "INVALID_ARGUMENT"),
}
UNEQUAL: Cases = {
    "unequal batches": (
        {"model": "pair", "inputs": [{**X, "name": "a"}, {**X, "name": "b", "shape": [2, 4], "raw": ROW * 2}]},
        400,
        "INVALID_ARGUMENT",
    ),
}
OUTPUTS: Cases = {
    "unknown output": ({"outputs": ["nope"]}, 400, "INVALID_ARGUMENT"),
    "output asked for twice": ({"outputs": ["y", "y"]}, 400, "INVALID_ARGUMENT"),
}
PARAMETERS: Cases = {
    "sequence": ({"parameters": {"sequence_id": 1}}, 400, "INVALID_ARGUMENT"),
    "priority below 0": ({"parameters": {"priority": -1}}, 400, "INVALID_ARGUMENT"),
    "timeout that isn't a number": ({"parameters": {"timeout": "soon"}}, 400, "INVALID_ARGUMENT"),
    "deadline of 0 ms": ({"parameters": {"deadline_ms": 0}}, 400, "INVALID_ARGUMENT"),
    "deadline that isn't a number": ({"parameters": {"deadline_ms": True}}, 400, "INVALID_ARGUMENT"),
    "stream without a period": ({"parameters": {"stream": "a", "deadline_ms": 5}}, 400, "INVALID_ARGUMENT"),
    "period without a stream": ({"parameters": {"period_ms": 5, "deadline_ms": 5}}, 400, "INVALID_ARGUMENT"),
}  # fmt: skip


def http_status(server, request: dict[str, Any]) -> tuple[int, str]:
    inputs = [
        {
            **{key: item[key] for key in ("name", "datatype", "shape")},
            "parameters": {"binary_data_size": len(item["raw"])},
        }
        for item in request["inputs"]
    ]
    head = {
        "inputs": inputs,
        "outputs": [{"name": name} for name in request["outputs"]],
        "parameters": request["parameters"],
    }
    version = f"/versions/{quoted(request['version'])}" if request["version"] else ""
    answer = server.infer(quoted(request["model"]) + version, head, b"".join(item["raw"] for item in request["inputs"]))
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json) == (["error"] if answer.status != 200 else ["model_name", "model_version", "outputs"])
    return answer.status, answer.json.get("error", "")


def quoted(name: str) -> str:
    return name.replace("/", "%2F").replace("\0", "%00")


def grpc_status(channel, request: dict[str, Any]) -> tuple[str, str]:
    message = service_pb2.ModelInferRequest(model_name=request["model"], model_version=request["version"])
    for item in request["inputs"]:
        message.inputs.add(name=item["name"], datatype=item["datatype"], shape=item["shape"])
        message.raw_input_contents.append(item["raw"])
    for name in request["outputs"]:
        message.outputs.add(name=name)
    for name, value in request["parameters"].items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    return ask(channel, message)


def ask(channel, message: Any) -> tuple[str, str]:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    try:
        call(message.SerializeToString(), timeout=10)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.bound.grpc) as made:
        yield made


def test_the_request_that_the_others_differ_from_is_good(server, channel) -> None:
    assert http_status(server, GOOD)[0] == 200
    assert grpc_status(channel, GOOD)[0] == "OK"


def refused_alike(server: Any, channel: Any, changes: dict[str, Any], status: int, code: str) -> None:
    request = {**copy.deepcopy(GOOD), **changes}
    for found, text in (http_status(server, request), grpc_status(channel, request)):
        assert found in (status, code)
        assert 10 < len(text) < 500
        assert text.isprintable()


def rows(cases: Cases) -> Any:
    return pytest.mark.parametrize(("changes", "status", "code"), cases.values(), ids=cases)


@rows(UNKNOWN)
def test_2_3_unknown_model_or_version_is_not_found(server, channel, changes, status, code) -> None:
    refused_alike(server, channel, changes, status, code)


@rows({**NAMES, **OUTPUTS})
def test_2_3_names_of_tensors_and_types_are_refused(server, channel, changes, status, code) -> None:
    refused_alike(server, channel, changes, status, code)


@rows(SHAPES)
def test_2_3_shape_is_held_against_the_model(server, channel, changes, status, code) -> None:
    refused_alike(server, channel, changes, status, code)


@rows({**BATCHES, **UNEQUAL})
def test_2_3_batch_too_large_or_unequal_is_refused(server, channel, changes, status, code) -> None:
    refused_alike(server, channel, changes, status, code)


@rows(NBYTES)
def test_2_3_nbytes_of_a_tensor_are_just_its_own(server, channel, changes, status, code) -> None:
    refused_alike(server, channel, changes, status, code)


@rows(PARAMETERS)
def test_2_2_parameters_that_are_wrong_are_refused(server, channel, changes, status, code) -> None:
    refused_alike(server, channel, changes, status, code)


def json_input(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4], **changes}]}


def good_with(text: str) -> bytes:
    return json.dumps(json_input()).replace("4]}", f"{text}]}}").encode()


JSON_BAD: dict[str, Any] = {
    "nothing": b"",
    "no object": b"[]",
    "broken": b'{"inputs": [',
    "not UTF-8": b'{"inputs": "\xff"}',
    "UTF-16": json.dumps(json_input()).encode("utf-16"),
    "101 levels": b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}",
    "250,000 levels": b'{"a": ' + b"[" * 250_000 + b"]" * 250_000 + b"}",
    "NaN": good_with("NaN"),
    "1e400": good_with("1e400"),
    "integer of 400 digits": good_with("1" + "0" * 400),
    "integer of 100,000 digits": good_with("1" * 100_000),
    "null element": json_input(data=[1, 2, 3, None]),
    "text element": json_input(data=[1, 2, 3, "4"]),
    "object element": json_input(data=[1, 2, 3, {}]),
    "boolean element": json_input(data=[1, 2, 3, True]),
    "ragged": json_input(data=[[1, 2, 3], [4]]),
}
JSON_SHAPES: dict[str, Any] = {
    "shape of floats": json_input(shape=[1.0, 4]),
    "shape of text": json_input(shape=["1", 4]),
    "shape of booleans": json_input(shape=[True, 4]),
    "dimension of 2^64": json_input(shape=[2**64, 4]),
    "shape of huge texts": json_input(shape=["x" * 100_000] * 10),
}
JSON_OTHERS: dict[str, Any] = {
    "data and binary": json_input(parameters={"binary_data_size": 16}),
    "id is a number": {**json_input(), "id": 7},
    "deadline of 400 digits": {**json_input(), "parameters": {"deadline_ms": 10**400}},
    "period of 400 digits": {**json_input(), "parameters": {"period_ms": 10**400, "deadline_ms": 5, "stream": "s"}},
    "timeout of 400 digits": {**json_input(), "parameters": {"timeout": 10**400}},
    "text in a flag": {**json_input(), "parameters": {"binary_data_output": "true"}},
    "classification": {**json_input(), "outputs": [{"name": "y", "parameters": {"classification": 2}}]},
    "shared memory": json_input(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 16}),
}


def refused_as_json(server: Any, head: Any) -> None:
    answer = server.infer("identity", head)
    assert (answer.status, list(answer.json)) == (400, ["error"])
    assert len(answer.json["error"]) < 500


@pytest.mark.parametrize("head", JSON_BAD.values(), ids=JSON_BAD)
def test_2_3_json_that_is_wrong_is_refused(server, head) -> None:
    refused_as_json(server, head)


@pytest.mark.parametrize("head", JSON_SHAPES.values(), ids=JSON_SHAPES)
def test_2_3_shape_of_anything_but_whole_numbers_is_refused(server, head) -> None:
    refused_as_json(server, head)


@pytest.mark.parametrize("head", JSON_OTHERS.values(), ids=JSON_OTHERS)
def test_2_2_parameters_and_sources_that_contradict_are_refused(server, head) -> None:
    refused_as_json(server, head)


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "", "99999999999", "99999999999999999999999", "5, 5"])
def test_2_3_nbytes_a_wrong_head_length_is_refused(server, length) -> None:
    headers = {"Inference-Header-Content-Length": length}
    answer = server.ask("POST", "/v2/models/identity/infer", b"{}", headers)
    assert (answer.status, list(answer.json)) == (400, ["error"])


def bomb(make: Callable[[bytes], bytes]) -> bytes:
    return make(bytes(65 << 20))


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", bomb(gzip.compress), 413),
        ("deflate", bomb(zlib.compress), 413),
        ("gzip", b"no gzip", 400),
        ("gzip", gzip.compress(b"{}")[:-3], 400),
        ("gzip", gzip.compress(b"{}") * 2, 400),
        ("gzip", b"", 400),
        ("deflate", gzip.compress(b"{}"), 400),
        ("br", b"x", 415),
        ("gzip, gzip", b"x", 415),
    ],
    ids=lambda value: repr(value)[:16],
)
def test_2_3_compression_a_wrong_compression_is_refused(server, encoding, body, status) -> None:
    answer = server.ask("POST", "/v2/models/identity/infer", body, {"Content-Encoding": encoding})
    assert (answer.status, list(answer.json)) == (status, ["error"])


def test_2_2_json_nonfinite_an_answer_that_json_can_not_hold_is_refused_with_the_remedy(server, good_head) -> None:
    answer = server.infer("root", good_head(), np.full(4, -1, np.float32).tobytes())
    assert answer.status == 422
    assert "binary_data" in answer.json["error"]


def test_2_2_fp16_a_half_float_answer_is_refused_as_json(server) -> None:
    data = {dtype.value: [True if dtype is DType.BOOL else 1] * 6 for dtype in PLAIN if dtype is not DType.FP16}
    inputs: list[Any] = [{"name": name, "datatype": name, "shape": [2, 3], "data": data[name]} for name in data]
    inputs.append({"name": "FP16", "datatype": "FP16", "shape": [2, 3], "parameters": {"binary_data_size": 12}})
    answer = server.infer("types", {"inputs": inputs, "outputs": [{"name": "FP16_out"}]}, bytes(12))
    assert (answer.status, list(answer.json)) == (422, ["error"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/health", 404),
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/none/ready", 404),
        ("GET", "/v2/models/identity/versions/4/ready", 404),
        ("GET", "/v2/models/identity/versions//ready", 404),
        ("GET", "/v2/models/%2e%2e%2fidentity", 404),
        ("GET", "/v2/models/a%00b%ff", 404),
        ("GET", "/%0d%0aSet-Cookie:x", 404),
        ("OPTIONS", "*", 404),
        ("GET", "/v2/models/identity/infer", 405),
        ("PUT", "/v2/models/identity/infer", 405),
        ("DELETE", "/v2/models/identity", 405),
        ("OPTIONS", "/v2", 405),
        ("PATCH", "/metrics", 405),
        ("POST", "/v2/health/live", 405),
        ("BREW", "/v2", 405),
        ("GET", "/v2/cudasharedmemory/status", 501),
        ("POST", "/v2/systemsharedmemory/region/r/register", 501),
        ("POST", "/v2/repository/models/identity/load", 403),
        ("GET", "/v2/models/identity/trace/setting", 501),
    ],
)
def test_2_3_error_form_a_wrong_path_or_method_is_refused_as_json(server, method, path, status) -> None:
    answer = server.ask(method, path)
    assert answer.headers["content-type"] == "application/json"
    if method == "BREW" and answer.status == 400:
        return  # refused by the parser of some versions of aiohttp
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert ("allow" in answer.headers) == (status == 405)


def test_2_3_error_form_head_is_refused_without_a_body(server, http_message) -> None:
    with server.connection() as connection:
        connection.sendall(http_message("HEAD", "/v2", b"", {"Connection": "close"}))
        text = connection.makefile("rb").read()
    assert text.startswith(b"HTTP/1.1 405 ")
    assert text.endswith(b"\r\n\r\n")


def test_2_3_nbytes_grpc_contents_that_do_not_fit_are_refused(channel) -> None:
    message = service_pb2.ModelInferRequest(model_name="identity", raw_input_contents=[ROW, ROW])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    assert ask(channel, message)[0] == "INVALID_ARGUMENT"
    del message.raw_input_contents[1:]
    message.inputs[0].contents.fp32_contents.append(1)
    assert ask(channel, message)[0] == "INVALID_ARGUMENT"
    del message.raw_input_contents[:]
    assert ask(channel, message)[0] == "INVALID_ARGUMENT"


def test_1_2_leak_a_run_that_fails_is_ours_and_says_nothing_of_our_insides(server, channel) -> None:
    at = {"name": "at", "datatype": "INT64", "shape": [1], "raw": np.array([99], np.int64).tobytes()}
    x = {"name": "x", "datatype": "FP32", "shape": [4], "raw": ROW}
    request = {**GOOD, "model": "picky", "inputs": [x, at]}
    assert http_status(server, request) == (500, "the inference failed; see the server's log")
    assert grpc_status(channel, request) == ("INTERNAL", "the inference failed; see the server's log")
    at["raw"] = np.array([2], np.int64).tobytes()
    assert http_status(server, request)[0] == 200


def test_2_1_statistics_each_failure_is_counted_once(serving, good_head) -> None:
    with serving("root", "picky", max_request_bytes=2000) as server, grpc.insecure_channel(
        server.bound.grpc
    ) as channel:
        server.infer("root", good_head(), np.full(4, -1, np.float32).tobytes())  # 422
        server.infer("root", b"{")
        server.ask("POST", "/v2/models/root/infer", bytes(3000))
        server.ask("POST", "/v2/models/root/infer", b"x", {"Content-Encoding": "br"})
        grpc_status(channel, {**GOOD, "model": "root", "outputs": ["nope"]})
        assert (server.failures("root"), server.counts("root")) == ({"OTHER": 5}, (0, 5))
        server.infer("root", good_head(), ROW)
        grpc_status(channel, {**GOOD, "model": "root"})
        assert (server.failures("root"), server.counts("root")) == ({"OTHER": 5}, (2, 5))
        assert server.failures("picky") == {}

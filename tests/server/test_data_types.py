"""BYTES and BF16 by Triton's own clients and raw requests, over both protocols."""

from __future__ import annotations

import json
import struct
import time
from typing import Any, Iterator

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils
from fakes.dtypes import HAS_BFLOAT16
from fakes.region_clients import SharedObject, place, region_client
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from edge_runtime.errors import BackendError, InvalidRequestError
from edge_runtime.scheduling.request import Request
from edge_runtime.server.run import Run
from edge_runtime.server.warm_up import measure
from edge_runtime.wire.elements import strings_array

try:
    import ml_dtypes
except ImportError:  # no package for Python 3.8 needs it
    ml_dtypes = None

LIBRARIES = {"http_transport": "aiohttp", "grpc_transport": "grpcio"}
TRITON = {"http": tritonclient.http, "grpc": tritonclient.grpc}
TEXT = np.array([["a", "é\0"], ["", "\U0001f600" * 50]], object)
UTF8 = [[text.encode() for text in row] for row in TEXT.tolist()]
IDS = np.array([2, 7], np.int64)
# From 2.69 on Triton's clients take BF16 as ml_dtypes has it, before that as float32, which they cut short.
BFLOAT16 = ml_dtypes.bfloat16 if ml_dtypes and "ml_dtypes" in dir(tritonclient.utils) else np.float32


def element(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, server: Any) -> Iterator[Any]:
    """Triton's module for a protocol, and its client."""
    module = TRITON[request.param]
    with module.InferenceServerClient(getattr(server.bound, request.param)) as client:
        yield module, client


def tensors(module: Any, text: np.ndarray = TEXT, ids: np.ndarray = IDS, **options: Any) -> list[Any]:
    made = [module.InferInput("text", list(text.shape), "BYTES"), module.InferInput("id", list(ids.shape), "INT64")]
    made[0].set_data_from_numpy(text, **options)
    made[1].set_data_from_numpy(ids)
    return made


def test_2_2_bytes_strings_go_there_and_back_beside_numbers(triton) -> None:
    module, client = triton
    result = client.infer("words", tensors(module), request_id="7")
    assert result.as_numpy("echo").tolist() == UTF8
    assert result.as_numpy("word").tolist() == ["zwé".encode(), b"?"]
    assert client.infer("words", tensors(module, TEXT[:1], IDS[1:])).as_numpy("word").tolist() == [b"?"]


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("is_binary_answer", [True, False], ids=["to-binary", "to-json"])
def test_2_2_bytes_strings_are_json_or_binary_both_ways(server, is_binary, is_binary_answer) -> None:
    with tritonclient.http.InferenceServerClient(server.bound.http) as client:
        wanted = [tritonclient.http.InferRequestedOutput(name, is_binary_answer) for name in ("word", "echo")]
        result = client.infer("words", tensors(tritonclient.http, binary_data=is_binary), outputs=wanted)
        found = result.as_numpy("echo").tolist()
    assert found == (UTF8 if is_binary_answer else TEXT.tolist())  # that client leaves JSON's strings as they are


def test_metadata_says_bytes_and_the_configuration_says_string(triton) -> None:
    module, client = triton
    metadata, config = client.get_model_metadata("words"), client.get_model_config("words")
    if module is tritonclient.grpc:
        metadata, config = MessageToDict(metadata), MessageToDict(config.config)
    assert [tensor["datatype"] for tensor in metadata["inputs"]] == ["BYTES", "INT64"]
    configured = config["output"][0]
    assert (configured["name"], configured.get("data_type", configured.get("dataType"))) == ("echo", "TYPE_STRING")


def test_many_requests_get_their_own_strings(server) -> None:
    with tritonclient.http.InferenceServerClient(server.bound.http, concurrency=8) as client:

        def ask(number: int) -> Any:
            text = np.array([[str(number), "x" * number]], object)
            return client.async_infer("words", tensors(tritonclient.http, text, IDS[:1]))

        answers = [answer.get_result().as_numpy("echo").tolist() for answer in [ask(number) for number in range(64)]]
    assert answers == [[[str(number).encode(), b"x" * number]] for number in range(64)]


def test_requests_share_a_run_which_a_bad_one_spoils_for_no_other(tiny_engine) -> None:
    feeds = [
        {"text": strings_array(row, (1, 2)), "id": IDS[:1]} for row in ([b"a", b"b"], [b"c", b"\xff"], [b"d", b""])
    ]
    with tiny_engine("words") as engine:
        requests = [Request("words", feed, lambda outputs: outputs["echo"].tolist(), print, 0, 1) for feed in feeds]
        run = Run(engine, requests, 3, time.perf_counter_ns)
        run.segment(0, True)
    assert [run.outcomes[0], run.outcomes[2]] == [[[b"a", b"b"]], [[b"d", b""]]]
    assert (type(run.outcomes[1]), "element 1 of 2" in str(run.outcomes[1])) == (InvalidRequestError, True)


def test_rows_of_strings_are_independent_and_those_that_share_a_sum_are_not(tiny_engine) -> None:
    for name, is_independent in (("words", True), ("shares", False)):
        with tiny_engine(name) as engine:
            measured = measure(engine, is_batching=True)
        assert (measured.has_independent_rows, bool(measured.times)) == (is_independent, True)


def test_text_that_is_not_utf8_is_refused_by_input_and_element(triton) -> None:
    module, client = triton
    with pytest.raises(InferenceServerException, match=r"input 'text': element 3 of 4: expected UTF-8, got byte 0xff"):
        client.infer("words", tensors(module, np.array([[b"a", b"b"], [b"c", b"d\xff"]], object)))


BAD = {
    "length past the end": ([1, 2], element(b"a") + struct.pack("<I", 9) + b"b", "element 1 is said to have 9 bytes"),
    "length of 4 GiB": ([1, 2], element(b"a") + b"\xff\xff\xff\xff", "but 0 are left"),
    "length cut short": ([1, 2], element(b"abc") + b"\1\0", "got 1 in its 9 bytes"),
    "too few elements": ([2, 2], element(b"abcdefgh", b"abcdefgh"), "got 2 in its 24 bytes"),
    "bytes left over": ([1, 2], element(b"a", b"b") + b"x", "1 bytes are left behind its 2 elements"),
    "fewer bytes than lengths": ([8, 2], element(b"", b""), "expected 64 bytes or more"),
    "no bytes": ([1, 2], b"", "expected 8 bytes or more"),
    "shape of 2^31 rows": ([2**31, 2], element(b"", b""), "over max_batch_size 8"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_2_3_nbytes_elements_that_do_not_fit_are_refused(server, bad) -> None:
    shape, data, text = bad
    size = {"binary_data_size": len(data)}
    ids = {"name": "id", "datatype": "INT64", "shape": shape[:1], "parameters": {"binary_data_size": 8 * shape[0]}}
    head = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": shape, "parameters": size}, ids]}
    answer = server.infer("words", head, data + bytes(8 * min(shape[0], 8)))
    assert (answer.status, text in answer.json["error"]) == (400, True), answer.json
    with tritonclient.grpc.InferenceServerClient(server.bound.grpc) as client:
        made = [
            tritonclient.grpc.InferInput("text", shape, "BYTES"),
            tritonclient.grpc.InferInput("id", shape[:1], "INT64"),
        ]
        made[0]._raw_content, made[1]._raw_content = data, bytes(8 * min(shape[0], 8))
        with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT") as caught:
            client.infer("words", made)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([["a", 1]], "element 1: expected a string for BYTES, got int"),
        (["a"], "expected 2 values"),
        (["a", "\ud800"], "surrogate"),
        ("ab", "expected data to be an array"),
    ],
)
def test_json_that_is_no_strings_is_refused(server, data, text) -> None:
    ids = {"name": "id", "datatype": "INT64", "shape": [1], "data": [1]}
    head = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 2], "data": data}, ids]}
    answer = server.infer("words", head)
    assert (answer.status, text in answer.json["error"]) == (400, True), answer.json


def test_typed_contents_are_read(server) -> None:
    with tritonclient.grpc.InferenceServerClient(server.bound.grpc) as client:
        made = tensors(tritonclient.grpc)
        for tensor, field, values in zip(
            made, ("bytes_contents", "int64_contents"), ([*UTF8[0], *UTF8[1]], IDS.tolist())
        ):
            tensor._raw_content = None
            getattr(tensor._input.contents, field).extend(values)
        assert client.infer("words", made).as_numpy("echo").tolist() == UTF8


@pytest.mark.parametrize("protocol", ["http", "http kept", "grpc"])
@pytest.mark.parametrize("libraries", [{}, pytest.param(LIBRARIES, marks=pytest.mark.slow)], ids=["own", "libraries"])
def test_strings_lie_in_regions_both_ways(serving, http_message, protocol, libraries) -> None:
    data = serialize_byte_tensor(TEXT).item()
    inputs = [
        ("text", "BYTES", [2, 2], place("r", len(data)), None),
        ("id", "INT64", [2], {}, IDS.tobytes()),
    ]
    with serving("words", allow_client_shm=True, **libraries) as started, SharedObject(4096) as shared, region_client(
        started, http_message, protocol
    ) as client:
        client.register("r", shared.key, 4096)
        for _ in range(2):
            shared.put(np.frombuffer(data, np.uint8))
            status, found = client.infer("words", inputs, [("echo", place("r", 2048, 2048)), ("word", {})])
            assert status in (200, "OK"), found
            assert bytes(shared.get(len(data), 2048, np.uint8)) == data
        status, text = client.infer("words", inputs, [("echo", place("r", 20, 2048))])
        assert (status, f"its {len(data)} bytes don't fit" in text) in [(400, True), ("INVALID_ARGUMENT", True)]


def test_a_raw_request_is_one_element(serving) -> None:
    with serving("echo") as started:
        answer = started.ask("POST", "/v2/models/echo/infer", "é".encode(), {"Inference-Header-Content-Length": "0"})
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 6}
    assert answer.body[length:] == element("é".encode())


@pytest.fixture(
    scope="module", params=[pytest.param({}, id="own"), pytest.param(LIBRARIES, id="libraries", marks=pytest.mark.slow)]
)
def halves(request: pytest.FixtureRequest, serving: Any) -> Iterator[Any]:
    if not HAS_BFLOAT16:
        pytest.skip("this onnxruntime can't be given BF16")
    with serving("halves", **request.param) as started:
        yield started


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("rows", [1, 3])
def test_2_2_bf16_bfloat16_goes_there_and_back_as_floats(halves, protocol, rows) -> None:
    values = np.array([[1, -2.5, 3e38]] * rows, np.float32)
    with TRITON[protocol].InferenceServerClient(getattr(halves.bound, protocol)) as client:
        for _ in range(2):
            made = TRITON[protocol].InferInput("x", [rows, 3], "BF16")
            made.set_data_from_numpy(values.astype(BFLOAT16))
            found = client.infer("halves", [made]).as_numpy("y").astype(np.float32)
            np.testing.assert_array_equal(found, [[2, -5, np.inf]] * rows)


def test_2_2_bf16_bfloat16_is_no_json(halves) -> None:
    item: dict[str, Any] = {"name": "x", "datatype": "BF16", "shape": [1, 3], "data": [1, 2, 3]}
    assert "binary data only" in halves.infer("halves", {"inputs": [item]}).json["error"]
    del item["data"]
    answer = halves.infer("halves", {"inputs": [{**item, "parameters": {"binary_data_size": 6}}]}, bytes(6))
    assert (answer.status, "binary_data" in answer.json["error"]) == (422, True)


def test_bfloat16_is_not_uint16(halves) -> None:
    item = {"name": "x", "datatype": "UINT16", "shape": [1, 3], "parameters": {"binary_data_size": 6}}
    answer = halves.infer("halves", {"inputs": [item]}, bytes(6))
    assert (answer.status, "expected data type BF16, got UINT16" in answer.json["error"]) == (400, True)


def test_without_a_way_to_be_given_bfloat16_its_models_are_refused(tiny_engine, monkeypatch) -> None:
    monkeypatch.delattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type", raising=False)
    with pytest.raises(BackendError, match=r"tensor 'x' is of BF16, .* install onnxruntime 1.20 or later"):
        tiny_engine("halves")

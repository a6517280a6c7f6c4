"""What clients do wrong with shared-memory regions, and the status that they get, over both protocols."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any, Iterator

import grpc
import numpy as np
import pytest
from fakes.region_clients import GrpcRegionClient, SharedObject, place, region_client
from tritonclient.grpc import service_pb2

LIBRARIES = {"http_transport": "aiohttp", "grpc_transport": "grpcio"}
ROW = np.array([[1, 2, 3, 4.5]], np.float32)
OK = (200, "OK")
BAD = (400, "INVALID_ARGUMENT")
UNKNOWN = (404, "NOT_FOUND")
OFF = (501, "UNIMPLEMENTED")


@pytest.fixture(
    scope="module", params=[pytest.param({}, id="own"), pytest.param(LIBRARIES, id="libraries", marks=pytest.mark.slow)]
)
def sharing(request: pytest.FixtureRequest, serving: Any) -> Iterator[Any]:
    with serving("identity", "pair", allow_client_shm=True, **request.param) as started:
        yield started


@pytest.fixture(params=["http", "http kept", "grpc"])
def client(request: pytest.FixtureRequest, sharing: Any, http_message: Any) -> Iterator[Any]:
    with region_client(sharing, http_message, request.param) as made:
        yield made
        made.unregister()


@pytest.fixture
def shared(client: Any) -> Iterator[SharedObject]:
    """An object of 4096 bytes, of which 128 from 64 on are registered as `r`; it begins with a row everywhere."""
    with SharedObject(4096) as made:
        made.put(np.tile(ROW, 256))
        assert client.register("r", made.key, 128, 64)[0] in OK
        yield made


def asked(client: Any, given: dict[str, Any], wanted: dict[str, Any], data: bytes | None = None) -> tuple[Any, str]:
    code, text = client.infer("identity", [("x", "FP32", [1, 4], given, data)], [("y", wanted)])
    return code, str(text)


IN, OUT = place("r", 16), place("r", 16, 32)
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple]] = {
    "region unknown: input": (place("nope", 16), OUT, UNKNOWN),
    "region unknown: output": (IN, place("nope", 16), UNKNOWN),
    "region unknown: without a name": (place("", 16), OUT, UNKNOWN),
    "region unknown: name of 1 MiB": (place("n" * (1 << 20), 16), OUT, UNKNOWN),
    "offset out of bounds": (place("r", 16, 113), OUT, BAD),
    "offset far out of bounds": (place("r", 16, 1 << 40), OUT, BAD),
    "offset out of bounds: output": (IN, place("r", 16, 113), BAD),
    "size out of bounds: output": (IN, place("r", 129), BAD),
    "size that isn't the input's": (place("r", 17), OUT, BAD),
    "size of 0": (place("r", 0), OUT, BAD),
    "wrap: offset of 2^64 - 16": (place("r", 16, 2**64 - 16), OUT, BAD),
    "wrap: offset of 2^63": (place("r", 16, 2**63), OUT, BAD),
    "wrap: output at 2^64 - 8": (IN, place("r", 16, 2**64 - 8), BAD),
    "wrap: output of 2^64 - 1 bytes": (IN, place("r", 2**64 - 1, 16), BAD),
    "negative offset": (place("r", 16, -1), OUT, BAD),
    "negative size: output": (IN, place("r", -1), BAD),
    "offset that is a text": (place("r", 16, "0"), OUT, BAD),
    "region without a size": (place("r", None), OUT, BAD),
    "size without a region": ({"shared_memory_byte_size": 16}, OUT, BAD),
    "offset without a region: output": (IN, {"shared_memory_offset": 0}, BAD),
    "region that is a number": ({"shared_memory_region": 7, "shared_memory_byte_size": 16}, OUT, BAD),
    "output too small": (IN, place("r", 15, 32), BAD),
    "another parameter of that prefix": ({**IN, "shared_memory_mode": "rw"}, OUT, BAD),
}


@pytest.mark.parametrize(("given", "wanted", "codes"), ROWS.values(), ids=ROWS)
def test_2_3_region_bounds_a_place_that_does_not_fit_is_refused_and_nothing_is_written(
    client, shared, given, wanted, codes
) -> None:
    before = shared.get(1024)
    for _ in range(2):
        code, text = asked(client, given, wanted)
        assert code in codes
        assert 10 < len(text) < 500
        assert "/dev/shm" not in text
        assert shared.key not in text
    assert shared.get(1024) == before


def test_2_3_nbytes_region_and_data_as_well_is_refused(client, shared) -> None:
    code, text = asked(client, IN, OUT, ROW.tobytes())
    assert code in BAD
    assert text


def test_region_and_json_data_is_refused(sharing) -> None:
    item = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": IN, "data": [1, 2, 3, 4]}
    answer = sharing.infer("identity", {"inputs": [item]})
    assert (answer.status, "both data and shared_memory_region" in answer.json["error"]) == (400, True)


def test_region_and_binary_answer_is_refused(sharing, good_head) -> None:
    head = {**good_head(), "outputs": [{"name": "y", "parameters": {"binary_data": True, **OUT}}]}
    assert sharing.infer("identity", head, ROW.tobytes()).status == 400


def test_region_and_typed_contents_is_refused(sharing) -> None:
    message = service_pb2.ModelInferRequest(model_name="identity")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend([1, 2, 3, 4])
    tensor.parameters["shared_memory_region"].string_param = "r"
    tensor.parameters["shared_memory_byte_size"].int64_param = 16
    with grpc.insecure_channel(sharing.bound.grpc) as channel:
        code, text = GrpcRegionClient(channel).ask("ModelInfer", message, service_pb2.ModelInferResponse)
    assert (code, "both contents and" in text) == ("INVALID_ARGUMENT", True)


def test_2_3_region_bounds_nothing_is_written_unless_every_output_fits(client, shared) -> None:
    inputs = [(name, "FP32", [1, 4], IN, None) for name in ("a", "b")]
    code, _ = client.infer("pair", inputs, [("sum", place("r", 16, 32)), ("difference", place("r", 15, 64))])
    assert code in BAD
    assert shared.get(1024) == np.tile(ROW, 256).ravel().tolist()


def test_1_1_shared_memory_register_twice_is_refused(client, shared) -> None:
    code, text = client.register("r", shared.key, 16)
    assert code in (400, "ALREADY_EXISTS")
    assert "unregister it first" in text
    assert client.status("r")[1]["r"]["byte_size"] == 128


@pytest.mark.parametrize("name", ["n" * 201, "n" * 7000], ids=len)
def test_a_name_that_is_too_long_is_refused(client, shared, name) -> None:
    assert client.register(name, shared.key, 16)[0] in BAD


def test_2_3_region_unknown_status_of_a_region_unknown(client) -> None:
    assert client.status("nope")[0] in UNKNOWN


@pytest.mark.parametrize(
    "key", ["/edge_sub/x", "a/../b", "..", ".", "", "/", "///", "a\0b", "a b", "k" * 201, "\u00e9"]
)
def test_2_3_region_key_a_key_of_another_form_can_not_be_opened(client, key) -> None:
    code, text = client.register("r", key, 16)
    assert code in BAD
    assert text.startswith("cannot open ")


@pytest.fixture(params=["symlink", "symlink out", "FIFO", "directory", "socket", "absent", "not ours"])
def odd_key(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of something in /dev/shm that is no object of a client."""
    with SharedObject(64, mode=0o600) as other:
        path = Path(f"{other.path}_odd")
        made = {
            "symlink": lambda: path.symlink_to(other.path),
            "symlink out": lambda: path.symlink_to("/etc/hosts"),
            "FIFO": lambda: os.mkfifo(path),
            "directory": path.mkdir,
            "socket": lambda: os.mknod(path, stat.S_IFSOCK | 0o600),
            "absent": lambda: None,
            "not ours": lambda: (path.write_bytes(bytes(64)), path.chmod(0o444)),
        }[request.param]
        made()
        if request.param == "not ours" and os.geteuid() == 0:
            path.unlink()  # root may open anything
        try:
            yield path.name
        finally:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path.is_symlink() or path.exists():
                path.unlink()


def test_2_4_key_what_is_no_regular_object_can_not_be_opened(client, odd_key) -> None:
    code, text = client.register("r", odd_key, 16)
    assert (code in BAD, text.startswith("cannot open ")) == (True, True)
    assert client.status()[1] == {}


@pytest.mark.parametrize(
    ("nbytes", "offset"),
    [(4097, 0), (1, 4096), (4096, 1), (16, 1 << 40), (2**63, 0), (16, 2**64 - 16), (2**64 - 1, 2), (0, 0)],
)
def test_2_3_region_key_past_the_end_of_its_object_a_region_can_not_be_opened(client, nbytes, offset) -> None:
    with SharedObject(4096) as made:
        code, text = client.register("r", made.key, nbytes, offset)
        assert (code in BAD, text.startswith("cannot open ")) == (True, True)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"key": 7, "byte_size": 16},
        {"key": "k"},
        {"key": "k", "byte_size": "16"},
        {"key": "k", "byte_size": 1.5},
        {"key": "k", "byte_size": True},
        {"key": "k", "byte_size": -1},
        {"key": "k", "byte_size": 16, "offset": None},
        {"key": "k", "byte_size": 16, "offset": 10**400},
        b"[]",
        b"\xff",
        b"",
    ],
)
def test_a_registration_that_is_not_understood_is_refused(sharing, content) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = sharing.ask("POST", "/v2/systemsharedmemory/region/r/register", body)
    assert (answer.status, list(answer.json)) == (400, ["error"])
    assert len(answer.json["error"]) < 500


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/systemsharedmemory", 404),
        ("GET", "/v2/systemsharedmemory/region/r", 404),
        ("GET", "/v2/systemsharedmemory/region/r/register", 405),
        ("POST", "/v2/systemsharedmemory/register", 404),
        ("POST", "/v2/systemsharedmemory/status", 405),
        ("GET", "/v2/cudasharedmemory/status", 501),
        ("POST", "/v2/cudasharedmemory/region/r/register", 501),
    ],
)
def test_other_paths_are_refused(sharing, method, path, status) -> None:
    assert sharing.ask(method, path).status == status


def test_2_1_cuda_shared_memory_cuda_regions_are_refused(sharing) -> None:
    request = service_pb2.CudaSharedMemoryStatusRequest()
    with grpc.insecure_channel(sharing.bound.grpc) as channel:
        found = GrpcRegionClient(channel).ask(
            "CudaSharedMemoryStatus", request, service_pb2.CudaSharedMemoryStatusResponse
        )
    assert found[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize("way", ["http", "http kept", "grpc"])
@pytest.mark.parametrize("settings", [{}, {"allow_client_shm": False}], ids=["unset", "off"])
def test_1_2_region_off_a_client_on_tcp_is_refused_while_it_is_off(
    serving, http_message, tmp_path, way, settings
) -> None:
    with serving("identity", unix=str(tmp_path / "s"), **settings) as server, region_client(
        server, http_message, way
    ) as client, SharedObject(64) as shared:
        answers = [client.register("r", shared.key, 64), client.status(), client.unregister()]
        assert [code in OFF for code, _ in answers] == [True, True, True]
        code, text = asked(client, IN, OUT)
        assert code in BAD
        assert all("--allow-client-shm" in each for each in (text, *(told for _, told in answers)))
        assert server.failures("identity") == {"OTHER": 1}


@pytest.mark.parametrize(("settings", "status"), [({}, 200), ({"allow_client_shm": False}, 501)], ids=["unset", "off"])
def test_a_client_on_the_unix_socket_may_share_unless_it_is_off(
    serving, http_message, http_replies, tmp_path, settings, status
) -> None:
    path = str(tmp_path / "s")
    with serving("identity", unix=path, **settings), SharedObject(64) as shared, socket.socket(
        socket.AF_UNIX
    ) as connection:
        connection.connect(path)
        body = json.dumps({"key": shared.key, "byte_size": 64}).encode()
        connection.sendall(http_message("POST", "/v2/systemsharedmemory/region/r/register", body))
        assert next(http_replies(connection, 1)).status == status


def test_a_grpc_client_on_the_unix_socket_may_share(serving, tmp_path) -> None:
    path = str(tmp_path / "s")
    with serving("identity", unix=path), SharedObject(64) as shared, grpc.insecure_channel(f"unix:{path}") as channel:
        client = GrpcRegionClient(channel)
        shared.put(ROW)
        assert client.register("r", shared.key, 64)[0] == "OK"
        assert asked(client, IN, OUT)[0] == "OK"
        assert shared.get(4, 32) == ROW.ravel().tolist()


def test_each_mistake_with_a_region_is_counted_once(serving, http_message) -> None:
    with serving("identity", allow_client_shm=True) as server, SharedObject(64) as shared:
        for way in ("http", "http kept", "grpc"):
            with region_client(server, http_message, way) as client:
                client.register("r", shared.key, 64)
                asked(client, place("nope", 16), OUT)
                asked(client, IN, place("r", 15))
                asked(client, IN, OUT)
        assert (server.failures("identity"), server.counts("identity")) == ({"OTHER": 6}, (3, 6))


def test_inputs_in_regions_count_towards_the_size_of_a_request(serving, http_message) -> None:
    with serving("large", allow_client_shm=True, max_request_bytes=1 << 18) as server, SharedObject(1 << 20) as shared:
        for way, code in (("http", 413), ("http kept", 413), ("grpc", "RESOURCE_EXHAUSTED")):
            with region_client(server, http_message, way) as client:
                client.register("r", shared.key, 1 << 20)
                inputs = [("x", "FP32", [1 << 17], place("r", 1 << 19), None)]
                assert client.infer("large", inputs, [("y", place("r", 1 << 19, 1 << 19))])[0] == code

"""System shared memory as Triton has it: regions, and inferences whose tensors lie in them."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils.shared_memory as triton_shm
from fakes.dtypes import PLAIN
from fakes.region_clients import SharedObject, place, region_client

from edge_runtime.tensors import DType

LIBRARIES = {"http_transport": "aiohttp", "grpc_transport": "grpcio"}
ROW = np.array([[1, 2, 3, 4.5]], np.float32)
FOUR = [1, 2, 3, 4.5]


@pytest.fixture(
    scope="module", params=[pytest.param({}, id="own"), pytest.param(LIBRARIES, id="libraries", marks=pytest.mark.slow)]
)
def sharing(request: pytest.FixtureRequest, serving: Any) -> Iterator[Any]:
    with serving("identity", "pair", "types", "large", allow_client_shm=True, **request.param) as started:
        yield started


@pytest.fixture(params=["http", "http kept", "grpc"])
def client(request: pytest.FixtureRequest, sharing: Any, http_message: Any) -> Iterator[Any]:
    with region_client(sharing, http_message, request.param) as made:
        yield made
        made.unregister()


@pytest.fixture
def shared(client: Any) -> Iterator[SharedObject]:
    """An object of 4096 bytes, all of it registered as `r`."""
    with SharedObject(4096) as made:
        assert client.register("r", made.key, 4096)[0] in (200, "OK")
        yield made


def input_x(parameters: dict[str, Any], data: bytes | None = None) -> list:
    return [("x", "FP32", [1, 4], parameters, data)]


def test_2_1_system_shared_memory_tensors_lie_in_regions_both_ways(client, shared) -> None:
    for _ in range(3):
        shared.put(ROW, 16)
        found = client.infer("identity", input_x(place("r", 16, 16)), [("y", place("r", 1000, 256))])
        assert found[0] in (200, "OK")
        assert found[1] == [{"name": "y", "datatype": "FP32", "shape": [1, 4]}]
        assert shared.get(6, 256) == [*FOUR, 0, 0]


@pytest.mark.parametrize("offset", [1, 4095 - 16, 4096 - 16])
def test_2_4_offset_any_offset_will_do(client, shared, offset) -> None:
    shared.put(ROW, offset)
    assert client.infer("identity", input_x(place("r", 16, offset)), [("y", place("r", 16, 0))])[0] in (200, "OK")
    assert shared.get(4) == FOUR


def test_1_2_offset_twice_an_offset_of_the_region_counts_from_the_object_once(client, shared) -> None:
    assert client.register("part", shared.key, 2048, 1024)[0] in (200, "OK")
    shared.put(ROW, 1024 + 512)
    client.infer("identity", input_x(place("part", 16, 512)), [("y", place("part", 16, 1024))])
    assert shared.get(4, 1024 + 1024) == FOUR


def test_each_tensor_has_its_own_way(client, shared) -> None:
    shared.put(ROW)
    inputs = [*input_x({}, ROW.tobytes()), ("b", "FP32", [1, 4], place("r", 16), None)]
    inputs[0] = ("a", *inputs[0][1:])
    for _ in range(2):
        code, found = client.infer("pair", inputs, [("difference", {}), ("sum", place("r", 16, 64))])
        assert (code in (200, "OK"), [each["name"] for each in found]) == (True, ["difference", "sum"])
        assert shared.get(4, 64) == [2, 4, 6, 9]
        shared.put(np.zeros(4, np.float32), 64)


def test_truth_values_are_made_0_and_1(client, shared) -> None:
    shared.put(np.array([0, 1, 2, 255, 0, 7], np.uint8))
    others = [dtype for dtype in PLAIN if dtype is not DType.BOOL]
    inputs: list[Any] = [(dtype.value, dtype.value, [2, 3], {}, bytes(6 * dtype.itemsize)) for dtype in others]
    inputs.append(("BOOL", "BOOL", [2, 3], place("r", 6), None))
    code, text = client.infer("types", inputs, [("BOOL_out", place("r", 6, 100))])
    assert code in (200, "OK"), text
    assert shared.get(6, 100, np.uint8) == [0, 1, 1, 1, 0, 1]


def test_2_4_copied_what_is_read_is_what_lies_there_then(client, shared) -> None:
    for value in range(4):
        shared.put(np.full(4, value, np.float32))
        client.infer("identity", input_x(place("r", 16)), [("y", place("r", 16, 64))])
        assert shared.get(4, 64) == [value] * 4


def test_a_region_of_half_a_megabyte_is_right_to_the_last_byte(client) -> None:
    values = np.random.default_rng(0).normal(size=1 << 17).astype(np.float32)
    with SharedObject(2 * values.nbytes) as made:
        made.put(values)
        client.register("big", made.key, 2 * values.nbytes)
        inputs = [("x", "FP32", [1 << 17], place("big", values.nbytes), None)]
        client.infer("large", inputs, [("y", place("big", values.nbytes, values.nbytes))])
        assert made.get(1 << 17, values.nbytes) == values.tolist()


def test_2_1_system_shared_memory_the_status_names_each_region_and_no_more_once_it_is_unregistered(
    client, shared
) -> None:
    client.register("part", f"/{shared.key}", 100, 50)
    whole = {"key": shared.key, "offset": 0, "byte_size": 4096}
    part = {"key": f"/{shared.key}", "offset": 50, "byte_size": 100}
    assert client.status()[1] == {"r": whole, "part": part}
    assert client.status("part")[1] == {"part": part}
    client.unregister("part")
    assert client.status()[1] == {"r": whole}
    client.unregister()
    assert client.status()[1] == {}


def test_unregistering_what_is_not_there_is_no_mistake(client) -> None:
    assert client.unregister("nope")[0] in (200, "OK")


@pytest.mark.parametrize("package", [tritonclient.http, tritonclient.grpc])
def test_2_1_system_shared_memory_tritons_own_client_shares_memory(sharing, package) -> None:
    url = sharing.bound.http if package is tritonclient.http else sharing.bound.grpc
    handle = triton_shm.create_shared_memory_region("tensors", "/edge_test_triton", 64)
    try:
        with package.InferenceServerClient(url) as client:
            client.register_system_shared_memory("tensors", "/edge_test_triton", 64)
            triton_shm.set_shared_memory_region(handle, [ROW])
            given, wanted = package.InferInput("x", [1, 4], "FP32"), package.InferRequestedOutput("y")
            given.set_shared_memory("tensors", 16)
            wanted.set_shared_memory("tensors", 32, offset=32)
            answer = client.infer("identity", [given], outputs=[wanted])
            assert answer.get_output("y") is not None
            assert triton_shm.get_contents_as_numpy(handle, np.float32, [4], 32).tolist() == FOUR
            client.unregister_system_shared_memory()
    finally:
        triton_shm.destroy_shared_memory_region(handle)


def test_2_2_extensions_the_extension_is_declared_where_it_is_on(serving, sharing, http_message, tmp_path) -> None:
    assert "system_shared_memory" in sharing.ask("GET", "/v2").json["extensions"]
    with tritonclient.grpc.InferenceServerClient(sharing.bound.grpc) as client:
        assert "system_shared_memory" in client.get_server_metadata().extensions
    with serving("identity", unix=str(tmp_path / "s")) as server:
        assert "system_shared_memory" not in server.ask("GET", "/v2").json["extensions"]

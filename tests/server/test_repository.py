"""Models that are loaded, loaded anew and unloaded while others are served."""

from __future__ import annotations

import gc
import socket
import struct
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from edge_runtime.client.client import Client
from edge_runtime.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigError,
    PlanCorruptError,
    PlanTargetError,
    RemoteError,
)

ROWS = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture(params=["http", "grpc"])
def connect(request) -> Callable[[Any], Any]:
    """Triton's client of a server."""
    if request.param == "http":
        return lambda server: triton_http.InferenceServerClient(server.bound.http)
    return lambda server: triton_grpc.InferenceServerClient(server.bound.grpc)


@pytest.fixture(
    params=[
        pytest.param({}, id="own"),
        pytest.param({"http_transport": "aiohttp", "grpc_transport": "grpcio"}, id="libraries", marks=pytest.mark.slow),
    ]
)
def transports(request) -> dict[str, str]:
    return request.param


def load(server: Any, name: str, verb: str = "load", **options: Any) -> Any:
    return server.ask("POST", f"/v2/repository/models/{name}/{verb}", **options)


def states(server: Any) -> dict[str, tuple[str, str]]:
    index = server.ask("POST", "/v2/repository/index").json
    return {each["name"]: (each["state"], each["reason"]) for each in index}


def row_of(server: Any, good_head: Any) -> list[float]:
    """What `identity` makes of the row."""
    head = {**good_head(), "parameters": {"binary_data_output": True}}
    return np.frombuffer(server.infer("identity", head, ROWS.tobytes()).body[-16:], np.float32).tolist()


def fails_with(error: Exception) -> Callable[[], Any]:
    def make() -> Any:
        raise error

    return make


def test_2_1_load_unload_a_model_is_loaded_asked_and_unloaded_by_tritons_clients(controlled, connect, transports):
    with controlled("identity", store=["pair"], **transports) as (server, _):
        client = connect(server)
        assert not client.is_model_ready("pair")
        client.load_model("pair")
        assert client.is_model_ready("pair")
        assert server.counts("pair") == (0, 0)
        client.unload_model("pair")
        assert not client.is_model_ready("pair")
        with pytest.raises(InferenceServerException, match="was unloaded"):
            client.get_model_metadata("pair")
        client.close()


def test_the_index_has_what_the_store_has_and_what_became_of_it(controlled):
    with controlled("identity", store=["identity", "pair"]) as (server, _):
        assert states(server) == {"identity": ("READY", ""), "pair": ("UNAVAILABLE", "")}
        load(server, "pair")
        load(server, "identity", "unload")
        assert states(server) == {"pair": ("READY", ""), "identity": ("UNAVAILABLE", "unloaded")}
        ready = server.ask("POST", "/v2/repository/index", b'{"ready": true}').json
        assert [each["name"] for each in ready] == ["pair"]
        metrics = server.ask("GET", "/metrics").body
        assert b'model="identity"' not in metrics
        assert server.ask("GET", "/v2/health/ready").status == 200


def test_all_that_was_kept_of_a_model_is_found_anew_when_it_is_loaded_again(
    controlled, good_head, doubling, transports
):
    with controlled("identity", store={"identity": doubling}, **transports) as (server, _):
        x = triton_grpc.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(ROWS)
        with triton_grpc.InferenceServerClient(server.bound.grpc) as client:
            for factor in (1, 2):
                assert row_of(server, good_head) == (ROWS[0] * factor).tolist()
                assert client.infer("identity", [x]).as_numpy("y").tolist() == (ROWS * factor).tolist()
                assert server.counts("identity") == (2, 0)
                load(server, "identity")


def test_the_live_page_counts_a_model_that_is_loaded_anew_from_nothing(controlled, good_head):
    def live() -> Any:
        return server.ask("GET", "/live").json["models"][0]

    with controlled("identity", store=["identity"]) as (server, _):
        live()
        for _ in range(3):
            row_of(server, good_head)
        assert live()["total"]["latency"]["n"] == 3
        load(server, "identity")
        found = live()
        assert (found["total"]["succeeded"], found["total"]["latency"]["n"]) == (0, 0)
        assert [window["requests_per_s"] for window in found["windows"]] == [None, None]


def test_a_request_whose_body_comes_while_its_model_is_loaded_anew_is_answered_by_the_new_one(
    controlled, http_message, http_replies, doubling, transports
):
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}'
    data = http_message("POST", "/v2/models/identity/infer", body)
    store = {"identity": doubling}
    with controlled("identity", store=store, **transports) as (server, _), server.connection() as connection:
        connection.sendall(data[:-10])
        load(server, "identity")
        connection.sendall(data[-10:])
        (reply,) = http_replies(connection, 1)
    assert reply.json["outputs"][0]["data"] == [2, 4, 6, 8]


def test_a_request_whose_body_comes_while_its_model_is_unloaded_is_told_so(
    controlled, http_message, http_replies, transports
):
    data = http_message("POST", "/v2/models/identity/infer", b"{}")
    with controlled("identity", **transports) as (server, _), server.connection() as connection:
        connection.sendall(data[:-1])
        load(server, "identity", "unload")
        connection.sendall(data[-1:])
        (reply,) = http_replies(connection, 1)
    assert (reply.status, "was unloaded" in reply.json["error"]) == (404, True)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PlanCorruptError("/srv/secret: broken"), "damaged"),
        (PlanTargetError("/srv/secret: sm_87"), "another board"),
        (ConfigError("/srv/secret.toml"), "settings"),
        (BackendUnavailableError("/srv/secret.so"), "no library or device"),
        (BackendError("/srv/secret"), "can't load its plan"),
    ],
)
def test_1_1_lifecycle_a_load_that_fails_leaves_the_old_one_serving_and_says_no_path(
    controlled, good_head, error, text
):
    with controlled("identity", store={"identity": fails_with(error)}) as (server, _):
        refused = load(server, "identity")
        assert refused.status == 400
        assert text in refused.json["error"]
        assert "secret" not in refused.json["error"]
        assert text in states(server)["identity"][1]
        assert row_of(server, good_head) == ROWS[0].tolist()


def test_a_failure_to_load_that_nobody_foresaw_is_internal(controlled, connect):
    with controlled("identity", store={"odd": fails_with(ValueError("secret"))}) as (server, _):
        client = connect(server)
        with pytest.raises(InferenceServerException, match="internal error"):
            client.load_model("odd")
        assert client.is_server_ready()
        client.close()


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("none", 404),
        ("n" * 128, 404),
        ("n" * 300, 400),
        ("..", 400),
        (".hidden", 400),
        ("%2e%2e%2fetc", 400),
        ("a%2Fb", 400),
        ("a%00b", 400),
        ("a%0Ab", 400),
        ("%F0%9F%92%A9", 400),
    ],
)
def test_1_2_traversal_names_are_checked_before_they_touch_a_path(controlled, name, status, verb):
    with controlled("identity", store=["pair"]) as (server, source):
        assert load(server, name, verb).status == status
        assert source.made == []
        assert server.ask("GET", "/v2/health/live").status == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"parameters": {"config": "{}"}}', "'config'"),
        (b'{"parameters": {"file:1/model.plan": "AAAA"}}', "'file:1/model.plan'"),
        (b'{"parameters": {"' + b"f" * 300 + b'": 1}}', "'ffff"),
        (b'{"files": 1}', "'files'"),
        (b'{"parameters": 1}', "parameters"),
        (b"{", "JSON"),
        (b"[" * 200_000, "65536"),
    ],
)
def test_1_2_file_name_what_is_asked_for_beside_the_model_is_refused_by_name(controlled, body, said):
    with controlled("identity", store=["identity"]) as (server, source):
        refused = load(server, "identity", body=body)
        assert refused.status == (413 if said == "65536" else 400)
        assert said in refused.json["error"]
        assert len(refused.json["error"]) < 512
        assert source.made == []


def test_parameters_over_grpc_are_refused_by_name_but_for_one_without_meaning(controlled):
    with controlled("identity", store=["pair"]) as (server, _):
        client = triton_grpc.InferenceServerClient(server.bound.grpc)
        with pytest.raises(InferenceServerException, match=r"'(config|file:1/x)'") as caught:
            client.load_model("pair", config="{}", files={"file:1/x": b"x"})
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        client.load_model("pair")
        client.unload_model("pair", unload_dependents=True)
        client.close()


def test_without_model_control_it_is_refused_with_the_flag_that_switches_it_on(server, connect):
    client = connect(server)
    for refused in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="--model-control"):
            refused("identity")
    client.close()
    assert load(server, "identity").status == 403
    assert "model_repository" in server.ask("GET", "/v2").json["extensions"]


def test_an_unload_waits_for_what_is_under_way_and_takes_nothing_new(controlled, gated, http_message, http_replies):
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}'
    with controlled(gated.engine, store=["pair"]) as (server, _), server.connection() as connection:
        connection.sendall(http_message("POST", "/v2/models/gated/infer", body))
        assert gated.begun.acquire(timeout=10)
        with ThreadPoolExecutor(1) as pool:
            unloading = pool.submit(load, server, "gated", "unload")
            while server.ask("GET", "/v2/models/gated").status == 200:
                pass
            assert not unloading.done()
            assert gated.engine.slot_count == 1
            gated.release()
            assert unloading.result(10).status == 200
        assert [reply.status for reply in http_replies(connection, 1)] == [200]
        assert gated.engine.slot_count == 0


def test_what_is_asked_of_one_model_is_done_in_order_and_others_dont_wait_for_it(controlled, tiny_engine):
    goes_on, has_begun = threading.Event(), threading.Event()

    def slowly() -> Any:
        has_begun.set()
        assert goes_on.wait(10)
        return tiny_engine("pair")

    store = {"pair": slowly, "scalar": lambda: tiny_engine("scalar")}
    with controlled("identity", store=store) as (server, _), ThreadPoolExecutor(2) as pool:
        loading = pool.submit(load, server, "pair")
        assert has_begun.wait(10)
        unloading = pool.submit(load, server, "pair", "unload")
        assert states(server)["pair"][0] == "LOADING"
        assert load(server, "scalar").status == 200
        assert not unloading.done()
        goes_on.set()
        assert (loading.result(10).status, unloading.result(10).status) == (200, 200)
        assert states(server)["pair"] == ("UNAVAILABLE", "unloaded")


def test_a_client_that_goes_away_ends_no_load(controlled, tiny_engine, http_message):
    goes_on, has_begun = threading.Event(), threading.Event()

    def slowly() -> Any:
        has_begun.set()
        assert goes_on.wait(10)
        return tiny_engine("pair")

    with controlled("identity", store={"pair": slowly}) as (server, _):
        with server.connection() as connection:
            connection.sendall(http_message("POST", "/v2/repository/models/pair/load"))
            assert has_begun.wait(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        goes_on.set()
        assert load(server, "pair", "unload").status == 200  # in its turn


def test_1_1_lifecycle_a_server_that_is_stopped_while_it_loads_ends_in_time(controlled, tiny_engine):
    goes_on, has_begun = threading.Event(), threading.Event()

    def slowly() -> Any:
        has_begun.set()
        assert goes_on.wait(20)
        return tiny_engine("pair")

    with controlled("identity", store={"pair": slowly}) as (server, source), ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, server, "pair")
        assert has_begun.wait(10)
        server.signal()
        assert loading.result(10).status == 503
        server.thread.join(10)
        assert not server.thread.is_alive()
        assert server.outcome == [True]
        goes_on.set()
    end = time.monotonic() + 10
    while not source.made or source.made[0].slot_count:
        assert time.monotonic() < end


def test_the_engine_of_an_unloaded_model_is_freed(controlled, tiny_engine):
    with controlled(store=["identity"]) as (server, source):
        assert load(server, "identity").status == 200
        plan = weakref.ref(source.made[0]._make_slot_over.__self__)
        row = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}'
        assert server.ask("POST", "/v2/models/identity/infer", row).status == 200
        assert load(server, "identity", "unload").status == 200
        gc.collect()
        assert plan() is None


def test_frames_end_when_their_model_is_loaded_anew_and_can_be_opened_again(controlled, doubling, tmp_path):
    path = str(tmp_path / "s")
    store, url = {"identity": doubling}, f"unix://{path}"
    with controlled("identity", store=store, unix=path) as (server, _), Client(url) as client:
        for factor in (1, 2):
            with client.frames("identity", {"x": (1, 4)}) as frames:
                frames[0].inputs["x"][:] = ROWS
                assert frames[0].run()["y"].tolist() == (ROWS * factor).tolist()
                assert load(server, "identity").status == 200
                with pytest.raises(RemoteError, match="NOT_FOUND"):
                    frames[0].run()


def test_a_model_is_unloaded_behind_the_frames_that_run(controlled, gated, tmp_path):
    path = str(tmp_path / "s")
    url, pool = f"unix://{path}", ThreadPoolExecutor(1)
    gated.release(2)
    with controlled(gated.engine, unix=path) as (server, _), Client(url) as client, pool:
        frames = client.frames("gated", {"x": (1, 4)})
        gated.take_back()
        while gated.begun.acquire(blocking=False):
            pass
        frames[0].start()
        assert gated.begun.acquire(timeout=10)
        unloading = pool.submit(load, server, "gated", "unload")
        while server.ask("GET", "/v2/models/gated").status == 200:
            pass
        assert not unloading.done()
        gated.release()
        frames[0].wait()
        assert unloading.result(10).status == 200
        frames.close()

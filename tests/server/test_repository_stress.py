"""Models are loaded anew, unloaded and loaded again under traffic: no wrong answer, nothing kept that was for them."""

from __future__ import annotations

import gc
import itertools
import queue
import random
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from edge_runtime.client.client import Client
from edge_runtime.errors import RemoteError, ServerUnavailableError

ROUNDS = 40


def resident_nbytes() -> int:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Traffic:
    """Threads that ask, each in its own way, until they are stopped: what was wrong, how much was right."""

    def __init__(self, asks: dict[str, Callable[[np.ndarray], Any]], may_be_refused: bool) -> None:
        self._may_be_refused = may_be_refused
        self.wrong: list[str] = []
        self.right = dict.fromkeys(asks, 0)
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=each) for each in asks.items()]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _ask(self, name: str, ask: Callable[[np.ndarray], Any]) -> None:
        for number in itertools.count():
            rows = np.full((1, 4), number % 1000, np.float32)
            if self._is_over.is_set():
                return
            try:
                found = ask(rows)
            except (RemoteError, ServerUnavailableError) as error:
                is_gone = isinstance(error, ServerUnavailableError) or error.status in (404, "NOT_FOUND")
                if not (is_gone and self._may_be_refused):
                    self.wrong.append(f"{name}: {error}")
                continue
            is_right = np.array_equal(found, rows) or np.array_equal(found, 2 * rows)
            self.right[name] += is_right
            if not is_right:
                self.wrong.append(f"{name}: {rows[0, 0]} -> {found}")


def asker(client: Client, model: str) -> Callable[[np.ndarray], Any]:
    return lambda rows: client.infer(model, {"x": rows})["y"]


def ringer(client: Client, model: str, closing: ExitStack) -> Callable[[np.ndarray], Any]:
    """Asks by frames, which it opens again when their model is gone."""
    opened: list[Any] = []
    closing.callback(lambda: [each.close() for each in opened])

    def ring(rows: np.ndarray) -> Any:
        if not opened:
            opened.append(client.frames(model, {"x": (1, 4)}))
        frame = opened[0][0]
        frame.inputs["x"][:] = rows
        try:
            return frame.run()["y"].copy()
        except RemoteError:
            opened.pop().close()
            raise

    return ring


def json_asker(server: Any, model: str) -> Callable[[np.ndarray], Any]:
    """Asks in JSON, which takes another way."""

    def ask(rows: np.ndarray) -> Any:
        text = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": %s}]}'
        reply = server.ask("POST", f"/v2/models/{model}/infer", text % str(rows[0].tolist()).encode())
        if reply.status == 503:
            raise ServerUnavailableError(reply.json["error"])
        if reply.status != 200:
            raise RemoteError(reply.json["error"], reply.status)
        return np.array([reply.json["outputs"][0]["data"]], np.float32)

    return ask


def streamer(url: str, model: str, closing: ExitStack) -> Callable[[np.ndarray], Any]:
    """Asks on one stream of gRPC, by Triton's client."""
    client = closing.enter_context(triton_grpc.InferenceServerClient(url))
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    closing.callback(client.stop_stream)

    def ask(rows: np.ndarray) -> Any:
        x = triton_grpc.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(rows)
        client.async_stream_infer(model, [x])
        result, error = answers.get(timeout=20)
        if error is not None:
            raise RemoteError(str(error), 404 if "was unloaded" in str(error) else 500)
        return result.as_numpy("y")

    return ask


@pytest.fixture(params=["identity", pytest.param("unhurried", marks=pytest.mark.slow)])
def lively(request, controlled, tiny_engine, doubling, unhurried_engine, tmp_path):
    """A server whose model is now one engine, now another, what changes that, and traffic of every kind on it.

    Runs of `identity` are made on the loop's thread, those of `unhurried` in lanes.
    """
    model = request.param
    makers = itertools.cycle([doubling, lambda: tiny_engine("identity")])

    def next_identity() -> Any:
        return next(makers)()

    store = {"identity": next_identity, "unhurried": unhurried_engine}
    path = str(tmp_path / "s")
    with controlled(store[model](), store=store, unix=path) as (server, source):
        urls = {"http": f"http://{server.bound.http}", "grpc": f"grpc://{server.bound.grpc}", "unix": f"unix://{path}"}
        with ExitStack() as closing:
            clients = {name: closing.enter_context(Client(url)) for name, url in urls.items()}
            asks = {name: asker(client, model) for name, client in clients.items()}
            lane = ringer(closing.enter_context(Client(urls["unix"])), model, closing)
            stream = streamer(server.bound.grpc, model, closing)
            asks.update({"json": json_asker(server, model), "lane": lane, "stream": stream})
            yield partial(change, server, model), source, asks


def change(server: Any, model: str, rounds: int, verbs: tuple[str, ...]) -> None:
    rng = random.Random(0)
    for _ in range(rounds):
        reply = server.ask("POST", f"/v2/repository/models/{model}/{rng.choice(verbs)}")
        assert reply.status in (200, 404), reply.json
    assert server.ask("POST", f"/v2/repository/models/{model}/load").status == 200


def test_no_request_is_lost_while_its_model_is_loaded_anew(lively):
    changed, source, asks = lively
    lane = asks.pop("lane")
    with Traffic(asks, may_be_refused=False) as traffic, Traffic({"lane": lane}, may_be_refused=True) as frames:
        changed(ROUNDS, ("load",))
    assert traffic.wrong == frames.wrong == []
    assert min(*traffic.right.values(), *frames.right.values()) > 0
    assert all(engine.slot_count == 0 for engine in source.made[:-1])


def lasting_descriptors():
    """The fewest that were open within half a second: regions of the lane and connections come and go."""
    fewest = descriptors()
    for _ in range(25):
        time.sleep(0.02)
        fewest = min(fewest, descriptors())
    return fewest


def test_memory_and_descriptors_stay_as_they_are_whatever_is_loaded_and_unloaded(lively):
    changed, source, asks = lively
    with Traffic(asks, may_be_refused=True) as traffic:
        changed(ROUNDS, ("load", "unload"))
        before = resident_nbytes(), lasting_descriptors(), threading.active_count()
        changed(2 * ROUNDS, ("load", "unload", "load"))
        after = resident_nbytes(), lasting_descriptors(), threading.active_count()
    nbytes, opened, threads = (now - then for now, then in zip(after, before))
    assert nbytes < 8 << 20
    assert opened <= 2
    assert threads <= 8  # the loop's pool grows to its size
    assert traffic.wrong == []
    assert min(traffic.right.values()) > 0
    assert all(engine.slot_count == 0 for engine in source.made[:-1])

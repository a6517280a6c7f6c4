"""Versions take each other's place under load: no request fails, and each is answered by the version that it names."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import threading
from typing import Any, Callable, Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from fakes.versioned_plans import VersionedPlans
from tritonclient.utils import InferenceServerException

from edge_runtime.errors import GoldenRunError, InsufficientMemoryError, PlanCorruptError

Ask = Callable[[float], "tuple[str, float]"]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def http_asker(connection: http.client.HTTPConnection) -> Ask:
    """The version that answered, and its answer."""

    def ask(value: float) -> tuple[str, float]:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [value] * 4}
        connection.request("POST", "/v2/models/m/infer", json.dumps({"inputs": [tensor]}))
        reply = connection.getresponse()
        text = reply.read()
        assert reply.status == 200, text
        found = json.loads(text)
        return found["model_version"], found["outputs"][0]["data"][0]

    return ask


def grpc_asker(client: triton_grpc.InferenceServerClient) -> Ask:
    def ask(value: float) -> tuple[str, float]:
        x = triton_grpc.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(np.full((1, 4), value, np.float32))
        found = client.infer("m", [x])
        return found.get_response().model_version, float(found.as_numpy("y")[0, 0])

    return ask


@contextlib.contextmanager
def askers(server: Any, each: int) -> Iterator[list[Ask]]:
    """So many of each transport."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(each):
            tcp, unix = http.client.HTTPConnection(server.bound.http, timeout=20), UnixConnection(server.bound.unix)
            found += [http_asker(stack.enter_context(contextlib.closing(one))) for one in (tcp, unix)]
            found.append(grpc_asker(stack.enter_context(triton_grpc.InferenceServerClient(server.bound.grpc))))
        yield found


class Load:
    """Threads that ask until `requests` were answered (None: until one fails); what went wrong, who answered."""

    def __init__(self, asks: list[Ask], requests: int | None) -> None:
        self.failed: list[str] = []
        self.versions: dict[str, int] = {}
        self._numbers = itertools.count()
        self._requests = requests
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(ask,)) for ask in asks]
        for thread in self._threads:
            thread.start()

    @property
    def is_over(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
        assert self.is_over

    def _run(self, ask: Ask) -> None:
        while True:
            number = next(self._numbers)
            if self._requests is not None and number >= self._requests:
                return
            value = float(number % 1000 + 1)
            try:
                version, answer = ask(value)
                problem = "" if answer == int(version) * value else f"version {version}: {value} -> {answer}"
            except (AssertionError, OSError, http.client.HTTPException, InferenceServerException) as error:
                version, problem = "", f"{type(error).__name__}: {error}"
            with self._lock:
                self.versions[version] = self.versions.get(version, 0) + 1
                if problem:
                    self.failed.append(problem)
                    if self._requests is None:
                        return


LONG = pytest.param(10_000, 2, 48, marks=pytest.mark.slow)


@pytest.mark.parametrize("usual_ns", [0, 1_000_000], ids=["on the loop", "in lanes"])
@pytest.mark.parametrize(("requests", "each", "least_swaps"), [(1_000, 1, 12), LONG])
def test_no_request_fails_and_each_answer_is_its_versions(kept, tmp_path, usual_ns, requests, each, least_swaps):
    plans, path = VersionedPlans(m=1), str(tmp_path / "s")
    plans.usual_ns = usual_ns
    with kept(plans, {"unix": path}, is_following=True) as server, askers(server, each) as asks:
        load, version = Load(asks, requests), 1
        while not load.is_over or version <= least_swaps:
            version += 1
            plans.serve("m", version)
            server.reload()
        load.join()
        swaps = server.ask("GET", "/metrics").body.decode().split('outcome="swapped"} ')[1].split("\n")[0]
    assert load.failed == []
    assert sum(load.versions.values()) == requests
    assert len(load.versions) > 3
    assert int(swaps) == version - 1 >= least_swaps
    assert all(made.engine.slot_count == 0 for made in plans.made)


@pytest.mark.parametrize("usual_ns", [0, 1_000_000], ids=["on the loop", "in lanes"])
def test_bad_versions_among_the_good_ones_cost_no_request(kept, tmp_path, usual_ns):
    plans, path = VersionedPlans(m=1), str(tmp_path / "s")
    plans.usual_ns = usual_ns
    errors = itertools.cycle([PlanCorruptError("a"), GoldenRunError("b"), InsufficientMemoryError("c", 1)])
    with kept(plans, {"unix": path}, is_following=True, is_staying_up=True) as server, askers(server, 1) as asks:
        load, version = Load(asks, 1_000), 1
        while not load.is_over or version < 12:
            version += 1
            if version % 2 == 0:
                plans.fails["m", version] = next(errors)
            plans.serve("m", version)
            server.reload()
        load.join()
    assert load.failed == []
    assert all(int(found) % 2 for found in load.versions)


def test_swaps_unloads_loads_and_failing_loads_of_one_model_leave_it_whole(kept, tmp_path):
    """Whatever comes in whatever order, a request is answered rightly or told that the model isn't there."""
    plans, path = VersionedPlans(m=1), str(tmp_path / "s")
    plans.fails.update({("m", version): PlanCorruptError("broken") for version in range(3, 400, 5)})
    over, changed = threading.Event(), []

    def administer(server: Any, verb: str) -> None:
        while not over.is_set():
            changed.append(server.ask("POST", f"/v2/repository/models/m/{verb}").status)

    with kept(plans, {"unix": path}, is_following=True, interval_s=0.01) as server, askers(server, 1) as asks:
        threads = [threading.Thread(target=administer, args=(server, verb)) for verb in ("load", "unload")]
        for thread in threads:
            thread.start()
        load = Load(asks, 600)
        for version in range(2, 60):
            plans.serve("m", version)
            server.reload()
        load.join()
        over.set()
        for thread in threads:
            thread.join(20)
        plans.serve("m", 400)
        assert server.ask("POST", "/v2/repository/models/m/load").status == 200
        assert asks[0](2.0) == ("400", 800.0)
        found = server.ask("POST", "/v2/repository/index").json
        assert [(each["state"], each["reason"]) for each in found] == [("READY", "")]
    assert set(changed) <= {200, 400, 404}
    told = ("was unloaded", "its plan is damaged")
    assert [problem for problem in load.failed if not any(words in problem for words in told)] == []
    assert all(made.engine.slot_count == 0 for made in plans.made)


@pytest.mark.parametrize("kind", ["swap", "failing swap"])
def test_a_server_that_is_told_to_stop_amid_swaps_answers_what_it_took_in(kept, tmp_path, kind):
    plans, path = VersionedPlans(m=1), str(tmp_path / "s")
    with kept(plans, {"unix": path}, is_following=True, interval_s=0.01) as server, askers(server, 1) as asks:
        load = Load(asks, None)
        for version in range(2, 12):
            if kind == "failing swap":
                plans.fails["m", version] = PlanCorruptError("broken")
            plans.serve("m", version)
            server.reload()
        plans.serve("m", 99)
        server.signal()
        load.join()
        server.thread.join(20)
        assert server.outcome == [True]
    told = (
        "503",
        "UNAVAILABLE",
        "ConnectionError",
        "ConnectionReset",
        "ConnectionRefused",
        "RemoteDisconnected",
        "BrokenPipe",
    )
    assert [problem for problem in load.failed if not any(word in problem for word in told)] == []
    assert all(made.engine.slot_count == 0 for made in plans.made)

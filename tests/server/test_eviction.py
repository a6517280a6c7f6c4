"""Models that give way to others that need their memory, and come back when they are asked for."""

from __future__ import annotations

import time
from typing import Any, Callable

import numpy as np
import pytest
from fakes.versioned_plans import VersionedPlans
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from edge_runtime.client.client import Client
from edge_runtime.errors import InsufficientMemoryError, PlanCorruptError, ServerUnavailableError
from edge_runtime.plan.serving import ServingTable
from edge_runtime.server.memory.ledger import MemoryLedger, MemoryLimits

ROW = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}'
ONES = np.ones((1, 4), np.float32)
AT_ONCE_S = 1e-9
LONG_S = 3600.0


def plans_for(budget: int, **served: int) -> VersionedPlans:
    """Models that need 1 each, of a budget."""
    return VersionedPlans(MemoryLedger(MemoryLimits(budget_nbytes=budget), lambda: None), **served)


def ask(server: Any, name: str) -> Any:
    return server.ask("POST", f"/v2/models/{name}/infer", ROW)


def load(server: Any, name: str) -> Any:
    return server.ask("POST", f"/v2/repository/models/{name}/load")


def loaded(server: Any) -> list[str]:
    index = server.ask("POST", "/v2/repository/index", b'{"ready": true}').json
    return sorted(each["name"] for each in index)


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end


@pytest.fixture
def crowded(kept):
    """A server with models a and b, b the last that ran, room for no third, and a third, c, in the store."""

    def start(**keeping: Any):
        plans = plans_for(2, a=1, b=2, c=3)
        plans.fails["c", 3] = InsufficientMemoryError("no room", 1)  # it isn't there at the start
        return plans, kept(plans, **{"evict_idle_s": AT_ONCE_S, **keeping})

    return start


def test_the_model_that_ran_longest_ago_gives_way(crowded) -> None:
    plans, serving = crowded()
    with serving as server:
        plans.fails.clear()
        for name in "ab":
            assert ask(server, name).status == 200
        assert load(server, "c").status == 200
        assert loaded(server) == ["b", "c"]
        assert b'edge_runtime_model_standing{model="a",state="gave way"} 1' in server.ask("GET", "/metrics").body


def test_what_gave_way_is_loaded_again_for_who_asks_for_it_and_others_give_way_to_it(crowded) -> None:
    plans, serving = crowded()
    with serving as server:
        plans.fails.clear()
        for name in "abc":
            ask(server, name)
        until(lambda: loaded(server) == ["b", "c"])
        refused = ask(server, "a")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "it is loaded again when it is asked for" in refused.json["error"]
        until(lambda: ask(server, "a").status == 200)
        assert loaded(server) == ["a", "c"]


def test_asking_about_a_model_doesnt_load_it_and_its_absence_leaves_the_server_ready(crowded) -> None:
    plans, serving = crowded()
    with serving as server:
        plans.fails.clear()
        tried = list(plans.tried)
        assert server.ask("GET", "/v2/models/c/ready").status == 503
        assert server.ask("GET", "/v2/models/c").status == 503
        assert server.ask("GET", "/v2/health/ready").status == 200
        assert plans.tried == tried
        index = server.ask("POST", "/v2/repository/index").json
        assert [(each["name"], each["state"]) for each in index] == [
            ("a", "READY"),
            ("b", "READY"),
            ("c", "UNAVAILABLE"),
        ]


@pytest.mark.parametrize("kind", ["grpc", "unix"])
def test_it_is_asked_for_over_every_transport(crowded, tmp_path, kind) -> None:
    path = str(tmp_path / "s")
    plans, serving = crowded(settings={"unix": path})
    with serving as server:
        plans.fails.clear()
        if kind == "grpc":
            x = InferInput("x", [1, 4], "FP32")
            x.set_data_from_numpy(ONES)
            with InferenceServerClient(server.bound.grpc) as client:
                with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
                    client.infer("c", [x])
                until(lambda: client.is_model_ready("c"))
        else:
            with Client(f"unix://{path}") as client:
                with pytest.raises(ServerUnavailableError):
                    client.infer("c", {"x": ONES})
                until(lambda: "c" in loaded(server))
                assert client.infer("c", {"x": ONES})["y"][0, 0] == 3


def test_pinned_models_stay_whatever_needs_their_memory(crowded) -> None:
    plans, serving = crowded()
    plans.serving["a"] = ServingTable(pinned=True)
    with serving as server:
        plans.fails.clear()
        for name in "ab":
            ask(server, name)
        assert load(server, "c").status == 200
        assert loaded(server) == ["a", "c"]


def test_a_model_that_ran_a_moment_ago_doesnt_give_way(crowded) -> None:
    plans, serving = crowded(evict_idle_s=LONG_S)
    with serving as server:
        plans.fails.clear()
        refused = load(server, "c")
        assert refused.status == 503
        assert "memory_budget_mib" in refused.json["error"]
        assert loaded(server) == ["a", "b"]


def test_nothing_gives_way_in_vain(crowded) -> None:
    plans, serving = crowded()
    with serving as server:
        plans.fails.clear()
        plans.need_nbytes = 3
        assert load(server, "c").status == 503
        assert loaded(server) == ["a", "b"]


def test_without_eviction_a_model_over_the_budget_is_refused(kept) -> None:
    plans = plans_for(1, a=1)
    with kept(plans) as server:
        plans.serve("b", 2)
        assert load(server, "b").status == 503
        assert loaded(server) == ["a"]
        assert server.ask("POST", "/v2/repository/models/a/unload").status == 200
        assert load(server, "b").status == 200


def test_a_storm_of_requests_for_a_model_without_room_tries_to_load_it_once_a_second(crowded) -> None:
    plans, serving = crowded(evict_idle_s=LONG_S)
    with serving as server:
        plans.fails.clear()
        before = len(plans.tried)
        for _ in range(50):
            assert ask(server, "c").status == 503
        assert 1 <= len(plans.tried) - before <= 3


def test_a_model_that_gave_way_and_is_broken_by_now_is_absent_with_the_reason(crowded) -> None:
    plans, serving = crowded()
    with serving as server:
        plans.fails["c", 3] = PlanCorruptError("broken")
        ask(server, "c")
        until(lambda: "its plan is damaged" in ask(server, "c").json["error"])
        assert server.ask("GET", "/v2/health/ready").status == 503


def test_a_model_that_gave_way_can_be_unloaded(crowded) -> None:
    plans, serving = crowded()
    with serving as server:
        plans.fails.clear()
        assert server.ask("POST", "/v2/repository/models/c/unload").status == 200
        assert ask(server, "c").status == 404


def test_models_that_are_asked_for_in_turn_all_answer(crowded) -> None:
    plans, serving = crowded()
    with serving as server:
        plans.fails.clear()
        for name in "abcacbbca":
            until(lambda name=name: ask(server, name).status == 200)
        held = plans.ledger.held
    assert len(held) == 2


def test_a_swap_counts_both_versions_against_what_is_available(kept) -> None:
    available = [3]
    plans = VersionedPlans(MemoryLedger(MemoryLimits(), lambda: available[0]), need_nbytes=2, m=1)
    with kept(plans, is_following=True) as server:
        available[0] = 1  # what is left beside the old one
        plans.serve("m", 2)
        server.reload()
        assert server.ask("GET", "/v2/models/m").json["versions"] == ["1"]
        available[0] = 2
        server.reload()
        assert server.ask("GET", "/v2/models/m").json["versions"] == ["2"]

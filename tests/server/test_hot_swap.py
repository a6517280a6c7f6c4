"""Versions that a store serves anew, and what becomes of those that don't load."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from fakes.versioned_plans import VersionedPlans

from edge_runtime.errors import (
    BackendUnavailableError,
    DeviceLostError,
    EdgeRuntimeError,
    GoldenRunError,
    InsufficientMemoryError,
    PlanCorruptError,
    PlanTargetError,
    PlanUntrustedError,
)
from edge_runtime.server.rebuild import Rebuilds
from edge_runtime.server.reloading import Told
from edge_runtime.server.settings import ServerSettings

ONES = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}'


def answer(server: Any, name: str = "m") -> tuple[str, float]:
    """The version that answered, by its own word and by its answer."""
    found = server.ask("POST", f"/v2/models/{name}/infer", ONES).json
    return found["model_version"], found["outputs"][0]["data"][0]


def entry(server: Any, name: str = "m") -> dict[str, str]:
    return next(each for each in server.ask("POST", "/v2/repository/index").json if each["name"] == name)


def samples(server: Any, metric: str) -> set[str]:
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    return {line[len(metric) :] for line in lines if line.startswith(f"{metric}{{")}


def is_ready(server: Any, name: str = "") -> bool:
    path = f"/v2/models/{name}/ready" if name else "/v2/health/ready"
    return server.ask("GET", path).status == 200


def test_a_version_that_is_served_anew_takes_the_old_ones_place_by_itself(kept) -> None:
    plans = VersionedPlans(m=1)
    with kept(plans, is_following=True) as server:
        assert answer(server) == ("1", 1.0)
        plans.serve("m", 3)
        server.reload()
        assert answer(server) == ("3", 3.0)
        plans.serve("m", 2)
        server.reload()
        assert answer(server) == ("2", 2.0)
        assert samples(server, "edge_runtime_swaps_total") == {'{model="m",outcome="swapped"} 2'}
    assert [made.engine.slot_count for made in plans.made] == [0, 0, 0]


def test_nothing_is_loaded_while_the_store_stays_as_it_is(kept) -> None:
    plans = VersionedPlans(m=1)
    with kept(plans, is_following=True) as server:
        for _ in range(3):
            server.reload()
    assert plans.tried == [("m", 1)]


class CountingConfiguration:
    """Settings that don't change; a semaphore has one for each time that they were read."""

    def __init__(self) -> None:
        self.first = Told(ServerSettings(), {}, {})
        self.is_reloadable = True
        self.reads = threading.Semaphore(0)

    def read(self, models: Any) -> Told:
        self.reads.release()
        return self.first


def test_settings_are_read_anew_while_a_version_that_a_reload_found_is_still_being_loaded(kept) -> None:
    plans, told = VersionedPlans(m=1), CountingConfiguration()
    begun, goes_on = threading.Event(), threading.Event()
    with kept(plans, configuration=told, is_following=True) as server:
        plans.before = lambda name: (begun.set(), goes_on.wait(20))
        plans.serve("m", 2)
        reloads = [threading.Thread(target=server.reload) for _ in range(2)]
        reloads[0].start()
        assert begun.wait(10)
        assert told.reads.acquire(timeout=10)
        reloads[1].start()
        assert told.reads.acquire(timeout=10)
        assert answer(server) == ("1", 1.0)
        goes_on.set()
        for each in reloads:
            each.join(20)
        assert answer(server) == ("2", 2.0)


def test_without_following_nothing_changes_by_itself(kept) -> None:
    plans = VersionedPlans(m=1)
    with kept(plans) as server:
        plans.serve("m", 2)
        server.reload()
        assert answer(server) == ("1", 1.0)


def test_a_model_that_is_new_in_the_store_is_served_where_all_are(kept) -> None:
    plans = VersionedPlans(m=1)
    with kept(plans, is_following=True) as server:
        plans.serve("other", 4)
        server.reload()
        assert answer(server, "other") == ("4", 4.0)


def test_a_store_that_serves_nothing_any_more_is_told_of_and_what_is_loaded_serves_on(kept) -> None:
    plans = VersionedPlans(m=1)
    with kept(plans, is_following=True) as server:
        plans.serve("m", 0)
        server.reload()
        assert answer(server) == ("1", 1.0)
        assert entry(server)["reason"] == ("can't be loaded: the store has no plan of it to serve; version 1 serves on")


def test_only_named_models_are_followed(kept) -> None:
    plans = VersionedPlans(m=1)
    with kept(plans, is_following=True, names=("m",)) as server:
        plans.serve("other", 4)
        server.reload()
        assert server.ask("GET", "/v2/models/other").status == 404


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PlanCorruptError("/srv/secret"), "its plan is damaged"),
        (PlanTargetError("/srv/secret"), "another board"),
        (GoldenRunError("/srv/secret"), "answers otherwise than when it was built"),
        (InsufficientMemoryError("model 'm' needs 900 MiB"), "needs 900 MiB"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_version_that_fails_leaves_the_old_one_serving_and_ready_and_is_told(kept, error, said, logged) -> None:
    plans = VersionedPlans(m=1)
    plans.fails["m", 2] = error
    with kept(plans, is_following=True, is_staying_up=True) as server:
        plans.serve("m", 2)
        server.reload()
        assert answer(server) == ("1", 1.0)
        assert is_ready(server)
        assert entry(server)["state"] == "READY"
        reason = entry(server)["reason"]
        assert reason.startswith("version 2 can't be loaded: ")
        assert said in reason
        assert reason.endswith("; version 1 serves on")
        assert "secret" not in reason
        assert samples(server, "edge_runtime_model_standing") == {'{model="m",state="kept back"} 1'}
        assert any(str(error) in line for line in logged())


def test_a_broken_version_is_tried_again_when_the_store_changes(kept) -> None:
    plans = VersionedPlans(m=1)
    plans.fails["m", 2] = PlanCorruptError("broken")
    with kept(plans, is_following=True) as server:
        plans.serve("m", 2)
        server.reload()
        del plans.fails["m", 2]
        plans.serve("m", 2)
        server.reload()
        assert answer(server) == ("2", 2.0)
        assert entry(server)["reason"] == ""


def test_going_back_to_what_serves_ends_the_matter(kept) -> None:
    plans = VersionedPlans(m=1)
    plans.fails["m", 2] = PlanCorruptError("broken")
    with kept(plans, is_following=True) as server:
        for version in (2, 1):
            plans.serve("m", version)
            server.reload()
        assert entry(server)["reason"] == ""
        assert samples(server, "edge_runtime_model_standing") == set()


def test_an_older_version_stands_in_from_the_start_and_the_server_says_that_it_isnt_ready(kept) -> None:
    plans = VersionedPlans(m=3, other=1)
    plans.fails["m", 3] = PlanCorruptError("broken")
    with kept(plans, is_staying_up=True) as server:
        assert answer(server) == ("2", 2.0)
        assert answer(server, "other") == ("1", 1.0)
        assert not is_ready(server)
        assert not is_ready(server, "m")
        assert is_ready(server, "other")
        assert "version 3 can't be loaded: its plan is damaged" in entry(server)["reason"]
        assert "version 2 stands in" in entry(server)["reason"]
        assert samples(server, "edge_runtime_model_standing") == {'{model="m",state="stood in"} 1'}
        plans.serve("m", 4)
        server.reload()
        assert answer(server) == ("4", 4.0)
        assert is_ready(server)


def test_a_model_with_nothing_to_stand_in_is_absent_and_says_why_while_others_are_served(kept) -> None:
    plans = VersionedPlans(m=1, other=1)
    plans.fails["m", 1] = PlanCorruptError("broken")
    with kept(plans, is_staying_up=True) as server:
        for method, path in (("GET", "/v2/models/m/ready"), ("GET", "/v2/models/m"), ("POST", "/v2/models/m/infer")):
            refused = server.ask(method, path, ONES if method == "POST" else b"")
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            assert "version 1 can't be loaded: its plan is damaged" in refused.json["error"]
        assert answer(server, "other") == ("1", 1.0)
        assert not is_ready(server)
        assert (entry(server)["state"], entry(server)["version"]) == ("UNAVAILABLE", "1")
        plans.serve("m", 2)
        server.reload()
        assert answer(server) == ("2", 2.0)
        assert is_ready(server)


def test_what_is_served_isnt_followed_for_its_staying_up_alone(kept) -> None:
    plans = VersionedPlans(m=1)
    with kept(plans, is_staying_up=True) as server:
        plans.serve("m", 2)
        server.reload()
        assert answer(server) == ("1", 1.0)


def test_a_device_that_comes_up_late_is_waited_for(kept) -> None:
    plans = VersionedPlans(m=1)
    plans.fails["m", 1] = BackendUnavailableError("no GPU")
    with kept(plans, is_staying_up=True) as server:
        server.reload()
        assert "no library or device" in server.ask("GET", "/v2/models/m/ready").json["error"]
        del plans.fails["m", 1]
        server.reload()
        assert answer(server) == ("1", 1.0)
        assert is_ready(server)


@pytest.mark.parametrize("error", [PlanTargetError("sm_87"), PlanCorruptError("broken")])
def test_a_plan_for_another_board_or_a_damaged_one_is_asked_for_anew_and_the_progress_is_told(
    kept, tmp_path, error
) -> None:
    plans, said = VersionedPlans(m=1), {"m": "builds fp16, 40 %"}
    plans.fails["m", 1] = error
    rebuilds = Rebuilds(tmp_path, lambda name: said[name])
    with kept(plans, is_staying_up=True, rebuilds=rebuilds) as server:
        assert [path.name for path in tmp_path.iterdir()] == ["m"]
        server.reload()
        assert "40 %" in server.ask("GET", "/v2/health/ready").json["error"]
        plans.serve("m", 2)
        server.reload()
        assert answer(server) == ("2", 2.0)
        assert is_ready(server)


def test_a_plan_that_nobody_trusts_isnt_asked_for_anew(kept, tmp_path) -> None:
    plans = VersionedPlans(m=1)
    plans.fails["m", 1] = PlanUntrustedError("not signed")
    with kept(plans, is_staying_up=True, rebuilds=Rebuilds(tmp_path, str)):
        assert list(tmp_path.iterdir()) == []


def test_what_an_administrator_unloaded_stays_so_until_it_is_loaded(kept) -> None:
    plans = VersionedPlans(m=1)
    with kept(plans, is_following=True) as server:
        assert server.ask("POST", "/v2/repository/models/m/unload").status == 200
        plans.serve("m", 2)
        server.reload()
        assert server.ask("GET", "/v2/models/m").status == 404
        assert server.ask("POST", "/v2/repository/models/m/load").status == 200
        assert answer(server) == ("2", 2.0)


def test_clients_may_neither_load_nor_unload_what_the_server_keeps_by_itself(kept) -> None:
    with kept(VersionedPlans(m=1), is_following=True, is_open=False) as server:
        for verb in ("load", "unload"):
            assert server.ask("POST", f"/v2/repository/models/m/{verb}").status == 403


def test_a_server_that_is_stopped_while_it_swaps_ends_in_time(kept) -> None:
    plans = VersionedPlans(m=1)
    goes_on, has_begun = threading.Event(), threading.Event()

    def slowly(name: str) -> None:
        has_begun.set()
        assert goes_on.wait(20)

    with kept(plans, is_following=True, interval_s=0.01) as server:
        plans.before = slowly
        plans.serve("m", 2)
        assert has_begun.wait(10)
        assert answer(server) == ("1", 1.0)
        server.signal()
        server.thread.join(10)
        assert server.outcome == [True]
        goes_on.set()


def test_a_gpu_that_is_lost_while_a_version_is_loaded_ends_the_server(kept) -> None:
    plans = VersionedPlans(m=1)
    plans.fails["m", 2] = DeviceLostError("an illegal memory access")
    with kept(plans, is_following=True, is_staying_up=True, interval_s=0.01) as server:
        plans.serve("m", 2)
        server.thread.join(20)
        assert server.outcome == [False]


def test_a_store_that_cant_be_read_is_looked_at_again(kept, logged) -> None:
    plans = VersionedPlans(m=1)
    with kept(plans, is_following=True) as server:
        stamps = plans.stamps

        def broken() -> Any:
            raise EdgeRuntimeError("I/O error")

        plans.stamps = broken  # type: ignore[method-assign]
        server.reload()
        plans.stamps = stamps  # type: ignore[method-assign]
        plans.serve("m", 2)
        server.reload()
        assert answer(server) == ("2", 2.0)
    assert any("I/O error" in line for line in logged())


def test_an_answer_is_bit_for_bit_that_of_the_version_it_names(kept, good_head) -> None:
    plans, row = VersionedPlans(m=7), np.array([[1, 2, 3, 4]], np.float32)
    with kept(plans) as server:
        reply = server.infer("m", good_head(), row.tobytes())
    assert (reply.json["model_version"], reply.json["outputs"][0]["data"]) == ("7", (row[0] * 7).tolist())


def test_the_live_page_is_told_what_is_amiss_and_what_models_need(kept) -> None:
    plans = VersionedPlans(m=1, gone=1)
    plans.fails.update({("m", 2): PlanCorruptError("broken"), ("gone", 1): PlanCorruptError("broken")})
    with kept(plans, is_following=True, is_staying_up=True) as server:
        plans.serve("m", 2)
        server.reload()
        found = server.ask("GET", "/live").json
    assert found["server"]["problem"].startswith("model gone: version 1 can't be loaded")
    assert found["server"]["memory"] == {"needed_nbytes": 1, "reserve_nbytes": 0, "budget_nbytes": None}
    (model,) = found["models"]
    assert model["remark"].endswith("version 1 serves on")
    assert (model["memory_nbytes"], model["memory_is_measured"], model["state"]) == (1, False, "ready")

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge_runtime.errors import ServerUnavailableError
from edge_runtime.server.grpc_methods import GrpcMethods
from edge_runtime.server.models import ModelTable
from edge_runtime.server.region_access import NO_REGIONS
from edge_runtime.server.routes import HttpRoutes
from edge_runtime.wire.messages import message


@pytest.fixture
def table() -> ModelTable:
    models: Any = [SimpleNamespace(name=name, version="1") for name in ("a", "b")]
    table = ModelTable(models)
    table.is_ready = True
    return table


def http(table: ModelTable, path: str) -> Any:
    answering: Any = HttpRoutes(table).find("GET", path)
    return answering(b"")


def grpc(table: ModelTable, path: str, request: Any) -> bytes:
    answer: Any = GrpcMethods(table, NO_REGIONS).by_path[path](request.SerializeToString(), lambda: None)
    return answer


def test_a_server_without_hindrances_is_ready(table: ModelTable) -> None:
    assert http(table, "/v2/health/ready").status == 200
    assert http(table, "/v2/models/a/ready").status == 200
    assert [entry["state"] for entry in table.index(is_ready_only=True)] == ["READY", "READY"]


def test_what_hinders_one_model_leaves_the_other_ready(table: ModelTable) -> None:
    table.hindrances["a", "golden run"] = "its last golden run was wrong"
    with pytest.raises(ServerUnavailableError, match="model a: its last golden run was wrong"):
        http(table, "/v2/health/ready")
    with pytest.raises(ServerUnavailableError):
        http(table, "/v2/models/a/ready")
    assert http(table, "/v2/models/b/ready").status == 200
    assert [entry["name"] for entry in table.index(is_ready_only=True)] == ["b"]
    assert table.index(is_ready_only=False)[0]["reason"] == "model a: its last golden run was wrong"


def test_what_hinders_the_server_hinders_all(table: ModelTable) -> None:
    table.hindrances["", "trust"] = "the trust folder is empty"
    assert table.problem("b") == "the trust folder is empty"


def test_a_hindered_server_takes_inferences(table: ModelTable) -> None:
    table.hindrances["a", "golden run"] = "its last golden run was wrong"
    refused: Any = SimpleNamespace(statistics=None)
    table.check_admission(refused)


def test_grpc_tells_the_same(table: ModelTable) -> None:
    service = "/inference.GRPCInferenceService"
    ready, model = f"{service}/ServerReady", f"{service}/ModelReady"
    asked = message("inference.ModelReadyRequest")(name="a")
    health = message("grpc.health.v1.HealthCheckRequest")()
    before = [
        grpc(table, ready, health),
        grpc(table, model, asked),
        grpc(table, "/grpc.health.v1.Health/Check", health),
    ]
    assert before == [b"\x08\x01"] * 3
    table.hindrances["a", "golden run"] = "wrong"
    after = [grpc(table, ready, health), grpc(table, model, asked), grpc(table, "/grpc.health.v1.Health/Check", health)]
    assert after == [b"", b"", b"\x08\x02"]

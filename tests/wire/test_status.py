from __future__ import annotations

import pytest

from edge_runtime import errors
from edge_runtime.wire.status import public_text, status_of


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InvalidRequestError, (400, "INVALID_ARGUMENT")),
        (errors.UnknownNameError, (404, "NOT_FOUND")),
        (errors.TooLargeError, (413, "RESOURCE_EXHAUSTED")),
        (errors.NameTakenError, (400, "ALREADY_EXISTS")),
        (errors.TooManyError, (429, "RESOURCE_EXHAUSTED")),
        (errors.UnsupportedError, (501, "UNIMPLEMENTED")),
        (errors.NotJsonError, (422, "INVALID_ARGUMENT")),
        (errors.ServerUnavailableError, (503, "UNAVAILABLE")),
        (errors.QueueFullError, (503, "RESOURCE_EXHAUSTED")),
        (errors.BackendError, (500, "INTERNAL")),
        (errors.EdgeRuntimeError, (500, "INTERNAL")),
    ],
)
def test_each_error_has_one_http_status_and_one_grpc_code(kind: type, status: tuple[int, str]) -> None:
    assert status_of(kind("x")) == status


def test_a_clients_mistake_is_never_the_servers() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.RequestError)]
    assert all(400 <= status_of(kind("x"))[0] < 500 for kind in kinds if kind is not errors.RequestError)


def test_only_mistakes_of_the_client_are_told_in_full() -> None:
    assert public_text(errors.InvalidRequestError("shape")) == "shape"
    assert "/root" not in public_text(errors.BackendError("failed at /root/x"))

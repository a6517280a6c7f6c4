"""Which HTTP status and gRPC code an error is answered with. A client's mistake is never 5xx or INTERNAL."""

from __future__ import annotations

from edge_runtime.errors import (
    DeadlineExpiredError,
    DeadlineRefusedError,
    EdgeRuntimeError,
    InvalidRequestError,
    NameTakenError,
    NotJsonError,
    PermissionDeniedError,
    QueueFullError,
    ServerUnavailableError,
    TooLargeError,
    TooManyError,
    UnauthenticatedError,
    UnknownNameError,
    UnsupportedError,
)

_STATUS: dict[type[EdgeRuntimeError], tuple[int, str]] = {
    InvalidRequestError: (400, "INVALID_ARGUMENT"),
    UnauthenticatedError: (401, "UNAUTHENTICATED"),
    PermissionDeniedError: (403, "PERMISSION_DENIED"),
    NotJsonError: (422, "INVALID_ARGUMENT"),
    UnknownNameError: (404, "NOT_FOUND"),
    NameTakenError: (400, "ALREADY_EXISTS"),
    TooManyError: (429, "RESOURCE_EXHAUSTED"),
    TooLargeError: (413, "RESOURCE_EXHAUSTED"),
    UnsupportedError: (501, "UNIMPLEMENTED"),
    QueueFullError: (503, "RESOURCE_EXHAUSTED"),
    DeadlineRefusedError: (503, "RESOURCE_EXHAUSTED"),
    DeadlineExpiredError: (503, "DEADLINE_EXCEEDED"),
    ServerUnavailableError: (503, "UNAVAILABLE"),
}
INTERNAL = (500, "INTERNAL")


def status_of(error: EdgeRuntimeError) -> tuple[int, str]:
    """HTTP status and gRPC code name; 500 and INTERNAL for what isn't the client's doing."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), INTERNAL)


def public_text(error: EdgeRuntimeError) -> str:
    """What a client is told: the message of its own mistakes, nothing of our insides."""
    return "the inference failed; see the server's log" if status_of(error) == INTERNAL else str(error)

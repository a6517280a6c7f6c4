"""The access check of our own gRPC transport: by a call's head, before its message is taken in, and by its message."""

from __future__ import annotations

from typing import Any, Callable

from edge_runtime.errors import EdgeRuntimeError, PermissionDeniedError
from edge_runtime.server.access import Access
from edge_runtime.server.http2.call import UnaryCall
from edge_runtime.server.http2.connection import Connection
from edge_runtime.server.http2.head import Fields, Head
from edge_runtime.server.http2.requests import Refusal
from edge_runtime.server.http2.stream_call import Gate
from edge_runtime.server.rights import is_administrative_grpc
from edge_runtime.wire.status import public_text, status_of
from edge_runtime.wire.tokens import sole_authorization


def gates(access: Access) -> Callable[[Any, Connection], Gate]:
    """What makes the gate of a connection, by its transport; the client of its next call is who shows a token."""

    def gate_of(transport: Any, connection: Connection) -> Gate:
        visitor, nameless = access.visitor(transport), connection.client
        connection.visitor = visitor

        def gate(head: Head) -> Refusal | None:
            is_administrative = is_administrative_grpc(head.path)
            if access.tokens is None and not is_administrative:
                return None
            try:
                client = visitor.check(_presented(head.metadata), is_administrative)
            except EdgeRuntimeError as error:
                return status_of(error)[1], public_text(error)
            connection.client = nameless if client is None else client
            return None

        return gate

    return gate_of


def check_administrator(call: UnaryCall) -> None:
    """Passes a call that only its message shows to be for an administrator, by the tokens that hold now.

    Raises:
        UnauthenticatedError: its token was taken back since its head came.
        PermissionDeniedError: it may not administer.
    """
    if call.visitor is None:
        raise PermissionDeniedError("nobody may administer here")
    call.visitor.check(_presented(call.metadata), is_administrative=True)


def _presented(metadata: Fields) -> bytes | None:
    return sole_authorization(value for name, value in metadata if name == b"authorization")

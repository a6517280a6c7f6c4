"""Which requests administer the server, and so need a right of their own; the one list of them.

What a head says is enough but for LogSettings over gRPC, which reads without a message and changes with one. Its head
passes as that of a call which reads, and the right to change is asked for as soon as its message is whole.
"""

from __future__ import annotations

import re
from typing import Sized

from edge_runtime.wire.messages import SERVICE

_HTTP = re.compile(r"v2/(?:repository/models/[^/]+/(?:load|unload)|logging)")
_GRPC = frozenset(f"/{SERVICE}/{name}" for name in ("RepositoryModelLoad", "RepositoryModelUnload"))
_GRPC_BY_MESSAGE = f"/{SERVICE}/LogSettings"


def is_administrative_http(method: str, path: str) -> bool:
    """Whether a request line is for an administrator; `path` as `routes.path_of` gives it."""
    return method == "POST" and _HTTP.fullmatch(path) is not None


def is_forgeable(method: str, path: str, has_origin: bool) -> bool:
    """Whether a request changes something that outlives it, and is sent by a browser on behalf of some web page.

    Browsers send Origin with every POST, and gRPC isn't spoken by pages.
    """
    changes = is_administrative_http(method, path) or (method == "POST" and path.startswith("v2/systemsharedmemory"))
    return has_origin and changes


def is_administrative_grpc(path: str) -> bool:
    """Whether a method, by its full path, is for an administrator whatever the message is."""
    return path in _GRPC


def is_administrative_message(path: str, message: Sized) -> bool:
    """Whether a call that passed by its head is for an administrator by its serialized message.

    Of LogSettings, any but the empty one is: that is known before it is parsed, and so holds for what isn't settings.
    """
    return path == _GRPC_BY_MESSAGE and len(message) > 0

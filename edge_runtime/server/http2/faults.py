"""What a client did wrong, as HTTP/2 and gRPC name it."""

from __future__ import annotations

from edge_runtime.errors import RequestError

NO_ERROR = 0
PROTOCOL_ERROR = 1
INTERNAL_ERROR = 2
FLOW_CONTROL_ERROR = 3
STREAM_CLOSED = 5
FRAME_SIZE_ERROR = 6
REFUSED_STREAM = 7
CANCEL = 8
COMPRESSION_ERROR = 9
ENHANCE_YOUR_CALM = 11


class Http2Error(RequestError):
    """A connection that can't go on; `code` is the one of its GOAWAY."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class CallRefusedError(RequestError):
    """A call that is refused with a gRPC status, such as INVALID_ARGUMENT; the connection goes on."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
